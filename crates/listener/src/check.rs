//! Whether listeners could be served, as far as that can be told without opening anything.

use std::collections::HashMap;
use std::sync::Arc;

use redplane_config::Address;
use redplane_config::listener::Listener;
use redplane_telemetry::Registry;
use redplane_telemetry::access_log::{Files, Options};
use redplane_upstream::tls::secrets::Secrets;
use redplane_world::{Preparer, Routes};

/// Looks whether listeners could be served together.
///
/// # Errors
///
/// The name of the listener at fault, and the reason.
pub fn check(listeners: &[Arc<Listener>], secrets: &Secrets) -> Result<(), (String, String)> {
    let registry = Registry::new();
    let files = Arc::new(Files::new(registry.clone(), Options::default()));
    let mut preparer = Preparer::new(registry, files, secrets.clone(), Routes::default());
    let mut taken = HashMap::new();
    for listener in listeners {
        let refuse = |reason| (listener.name.clone(), reason);
        preparer.check(listener).map_err(refuse)?;
        for address in fixed_addresses(listener) {
            if taken.insert(address.clone(), &listener.name).is_some() {
                return Err(refuse(duplicate(&listener.name, address)));
            }
        }
    }
    Ok(())
}

/// The addresses that nobody else can have: those that are bound, and not to a port of the system's choice.
pub(crate) fn fixed_addresses(config: &Listener) -> impl Iterator<Item = &Address> {
    let fixed = |address: &&Address| !matches!(address, Address::Ip(ip) if ip.port() == 0);
    config
        .addresses
        .iter()
        .filter(|_| config.bind_to_port)
        .filter(fixed)
}

/// The refusal of an address that another listener has.
pub(crate) fn duplicate(name: &str, address: &Address) -> String {
    format!("error adding listener: '{name}' has duplicate address '{address}' as existing listener")
}
