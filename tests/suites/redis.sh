#!/usr/bin/env bash
# Redis's own test suite, run through redplane: the tests that ship with Redis 7.0 in their external-server mode,
# with redplane before one server (single) or before a cluster of three (cluster).
#
#   tests/suites/redis.sh single|cluster [unit/type/list …]
#
# The sources come from Debian's package (apt-get source), or from REDIS_SOURCE if that names a folder that holds
# them. What cannot pass through a proxy is named, with its reason, in tests/suites/redis.skip; everything else must.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly ROOT="$PWD" MODE="${1:-single}"
readonly WORK="${SUITE_DIR:-$ROOT/target/suites}" REDPLANE="${REDPLANE:-$ROOT/target/debug/redplane}"
readonly UNITS=(
  unit/dump unit/protocol unit/keyspace unit/scan unit/info unit/info-command unit/type/string unit/type/incr
  unit/type/list unit/type/list-2 unit/type/list-3 unit/type/set unit/type/zset unit/type/hash unit/type/stream
  unit/type/stream-cgroups unit/sort unit/expire unit/other unit/multi unit/quit unit/latency-monitor unit/pubsub
  unit/pubsubshard unit/slowlog unit/scripting unit/functions unit/introspection unit/introspection-2 unit/limits
  unit/bitops unit/bitfield unit/geo unit/memefficiency unit/hyperloglog unit/lazyfree unit/wait unit/pause
  unit/querybuf unit/tracking unit/networking unit/violations unit/replybufsize
)
# The first port of a run; it takes five. The cluster's bus has ports 10000 above, below those that the kernel gives away.
readonly PORT="${SUITE_PORT:-$((12000 + RANDOM % 5000 * 2))}"
PIDS=()
RUN="$(mktemp -d)"

die() { printf '!! %s\n' "$*" >&2; exit 2; }

stop() {
  [ ${#PIDS[@]} -eq 0 ] || kill "${PIDS[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$RUN"
}
trap stop EXIT

# The sources, with the installed programs where the suite looks for its own.
fetch() {
  local source="${REDIS_SOURCE:-$WORK/redis}"
  if [ ! -e "$source/runtest" ]; then
    mkdir -p "$WORK/apt/lists/partial" "$WORK/apt/archives/partial"
    echo "deb-src http://deb.debian.org/debian bookworm main" >"$WORK/apt/sources.list"
    local apt=(-o "Dir::Etc::sourcelist=$WORK/apt/sources.list" -o Dir::Etc::sourceparts=-
      -o "Dir::State::lists=$WORK/apt/lists" -o "Dir::Cache=$WORK/apt")
    apt-get "${apt[@]}" -qq update >&2 || die "the package lists of Debian's sources cannot be fetched"
    (cd "$WORK" && apt-get "${apt[@]}" -qq source --download-only redis >&2) || die "no source package of Redis"
    mkdir -p "$source"
    tar -xzf "$WORK"/redis_*.orig.tar.gz -C "$source" --strip-components=1
  fi
  local program
  for program in redis-server redis-cli redis-benchmark; do
    ln -sf "$(command -v "$program")" "$source/src/$program"
  done
  printf '%s\n' "$source"
}

serve() { # port, further flags
  local port="$1" folder="$RUN/$1"
  shift
  mkdir -p "$folder"
  redis-server --port "$port" --dir "$folder" --save '' --logfile "$folder/log" --enable-debug-command yes "$@" &
  PIDS+=($!)
  local tries=0
  until redis-cli -p "$port" ping 2>/dev/null | grep -q PONG; do
    tries=$((tries + 1)) && [ "$tries" -lt 100 ] || die "redis-server does not answer on $port"
    sleep 0.1
  done
}

upstream() {
  if [ "$MODE" = single ]; then
    serve "$((PORT + 2))"
    return
  fi
  local nodes=() port
  for port in $((PORT + 2)) $((PORT + 3)) $((PORT + 4)); do
    serve "$port" --cluster-enabled yes
    nodes+=("127.0.0.1:$port")
  done
  redis-cli --cluster create "${nodes[@]}" --cluster-yes >"$RUN/create.log" || die "the cluster does not form"
  until redis-cli -p "$((PORT + 2))" cluster info | grep -q cluster_state:ok; do sleep 0.2; done
}

proxy() {
  local kind='type: STATIC, lb_policy: MAGLEV'
  [ "$MODE" = single ] || kind='lb_policy: CLUSTER_PROVIDED, cluster_type: { name: envoy.clusters.redis }'
  cat >"$RUN/redplane.yaml" <<YAML
admin: { address: { socket_address: { address: 127.0.0.1, port_value: $((PORT + 1)) } } }
static_resources:
  listeners:
  - name: redis
    address: { socket_address: { address: 127.0.0.1, port_value: $PORT } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: redis
          settings: { op_timeout: 60s, enable_redirection: true }
          prefix_routes: { catch_all_route: { cluster: redis } }
  clusters:
  - { name: redis, connect_timeout: 1s, $kind, load_assignment: { cluster_name: redis, endpoints: [ { lb_endpoints: [
      { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $((PORT + 2)) } } } } ] } ] } }
YAML
  "$REDPLANE" -c "$RUN/redplane.yaml" --concurrency "${SUITE_WORKERS:-1}" >"$RUN/redplane.log" 2>&1 &
  PIDS+=($!)
  local tries=0
  until redis-cli -p "$PORT" get x >/dev/null 2>&1 && [ -z "$(redis-cli -p "$PORT" get x)" ]; do
    tries=$((tries + 1)) && [ "$tries" -lt 100 ] || die "redplane does not serve: $(tail -3 "$RUN/redplane.log")"
    sleep 0.1
  done
}

