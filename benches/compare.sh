#!/usr/bin/env bash
# redplane and Envoy 1.40 beside each other in front of the same real Redis Cluster, in one interleaved run.
#
# Installs the peers, builds redplane in release form, measures, prints the tables and writes them into
# docs/performance.md. `benches/compare.sh --help` lists the flags; docs/performance.md says how to read the tables.
# A benchmark, not a test: it never fails because a machine is slow.
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/peers.sh

install_system
install_envoy
build_redplane
exec "$PYTHON" benches/compare.py --redplane "$REDPLANE" --envoy "$ENVOY" "$@"
