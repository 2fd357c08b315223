# Short names for what CI and people run. `just` alone lists them.

[private]
default:
    @just --list

# Everything that CI runs: formatting, lints, documentation, all tests, licences and bans.
check:
    tests/run.sh

# Formats all code.
fmt:
    cargo fmt --all

# Lints all code as CI does.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Runs all tests.
test:
    cargo test --workspace

# Runs the conformance cases; a word chooses those with it in their name or file.
conformance word="":
    REDPLANE_CONFORMANCE={{word}} cargo test --test conformance

# Writes the judges' answers into conformance cases that have none.
conformance-fill:
    REDPLANE_CONFORMANCE=fill cargo test --test conformance

# Licences, bans, sources and known vulnerabilities of what comes from outside.
deny:
    cargo deny check

# The documentation of all crates, as HTML.
doc:
    cargo doc --workspace --no-deps --open

# Redis's own test suite through redplane, before one server (single) or a cluster.
suite mode *units:
    cargo build
    tests/suites/redis.sh {{mode}} {{units}}

# A real Redis Cluster behind redplane, with the tutorial played through.
quickstart *flags:
    examples/quickstart/run.sh {{flags}}

# Traffic beside Envoy, into docs/performance.md; `just bench --quick` only looks.
bench *flags:
    benches/compare.sh {{flags}}

# The cost of configuration beside Envoy, into docs/performance.md.
bench-push *flags:
    benches/push.sh {{flags}}
