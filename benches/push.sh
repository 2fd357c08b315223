#!/usr/bin/env bash
# What configuration costs redplane and Envoy 1.40: N clusters and listeners from a static bootstrap and over ADS, and
# one changed cluster among N.
#
# Installs Envoy, builds redplane and the ADS server (crates/control, example `fleet`), measures, prints the tables and
# writes them into docs/performance.md. `benches/push.sh --help` lists the flags.
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/peers.sh

build_fleet() {
  if [ -z "${REDPLANE_FLEET:-}" ]; then
    say "building the ADS server (release)"
    cargo build --release --locked -p redplane-control --example fleet >&2
    REDPLANE_FLEET="${CARGO_TARGET_DIR:-target}/release/examples/fleet"
  fi
}

install_system
install_envoy
build_redplane
build_fleet
exec "$PYTHON" benches/push.py --redplane "$REDPLANE" --envoy "$ENVOY" --fleet "$REDPLANE_FLEET" "$@"
