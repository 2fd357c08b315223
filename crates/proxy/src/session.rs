//! What a client has said of itself: its login, its protocol, its name.

use redplane_command::error;
use redplane_config::redis_proxy::Protocol;
use redplane_redis_flow::core::Core;
use redplane_resp::encode;

/// What HELLO and INFO say of the server's version: the command table is that of Redis 7.
const VERSION: &str = "7.0.15";

pub(crate) fn set_name(core: &mut Core, key: usize, name: &[u8]) {
    if !is_client_name(name) {
        return core.answer(key, error::BAD_CLIENT_NAME);
    }
    core.clients[key].session.name = name.into();
    core.answer(key, b"+OK\r\n");
}

/// HELLO's map.
pub(crate) fn hello_map(core: &Core, key: usize, out: &mut Vec<u8>) {
    let resp3 = core.is_resp3(key);
    encode::map(out, 7, resp3);
    for (name, value) in [("server", "redis"), ("version", VERSION)] {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    }
    encode::bulk(out, b"proto");
    encode::integer(out, if resp3 { 3 } else { 2 });
    encode::bulk(out, b"id");
    encode::integer(out, core.clients[key].session.id as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    }
    encode::bulk(out, b"modules");
    encode::array(out, 0);
}

/// Redis: no blanks, no control characters, nothing beyond ASCII.
pub(crate) fn is_client_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Notes that a client has logged in as a user, empty for the default one; with `None` it has to do so again.
pub(crate) fn log_in(core: &mut Core, key: usize, user: Option<&[u8]>) {
    let session = &mut core.clients[key].session;
    session.logged_in = user.is_some();
    session.user = match user {
        None | Some(b"default") => Box::default(),
        Some(user) => user.into(),
    };
    admit(core, key);
}

/// Decides whether a client may run commands: one test of one flag is all that each command has to pay.
pub(crate) fn admit(core: &mut Core, key: usize) {
    core.clients[key].authenticated = core.clients[key].session.logged_in && !must_greet(core, key);
}

/// Whether the filter is for RESP3 alone and the client has not said HELLO 3 yet.
pub(crate) fn must_greet(core: &Core, key: usize) -> bool {
    let filter = &core.filters[core.clients[key].filter];
    filter.proxy.protocol == Protocol::Resp3 && filter.greeting.protocol == Protocol::Resp2
}
