#!/usr/bin/env bash
# The tutorial, from nothing to a sharded, read-split and mirrored Redis, in one command.
#
#   redis-cli ──► redplane 127.0.10.1:6379 ──► Redis Cluster: three masters, three replicas (127.0.0.1:7001 to 7006)
#                    ▲            └──────────► mirror 127.0.0.1:7010: a copy of every write
#                    └─ xDS ─ redplane-control 127.0.0.1:15010 ◄── a copy of istio/*.yaml
#
# Installs what is missing (Rust, Redis, a C compiler with make), builds, starts all this, plays five steps with redis-cli and
# checks what each one did on the Redis nodes themselves. Everything it writes is in one temporary folder, and
# everything it starts ends with it, unless --keep says otherwise. Linux only: it needs the whole of 127.0.0.0/8.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
unset REDISCLI_AUTH

readonly VIP=127.0.10.1
readonly NODES=(7001 7002 7003 7004 7005 7006)
readonly MIRROR=7010
readonly CONTROL=127.0.0.1:15010
readonly ADMIN=127.0.0.1:15000
readonly KEYS=(a b c d e f g h)
# What https://sh.rustup.rs answers, from the host that the toolchain comes from as well.
readonly RUSTUP=https://static.rust-lang.org/rustup/rustup-init.sh
readonly FILTER=envoyfilter-redis-proxy.yaml

KEEP=no
BUILD=yes
PROFILE=release
STEP='start'
REPORTED=no
RUN=''           # the temporary folder
declare -A PIDS  # what was started, by name
declare -A ROLES # master or slave, by port, as Redis says it
declare -A GETS  # how many GETs each node answered, by port

usage() {
  cat <<'END'
Plays the tutorial: a real Redis Cluster and a mirror behind redplane, configured by Istio's EnvoyFilters.

usage: examples/quickstart/run.sh [options]
  --keep           leave everything running at the end, for trying out by hand (also when a step fails)
  --no-build       take the programs that are built already
  --profile NAME   release (the default) or dev, which builds faster and serves slower
  --help           this text
END
}

parse_options() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --keep) KEEP=yes ;;
      --no-build) BUILD=no ;;
      --profile) PROFILE="${2:-}"; shift ;;
      --profile=*) PROFILE="${1#*=}" ;;
      --help | -h) usage; exit 0 ;;
      *) usage >&2; die "unknown option $1" ;;
    esac
    shift || die "--profile needs a name: release or dev"
  done
  case "$PROFILE" in release | dev) ;; *) die "--profile is release or dev, not '$PROFILE'" ;; esac
}

# ---- what it says ---------------------------------------------------------------------------------------------------

step() { STEP="$1"; printf '\n== %s\n' "$1"; all_alive; }
say() { printf '   %s\n' "$*"; }

# Ends before anything was started.
die() { REPORTED=yes; printf '!! %s\n' "$*" >&2; exit 1; }

# Ends a step that went wrong: what was expected, what was seen, and the end of each log.
fail() {
  REPORTED=yes
  printf '\n!! FAILED in step: %s\n!!   expected: %s\n!!   seen:     %s\n' "$STEP" "$1" "$2" >&2
  show_logs >&2
  exit 1
}

# check WHAT EXPECTED SEEN
check() {
  [ "$2" = "$3" ] || fail "$1: $2" "$3"
  say "ok: $1: $3"
}

show_logs() {
  local name log
  for name in "${!PIDS[@]}"; do runs "$name" || printf -- '-- %s is not running any more\n' "$name"; done
  for log in "$RUN"/*.log; do
    [ -s "$log" ] || continue
    printf -- '-- the end of %s\n' "${log##*/}"
    case "$log" in */redis-*) tail -n 2 "$log" ;; *) tail -n 12 "$log" ;; esac
  done
}

# ---- what it needs --------------------------------------------------------------------------------------------------

apt_install() {
  command -v apt-get >/dev/null || die "missing: $*. Install it and run this again; there is no apt-get here."
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "missing: $*. Install it as root and run this again; there is no sudo here."
    root=(sudo)
  fi
  say "installing $*"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
    || die "apt-get could not install: $*"
}

install_system() {
  local missing=()
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v redis-cli >/dev/null || missing+=(redis-tools)
  command -v curl >/dev/null || missing+=(curl)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  if [ "$BUILD" = yes ]; then
    { command -v cc && command -v make; } >/dev/null || missing+=(build-essential)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
  fi
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
  say "$(redis-server --version | cut -d' ' -f1-3)"
}

