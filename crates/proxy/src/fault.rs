//! Fault injection: errors in place of replies, and replies that come late.
//!
//! Envoy: faults of a command and of all commands are laid end to end by their percentage, and one random number
//! chooses among them. What is answered before dispatch (PING, AUTH and the like) is never faulted.

use redplane_config::redis_proxy::{Fault, FaultKind};
use redplane_redis_flow::request::{Request, Served};
use redplane_telemetry::stats::redis_command;

use crate::engine::Engine;
use crate::local::is_local;

impl Engine {
    /// True when the command was dealt with: answered with a fault, or run by a delay fault, which holds its reply.
    #[cold]
    pub(crate) fn inject_fault(&mut self, key: usize, served: Served, request: &Request<'_>) -> bool {
        if is_local(served) {
            return false;
        }
        let name = match served {
            Served::Known(command) => command.container.as_bytes().to_vec(),
            Served::Custom(_) => request.arg(0).to_ascii_lowercase(),
        };
        let drawn = self.core.shared.random.u32(..1_000_000);
        let filter = &self.core.filters[self.core.clients[key].filter];
        let Some(fault) = choose(&filter.proxy.faults, &name, drawn).cloned() else {
            return false;
        };
        let cells = filter.cells(served.id());
        match fault.kind {
            FaultKind::Delay if fault.delay.is_zero() => false,
            FaultKind::Delay => {
                if let Some(cells) = cells {
                    cells.inc(redis_command::DELAY_FAULT);
                }
                let sequence = self.core.delay_next(key, fault.delay);
                self.serve(key, served, *request);
                self.core.forget_delay(key, sequence);
                true
            }
            FaultKind::Error => {
                if let Some(cells) = cells {
                    cells.inc(redis_command::ERROR_FAULT);
                    cells.inc(redis_command::ERROR);
                }
                self.core.answer_fault(key, fault.delay);
                true
            }
        }
    }
}

/// The fault that a random number (of a million) falls on: those that name the command first, then those for all.
fn choose<'a>(faults: &'a [Fault], name: &[u8], drawn: u32) -> Option<&'a Fault> {
    let named = faults
        .iter()
        .filter(|fault| fault.commands.iter().any(|command| command.as_bytes() == name));
    let general = faults.iter().filter(|fault| fault.commands.is_empty());
    let mut end = 0_u32;
    named.chain(general).find(|fault| {
        end = end.saturating_add(fault.parts_per_million);
        drawn < end
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn faults_lie_end_to_end() {
        let fault = |parts_per_million, commands: &[&str]| Fault {
            kind: FaultKind::Error,
            parts_per_million,
            delay: Duration::ZERO,
            commands: commands.iter().map(|c| (*c).to_owned()).collect(),
        };
        let faults = [fault(200_000, &[]), fault(100_000, &["get"])];
        let chosen = |name: &str, drawn| choose(&faults, name.as_bytes(), drawn).map(|f| f.parts_per_million);
        assert_eq!(chosen("get", 99_999), Some(100_000));
        assert_eq!(chosen("get", 100_000), Some(200_000));
        assert_eq!(chosen("get", 300_000), None);
        assert_eq!(chosen("set", 199_999), Some(200_000));
        assert_eq!(chosen("set", 200_000), None);
    }
}