# The tests of redis.skip that do not run in this mode, one name a line.
skipped() { awk -F'\t' -v mode="$MODE" '/^[^#]/ && ($1 == mode || $1 == "both") { print $2 }' tests/suites/redis.skip; }

main() {
  case "$MODE" in single | cluster) ;; *) die "single or cluster, not $MODE" ;; esac
  [ -x "$REDPLANE" ] || die "no redplane at $REDPLANE: run cargo build, or set REDPLANE"
  command -v tclsh >/dev/null || die "tclsh is needed (apt-get install tcl)"
  local source flags=(--durable --singledb --timeout 120) units=("${@:2}") unit failed=0
  source="$(fetch)"
  [ "$MODE" = single ] || flags+=(--cluster-mode)
  [ ${#units[@]} -gt 0 ] || units=("${UNITS[@]}")
  skipped >"$RUN/skip"
  upstream
  proxy
  cd "$source"
  for unit in "${units[@]}"; do
    timeout 600 ./runtest --host 127.0.0.1 --port "$PORT" --baseport "$((PORT + 100))" "${flags[@]}" \
      --skipfile "$RUN/skip" --single "$unit" \
      --tags '-needs:debug -needs:pfdebug -needs:repl -needs:save -needs:config-maxmemory' 2>&1 |
      sed 's/\x1b\[[0-9;]*m//g' >"$RUN/out" || true
    grep -q 'All tests passed\|The following tests failed' "$RUN/out" || echo '[err]: the unit did not end' >>"$RUN/out"
    printf '%-26s %4d passed %3d failed\n' "$unit" "$(grep -c '^\[ok\]' "$RUN/out" || true)" \
      "$(grep -c '^\[err\]\|^\[exception\]\|^\[TIMEOUT\]' "$RUN/out" || true)"
    grep -A3 '^\[err\]\|^\[exception\]\|^\[TIMEOUT\]' "$RUN/out" && failed=1
    kill -0 "${PIDS[@]}" || die "a server or redplane has ended: $(tail -3 "$RUN/redplane.log")"
    [ -z "${SUITE_KEEP:-}" ] || cp "$RUN/out" "$SUITE_KEEP/$MODE-${unit//\//-}.out"
  done
  return "$failed"
}

main "$@"
