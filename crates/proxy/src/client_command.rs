//! CLIENT: what a client says about itself and asks about others.
//!
//! Everything here belongs to connections of this proxy, not to those behind it. Words of errors are the server's.

pub(crate) mod listing;

use std::sync::Arc;

use redplane_command::{Command, Local, error};
use redplane_redis_core::client::Session;
use redplane_redis_core::client::muting::ReplyMode;
use redplane_redis_core::filter::ChainName;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_resp::encode;
use redplane_resp::number::integer;

use crate::engine::Engine;
use crate::pause::Paused;
use crate::question::Question;
use crate::selection::{Asking, Selection};
use crate::session::{is_client_name, set_name};

fn chain_of(core: &Core, key: usize) -> ChainName {
    core.filters[core.clients[key].filter].chain_name()
}

fn client_name(core: &mut Core, key: usize) {
    let name = std::mem::take(&mut core.clients[key].session.name);
    let resp3 = core.is_resp3(key);
    core.answer_with(key, |out| match name.is_empty() {
        true if resp3 => encode::null(out),
        true => encode::null_bulk(out),
        false => encode::bulk(out, &name),
    });
    core.clients[key].session.name = name;
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER value`; Redis: 7.2.
fn set_library(core: &mut Core, key: usize, attribute: &[u8], value: &[u8]) {
    let is_name = attribute.eq_ignore_ascii_case(b"LIB-NAME");
    if !is_name && !attribute.eq_ignore_ascii_case(b"LIB-VER") {
        let text = [b"ERR Unrecognized option '", attribute, b"'"].concat();
        return core.answer_with(key, |out| encode::error(out, &text));
    }
    let Some(value) = is_client_name(value)
        .then(|| std::str::from_utf8(value).ok())
        .flatten()
    else {
        let reason: &[u8] = b" cannot contain spaces, newlines or special characters.";
        let text = [b"ERR ", attribute, reason].concat();
        return core.answer_with(key, |out| encode::error(out, &text));
    };
    let library = &mut core.clients[key].session.library;
    if is_name {
        library.name = value.into();
    } else {
        library.version = value.into();
    }
    core.answer(key, b"+OK\r\n");
}

/// `CLIENT … ON|OFF`.
fn client_switch(core: &mut Core, key: usize, word: &[u8], set: impl FnOnce(&mut Session, bool)) {
    let on = word.eq_ignore_ascii_case(b"ON");
    if !on && !word.eq_ignore_ascii_case(b"OFF") {
        return core.answer(key, error::SYNTAX);
    }
    set(&mut core.clients[key].session, on);
    core.answer(key, b"+OK\r\n");
}

/// `CLIENT REPLY ON|OFF|SKIP`; only ON is answered.
fn client_reply(core: &mut Core, key: usize, mode: &[u8]) {
    let is = |name: &str| mode.eq_ignore_ascii_case(name.as_bytes());
    let client = &mut core.clients[key];
    if is("ON") {
        client.replies.set_mode(ReplyMode::On);
        core.answer(key, b"+OK\r\n");
    } else if is("OFF") {
        client.replies.set_mode(ReplyMode::Off);
    } else if is("SKIP") {
        if !client.replies.is_mute() {
            client.replies.set_mode(ReplyMode::Skip);
        }
    } else {
        core.answer(key, error::SYNTAX);
    }
}

fn client_misuse(core: &mut Core, key: usize, request: &Request<'_>) {
    let text = [
        b"ERR unknown subcommand or wrong number of arguments for '",
        request.arg(1),
        b"'. Try CLIENT HELP.",
    ]
    .concat();
    core.answer_with(key, |out| encode::error(out, &text));
}

impl Engine {
    /// One of CLIENT's subcommands.
    pub(crate) fn client_command(
        &mut self,
        key: usize,
        local: Local,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        match local {
            Local::ClientId => {
                let id = self.core.clients[key].session.id;
                self.core.answer_with(key, |out| encode::integer(out, id as i64));
            }
            Local::ClientGetName => client_name(&mut self.core, key),
            Local::ClientSetName => set_name(&mut self.core, key, request.arg(2)),
            Local::ClientSetInfo => set_library(&mut self.core, key, request.arg(2), request.arg(3)),
            Local::ClientNoEvict => {
                client_switch(&mut self.core, key, request.arg(2), |session, on| {
                    session.no_evict = on;
                });
            }
            Local::ClientNoTouch => {
                client_switch(&mut self.core, key, request.arg(2), |session, on| {
                    session.no_touch = on;
                });
            }
            Local::ClientInfo => {
                let client = &self.core.clients[key];
                let line = self.client_line(key, client, Asking::new(client, request));
                let resp3 = self.core.is_resp3(key);
                self.core.answer_with(key, |out| encode::text(out, &line, resp3));
            }
            Local::ClientList => match Selection::of_list(request, chain_of(&self.core, key)) {
                Ok(mut selection) => {
                    selection.asking = Asking::new(&self.core.clients[key], request);
                    self.ask_all(key, command, Question::List(Arc::new(selection)));
                }
                Err(line) => self.core.answer(key, &line),
            },
            Local::ClientKill => self.client_kill(key, command, request),
            Local::ClientReply => client_reply(&mut self.core, key, request.arg(2)),
            Local::ClientPause => self.client_pause(key, command, request),
            Local::ClientUnpause => {
                let chain = Arc::new(chain_of(&self.core, key));
                self.unpause_servers(key, command, &chain);
                self.ask_all(key, command, Question::Unpause(chain));
            }
            Local::ClientUnblock => self.client_unblock(key, command, request),
            Local::ClientTracking
            | Local::ClientTrackingInfo
            | Local::ClientCaching
            | Local::ClientGetRedir => {
                if let Some(wanted) =
                    self.tracking
                        .client_tracking(&mut self.core, key, local, command, request)
                {
                    self.ask_all(key, command, Question::Whereabouts(wanted));
                }
            }
            // What a client can do changes nothing for it here; servers ignore what they do not know.
            Local::ClientCapa => self.core.answer(key, b"+OK\r\n"),
            _ => self.core.answer_with(key, |out| {
                error::unknown_command(out, request.arg(0), (1..request.len()).map(|i| request.arg(i)));
            }),
        }
    }

    /// `CLIENT PAUSE milliseconds [WRITE|ALL]`.
    fn client_pause(&mut self, key: usize, command: &'static Command, request: &Request<'_>) {
        let is = |mode: &str| request.arg(3).eq_ignore_ascii_case(mode.as_bytes());
        let what = match request.len() {
            3 => Paused::All,
            4 if is("ALL") => Paused::All,
            4 if is("WRITE") => Paused::Writes,
            4 => {
                return self
                    .core
                    .answer(key, b"-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n");
            }
            _ => return client_misuse(&mut self.core, key, request),
        };
        match integer(request.arg(2)) {
            None => self
                .core
                .answer(key, b"-ERR timeout is not an integer or out of range\r\n"),
            Some(time) => match u64::try_from(time) {
                Ok(time) => {
                    let chain = Arc::new(chain_of(&self.core, key));
                    self.ask_all(key, command, Question::Pause(chain, what, time));
                }
                Err(_) => self.core.answer(key, b"-ERR timeout is negative\r\n"),
            },
        }
    }

    /// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`.
    fn client_unblock(&mut self, key: usize, command: &'static Command, request: &Request<'_>) {
        let is = |reason: &str| request.arg(3).eq_ignore_ascii_case(reason.as_bytes());
        match request.len() {
            3 => {}
            4 if is("TIMEOUT") || is("ERROR") => {}
            4 => {
                return self
                    .core
                    .answer(key, b"-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n");
            }
            _ => return client_misuse(&mut self.core, key, request),
        }
        match integer(request.arg(2)) {
            None => self.core.answer(key, error::NOT_AN_INTEGER),
            Some(id) => {
                let with_error = request.len() == 4 && is("ERROR");
                let chain = Arc::new(chain_of(&self.core, key));
                let question = Question::Unblock(chain, id.cast_unsigned(), with_error);
                self.ask_all(key, command, question);
            }
        }
    }

    fn client_kill(&mut self, key: usize, command: &'static Command, request: &Request<'_>) {
        let client = &self.core.clients[key];
        let auth = self.core.filters[client.filter].proxy.auth.as_ref();
        let is_user = |name: &[u8]| name == b"default" || auth.is_some_and(|auth| auth.may_know(name));
        match Selection::of_kill(request, chain_of(&self.core, key), client.session.id, is_user) {
            Ok(selection) => self.ask_all(key, command, Question::Kill(Arc::new(selection))),
            Err(line) => self.core.answer(key, &line),
        }
    }
}
