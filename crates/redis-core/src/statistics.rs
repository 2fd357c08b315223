//! The names of a filter's statistics: `redis.<stat_prefix>.` and its table of commands.
//!
//! Names are printed as long as somebody holds them. The owner of a listener does, from its creation to its end, so
//! that they stand at 0 before the first client and outlive the last; workers add their own cells while they serve.

use std::sync::{Arc, LazyLock};

use redplane_command::{Command, Local, RequestPolicy};
use redplane_config::listener::{Listener, Terminal};
use redplane_config::redis_proxy::RedisProxy;
use redplane_telemetry::stats::{redis_command, redis_command_micros, redis_proxy};
use redplane_telemetry::{Registry, Scope, Table};

/// The scopes of one filter.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `redis.<stat_prefix>.`
    pub scope: Arc<Scope>,
    /// Its table of commands.
    pub commands: Arc<Table>,
}

impl Statistics {
    /// Registers the names of a filter, or finds them.
    pub fn new(registry: &Registry, proxy: &RedisProxy) -> Self {
        let prefix = format!("redis.{}.", proxy.stat_prefix);
        let schema = if proxy.latency_in_micros {
            &redis_command_micros::SCHEMA
        } else {
            &redis_command::SCHEMA
        };
        Self {
            scope: registry.scope(&prefix, &redis_proxy::SCHEMA),
            commands: registry.table(&format!("{prefix}command."), rows(proxy), schema),
        }
    }

    /// Those of all redis_proxy filters of a listener.
    pub fn of_listener(registry: &Registry, listener: &Listener) -> Vec<Self> {
        let chains = listener.chains.iter().chain(&listener.default_chain);
        chains
            .filter_map(|chain| match &chain.terminal {
                Terminal::Redis(proxy) => Some(Self::new(registry, proxy)),
                _ => None,
            })
            .collect()
    }
}

/// The rows of a filter's table. Thousands of filters without commands of their own share one list.
fn rows(proxy: &RedisProxy) -> Arc<[Box<str>]> {
    static COMMON: LazyLock<Arc<[Box<str>]>> = LazyLock::new(|| {
        let counted = redplane_command::all().iter().filter(|command| has_row(command));
        counted.map(|command| command.name.into()).collect()
    });
    if proxy.custom_commands.is_empty() {
        return Arc::clone(&COMMON);
    }
    let custom = proxy.custom_commands.iter().map(|name| name.as_str().into());
    COMMON.iter().cloned().chain(custom).collect()
}

/// Envoy makes a row for each command that it serves, and none for what it answers before dispatch. Blocking commands,
/// which it does not serve, have rows as well.
fn has_row(command: &Command) -> bool {
    let known = command.about.served_by_envoy || matches!(command.request, RequestPolicy::Blocking(_));
    known && command.name == command.container && !is_answered_first(command)
}

/// Whether a command is counted: subcommands under their container.
pub fn is_counted(command: &Command) -> bool {
    has_row(command)
        || command.about.served_by_envoy && command.name != command.container && command.container != "client"
}

fn is_answered_first(command: &Command) -> bool {
    let first = [Local::Ping, Local::Echo, Local::Time, Local::Auth, Local::Quit];
    command.name == "client"
        || first
            .iter()
            .any(|local| command.request == RequestPolicy::Local(*local))
}
