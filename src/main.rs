//! `redplane`: an Envoy-compatible, xDS-configured Redis data plane.
//!
//! Here are the flags, the log and the exit code: 0 after SIGTERM, SIGINT or `/quitquitquit`, else 1 with one line on
//! stderr that names the field or the address at fault. Everything else is joined in `server` and decided elsewhere.

mod concurrency;
mod flags;
mod logging;
mod server;

use std::process::ExitCode;

use redplane_reconcile::Bootstrap;

use crate::flags::{Flags, Mode};
use crate::logging::{Log, Pattern};

/// The C library's allocator keeps the pages that the start and every push have needed; this one gives them back.
/// `.cargo/config.toml` says how soon.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let flags = match Flags::read(std::env::args_os()) {
        Ok(flags) => flags,
        Err(error) => {
            // Help is no failure. A closed stderr has nothing to be told.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if flags.version {
        let program = std::env::args().next().unwrap_or_default();
        println!("{program}  version: {}", version());
        return ExitCode::SUCCESS;
    }
    match start(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("redplane: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Revision, version, state, build and TLS library, as Envoy tells them.
pub(crate) fn version() -> String {
    let build = if cfg!(debug_assertions) {
        "DEBUG"
    } else {
        "RELEASE"
    };
    format!("redplane/{}/Clean/{build}/rustls", env!("CARGO_PKG_VERSION"))
}

fn start(flags: &Flags) -> Result<(), String> {
    let bootstrap = Bootstrap::load(&flags.bootstrap())?;
    if flags.mode == Mode::Validate {
        redplane_reconcile::validate(&bootstrap)?;
        let path = flags.config_path.as_ref().map(|path| path.display().to_string());
        for listener in &bootstrap.config.listeners {
            for (chain, reason) in listener.inert_chains() {
                println!(
                    "listener '{}': chain '{}' is not served: {reason}",
                    listener.name, chain.id
                );
            }
        }
        println!("configuration '{}' OK", path.unwrap_or_default());
        return Ok(());
    }
    let given = flags.log_format.as_ref().map(Pattern::new);
    let log = Log::install(flags.log_path.as_deref(), given.clone().unwrap_or_default());
    let log = log.map_err(|error| format!("--log-path: {error}"))?;
    // The flag wins over the bootstrap.
    if let (None, Some(pattern)) = (given, &bootstrap.log) {
        log.set_pattern(Pattern::new(pattern));
    }
    for flag in &flags.unknown {
        tracing::warn!("unknown flag {flag} is ignored");
    }
    for field in &bootstrap.config.unknown {
        tracing::warn!(field, "unknown field in the bootstrap, it has no effect");
    }
    for field in &bootstrap.config.ignored.0 {
        tracing::debug!(field, "accepted without effect");
    }
    server::run(flags, bootstrap, &log)
}