toolchain() { sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml; }

# A cargo that is no rustup's serves as well when it is new enough.
cargo_is_new_enough() {
  local have
  have="$(cargo --version 2>/dev/null | cut -d' ' -f2)" || return 1
  [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$(toolchain)" "$have" | sort -V | head -n 1)" = "$(toolchain)" ]
}

install_rust() {
  # Where rustup puts it, when a shell's profile has not been read.
  [ ! -d "$HOME/.cargo/bin" ] || export PATH="$HOME/.cargo/bin:$PATH"
  command -v rustup >/dev/null || cargo_is_new_enough || install_rustup
  if command -v rustup >/dev/null && ! rustup run "$(toolchain)" cargo --version >/dev/null 2>&1; then
    say "installing Rust $(toolchain)"
    rustup toolchain install "$(toolchain)" --profile minimal \
      || die "Rust $(toolchain), pinned in rust-toolchain.toml, could not be installed."
  fi
  say "$(cargo --version)"
}

# Debian 13 and Ubuntu 24.04 package rustup; what older releases package is only a compiler, too old for us.
install_rustup() {
  if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
    apt_install rustup
    return
  fi
  say 'installing rustup by its own installer'
  curl --proto '=https' --tlsv1.2 -sSf "$RUSTUP" | sh -s -- -y --profile minimal --default-toolchain none \
    || die "Rust is missing and rustup could not be fetched. Install Rust $(toolchain) and run this again."
  export PATH="$HOME/.cargo/bin:$PATH"
}

programs() {
  local folder="$PROFILE"
  [ "$PROFILE" = release ] || folder=debug
  echo "${CARGO_TARGET_DIR:-target}/$folder"
}

build() {
  if [ "$BUILD" = yes ]; then
    install_rust
    say "building redplane and redplane-control ($PROFILE); the first time takes minutes"
    cargo build --locked --profile "$PROFILE" --bin redplane --bin redplane-control || die 'the build has failed'
  fi
  local program
  for program in redplane redplane-control; do
    [ -x "$(programs)/$program" ] || die "$(programs)/$program is not there: run this without --no-build"
  done
}

listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

check_ports() {
  local taken=() place
  # A cluster node has a second port, 10000 above, on which nodes talk to each other.
  for place in "${NODES[@]/#/127.0.0.1:}" "${NODES[@]/#/127.0.0.1:1}" "127.0.0.1:$MIRROR" "$CONTROL" "$ADMIN" \
    "$VIP:6379" 127.0.10.2:6379; do
    ! listens "${place%:*}" "${place#*:}" || taken+=("$place")
  done
  [ ${#taken[@]} -eq 0 ] \
    || die "already in use: ${taken[*]}. Is a quickstart still running (--keep)? Stop what listens there and run this again."
}

# ---- what it starts -------------------------------------------------------------------------------------------------

# start NAME COMMAND...: in a session of its own, so that Ctrl-C reaches only this script, which then cleans up.
start() {
  local name="$1"
  shift
  setsid "$@" </dev/null >"$RUN/$name.log" 2>&1 &
  PIDS[$name]=$!
  disown
}

runs() { kill -0 "${PIDS[$1]}" 2>/dev/null; }

all_alive() {
  local name
  for name in "${!PIDS[@]}"; do runs "$name" || fail "$name runs (process ${PIDS[$name]})" 'it has ended'; done
}

# await WHAT COMMAND...: until the command succeeds, at most 30 seconds.
await() {
  local what="$1" end=$((SECONDS + 30))
  shift
  until "$@"; do
    all_alive
    [ "$SECONDS" -lt "$end" ] || fail "$what within 30 seconds" 'it did not come'
    sleep 0.1
  done
}

start_redis() {
  local port="$1"
  shift
  mkdir "$RUN/$port"
  start "redis-$port" redis-server --port "$port" --bind 127.0.0.1 --dir "$RUN/$port" --save '' --appendonly no \
    --repl-diskless-sync-delay 0 "$@"
}

start_cluster() {
  local port
  for port in "${NODES[@]}"; do
    # A replica that has not yet been pinged by its master is not listed in CLUSTER SLOTS.
    start_redis "$port" --cluster-enabled yes --cluster-node-timeout 5000 --repl-ping-replica-period 1
  done
  start_redis "$MIRROR"
  for port in "${NODES[@]}" "$MIRROR"; do await "Redis answers on $port" answers 127.0.0.1 "$port"; done
  redis-cli --cluster create "${NODES[@]/#/127.0.0.1:}" --cluster-replicas 1 --cluster-yes >"$RUN/create.log" 2>&1 \
    || fail 'redis-cli --cluster create makes a cluster' "an error, in create.log"
  for port in "${NODES[@]}"; do
    await "node $port knows three masters and three replicas" cluster_is_whole "$port"
    ROLES[$port]="$(node "$port" role | sed -n 1p)"
  done
  rm "$RUN/create.log"
  say "Redis Cluster: masters $(ports_of master), replicas $(ports_of slave); mirror $MIRROR"
}

answers() { [ "$(redis-cli -h "$1" -p "$2" ping 2>/dev/null)" = PONG ]; }

cluster_is_whole() {
  node "$1" cluster info | grep -q '^cluster_state:ok' \
    && [ "$(node "$1" cluster slots | grep -cx '700[1-6]')" -eq ${#NODES[@]} ]
}

ports_of() {
  local port ports=()
  for port in "${NODES[@]}"; do [ "${ROLES[$port]}" != "$1" ] || ports+=("$port"); done
  echo "${ports[*]}"
}

start_control() {
  # A copy: the third step edits it.
  cp -r examples/quickstart/istio "$RUN/istio"
  start control "$(programs)/redplane-control" --dir "$RUN/istio" --listen "$CONTROL"
  await "the control plane listens on $CONTROL" listens "${CONTROL%:*}" "${CONTROL#*:}"
  say "control plane: $CONTROL, reading $RUN/istio"
}

start_redplane() {
  start redplane "$(programs)/redplane" -c examples/quickstart/bootstrap.yaml
  await "$ADMIN/ready says LIVE" is_ready
  await "redplane answers on $VIP:6379" answers "$VIP" 6379
  await 'redplane knows the whole cluster' finds_all_nodes
  say "redplane: $VIP:6379, admin pages http://$ADMIN/"
}

# admin PAGE: one admin page; fails on any status but 200.
admin() { curl -sS --fail --globoff --max-time 5 "http://$ADMIN/$1"; }
is_ready() { [ "$(admin ready 2>/dev/null)" = LIVE ]; }
finds_all_nodes() { [ "$(admin clusters | grep -c '^custom-redis-cluster::.*::redis_role::')" -eq ${#NODES[@]} ]; }

# stat_of NAME: a counter or gauge; a name that is not there is no number.
stat_of() { admin stats | sed -n "s/^$1: //p"; }

# ---- the tutorial ---------------------------------------------------------------------------------------------------

# One node of the cluster, or the mirror, asked directly; and redplane, as an application asks it.
node() { redis-cli -h 127.0.0.1 -p "$@"; }
redis() { redis-cli -h "$VIP" -p 6379 "$@"; }

# calls PORT COMMAND: how often a node has run a command since it started.
calls() {
  local calls
  calls="$(node "$1" info commandstats | sed -n "s/^cmdstat_$2:calls=\([0-9]*\),.*/\1/p")"
  echo "${calls:-0}"
}

# count_gets COMMAND...: runs the command and counts into GETS what it made each node do.
count_gets() {
  local port
  for port in "${NODES[@]}"; do GETS[$port]="$(calls "$port" get)"; done
  "$@"
  for port in "${NODES[@]}"; do GETS[$port]=$(($(calls "$port" get) - GETS[$port])); done
  say "GETs seen by masters: $(gets_of master) ($(sum_gets master) in all)"
  say "GETs seen by replicas: $(gets_of slave) ($(sum_gets slave) in all)"
}

gets_of() { for port in $(ports_of "$1"); do printf '%s:%s ' "$port" "${GETS[$port]}"; done; }
sum_gets() { local sum=0; for port in $(ports_of "$1"); do sum=$((sum + GETS[$port])); done; echo "$sum"; }

set_all() {
  local key answer
  for key in "${KEYS[@]}"; do
    answer="$(redis set "$key" "$1-$key")"
    [ "$answer" = OK ] || fail "SET $key: OK" "$answer"
  done
}

get_all() {
  local key value
  for key in "${KEYS[@]}"; do
    value="$(redis get "$key")"
    [ "$value" = "$1-$key" ] || fail "GET $key: $1-$key" "$value"
  done
}

# The master that the cluster itself names as owner of a slot.
owner_of() {
  node 7001 cluster nodes | awk -v slot="$1" '$3 ~ /master/ {
    split($2, address, /[:@]/)
    for (i = 9; i <= NF; i++) {
      n = split($i, range, "-")
      if (slot >= range[1] + 0 && slot <= range[n] + 0) print address[2]
    }
  }'
}

# The masters that really have a key. KEYS looks only into the node that is asked, and is never redirected.
holders_of() {
  local port
  for port in $(ports_of master); do [ -z "$(node "$port" keys "$1")" ] || echo "$port"; done
}

step_shards() {
  step '1. Keys a to h are set, and land on the shard of their slot'
  set_all first
  local key slot owner holder
  for key in "${KEYS[@]}"; do
    slot="$(node 7001 cluster keyslot "$key")"
    owner="$(owner_of "$slot")"
    holder="$(holders_of "$key")"
    [ "$holder" = "$owner" ] || fail "key $key (slot $slot) is on $owner" "on ${holder:-no master}"
    say "key $key: slot $slot belongs to $owner, found on $holder"
  done
  check 'shards that have keys' 3 "$(for key in "${KEYS[@]}"; do holders_of "$key"; done | sort -u | wc -l)"
}

replicas_have_all() {
  local port sum=0
  for port in $(ports_of slave); do sum=$((sum + $(node "$port" dbsize))); done
  [ "$sum" -eq ${#KEYS[@]} ]
}

step_replicas() {
  step '2. Reads go to replicas only (read_policy: REPLICA)'
  await 'all keys have reached the replicas' replicas_have_all
  count_gets get_all first
  check 'GETs on masters' 0 "$(sum_gets master)"
  check 'GETs on replicas' ${#KEYS[@]} "$(sum_gets slave)"
}

# A bare socket instead of redis-cli, which would quietly connect again.
open_client() { exec 9<>"/dev/tcp/$VIP/6379"; }
close_client() { exec 9>&-; }

get_all_on_open_client() {
  local key length value
  for key in "${KEYS[@]}"; do
    printf 'GET %s\r\n' "$key" >&9 2>/dev/null || fail 'the client stays connected' 'the connection was closed'
    { read -r -t 5 -u 9 length && read -r -t 5 -u 9 value; } || fail 'an answer on the open connection' 'none'
    [ "${value%$'\r'}" = "$1-$key" ] || fail "GET $key on the open connection: $1-$key" "$length $value"
  done
}

lds_updates_exceed() { [ "$(stat_of listener_manager.lds.update_success)" -gt "$1" ]; }

step_edit() {
  step '3. An edit of the EnvoyFilter moves reads to masters, under a client that stays connected'
  local updates accepted
  open_client
  count_gets get_all_on_open_client first
  check 'GETs on masters before the edit' 0 "$(sum_gets master)"
  updates="$(stat_of listener_manager.lds.update_success)"
  accepted="$(stat_of "listener.${VIP}_6379.downstream_cx_total")"
  sed -i 's/read_policy: REPLICA/read_policy: MASTER/' "$RUN/istio/$FILTER"
  say "edited: $(diff examples/quickstart/istio/$FILTER "$RUN/istio/$FILTER" | sed -n 's/^[<>] *//p' | paste -sd'>' | sed 's/>/ -> /')"
  await 'the push arrives' lds_updates_exceed "$updates"
  count_gets get_all_on_open_client first
  check 'GETs on masters after the edit' ${#KEYS[@]} "$(sum_gets master)"
  check 'GETs on replicas after the edit' 0 "$(sum_gets slave)"
  check 'connections accepted since the edit' 0 "$(($(stat_of "listener.${VIP}_6379.downstream_cx_total") - accepted))"
  close_client
}

mirror_has_seen() { [ "$(calls "$MIRROR" set)" -ge "$1" ]; }

step_mirror() {
  step '4. The mirror sees every write and no read'
  local writes
  writes="$(calls "$MIRROR" set)"
  get_all first
  set_all second
  await "the mirror sees ${#KEYS[@]} more SETs" mirror_has_seen $((writes + ${#KEYS[@]}))
  check 'SETs on the mirror, for as many sent' ${#KEYS[@]} $(($(calls "$MIRROR" set) - writes))
  check 'key a on the mirror' second-a "$(node "$MIRROR" get a)"
  check 'GETs on the mirror, but for the one just sent' 1 "$(calls "$MIRROR" get)"
}

# shows PAGE PATTERN: the first line of an admin page that matches.
shows() {
  local page line
  page="$(admin "$1")" || fail "/$1 answers" 'an error'
  line="$(grep -m 1 -F -e "$2" <<<"$page")" || fail "/$1 shows $2" 'no such line'
  say "/$1: ${line#"${line%%[! ]*}"}"
}

# moved STAT AT_LEAST
moved() {
  local value
  value="$(stat_of "$1")"
  [ "${value:-0}" -ge "$2" ] || fail "/stats: $1 is $2 or more" "${value:-nothing of that name}"
  say "/stats: $1: $value"
}

step_admin() {
  step '5. The admin pages show both Redis resources, the nodes and the counters'
  shows 'config_dump?resource=dynamic_active_clusters' '"name": "custom-redis-cluster"'
  shows 'config_dump?resource=dynamic_active_clusters' '"name": "envoy.clusters.redis"'
  shows 'config_dump?resource=dynamic_listeners' "\"name\": \"${VIP}_6379\""
  shows 'config_dump?resource=dynamic_listeners' 'redis_proxy.v3.RedisProxy'
  local port role
  for port in "${NODES[@]}"; do
    role=primary
    [ "${ROLES[$port]}" = master ] || role=replica
    shows clusters "custom-redis-cluster::127.0.0.1:$port::redis_role::$role"
  done
  moved redis.redis_stats.downstream_cx_total 1
  moved redis.redis_stats.command.get.success $((4 * ${#KEYS[@]}))
  moved redis.redis_stats.command.set.success $((2 * ${#KEYS[@]}))
  moved cluster.custom-redis-cluster.upstream_rq_total $((6 * ${#KEYS[@]}))
}

# ---- the end --------------------------------------------------------------------------------------------------------

stop_all() {
  local pid end=$((SECONDS + 5))
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${PIDS[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do
      [ "$SECONDS" -lt "$end" ] || kill -KILL "$pid" 2>/dev/null || true
      sleep 0.05
    done
  done
}

# Runs at every end of the script, Ctrl-C and errors that nothing above expected included.
finish() {
  local status=$?
  trap '' INT TERM HUP
  trap - EXIT
  [ "$status" -eq 0 ] || [ "$REPORTED" = yes ] || unexpected_end "$status" >&2
  [ -n "$RUN" ] || exit "$status"
  if [ "$KEEP" = yes ] && [ ${#PIDS[@]} -gt 0 ] && [ "$status" -lt 128 ]; then
    show_how_to_go_on
  else
    stop_all
    rm -rf "$RUN"
  fi
  exit "$status"
}

unexpected_end() {
  if [ "$1" -ge 128 ]; then
    printf '\n!! interrupted in step: %s\n' "$STEP"
  else
    printf '\n!! FAILED in step: %s\n!!   a command ended with status %s\n' "$STEP" "$1"
    [ -z "$RUN" ] || show_logs
  fi
}

show_how_to_go_on() {
  cat <<END

Everything is still running:
  redis-cli -h $VIP                     Redis through redplane
  redis-cli -p 7001 (to 7006, $MIRROR)        a node, or the mirror, directly
  curl http://$ADMIN/help            the admin pages
  $RUN/istio      the EnvoyFilters; what you change there is pushed at once
  $RUN/*.log      the logs
Stop it with:
  kill ${PIDS[*]}; rm -r $RUN
END
}

main() {
  parse_options "$@"
  [ "$(uname -s)" = Linux ] || die 'this needs Linux: elsewhere 127.0.10.1 is no loopback address'
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # A write to a closed connection is an error to report, not an end without words.
  trap : PIPE
  printf '== What is needed\n'
  check_ports
  install_system
  build
  SECONDS=0
  RUN="$(mktemp -d "${TMPDIR:-/tmp}/redplane-quickstart.XXXXXX")"
  step 'Starting Redis, the control plane and redplane'
  start_cluster
  start_control
  start_redplane
  step_shards
  step_replicas
  step_edit
  step_mirror
  step_admin
  STEP='the end'
  printf '\nAll steps passed, %s seconds after the build.\n' "$SECONDS"
}

main "$@"
