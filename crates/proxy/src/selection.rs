//! Which clients are meant: the filters of CLIENT LIST and CLIENT KILL, read from the request and held against a client.
//!
//! Redis: <https://redis.io/docs/latest/commands/client-kill/>, `client-list/`; words of errors are the server's. MAXAGE
//! is that of 7.4.

use std::net::SocketAddr;

use redplane_command::{CommandId, error};
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::{Client, Session};
use redplane_redis_core::filter::{ChainName, Filter};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_resp::encode;
use redplane_resp::number::integer;
use rustc_hash::FxHashSet;

/// Redis's types of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Pubsub,
    /// Replicas and masters: a proxy has none.
    Server,
}

/// The clients of one filter chain that fit all of what is set.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    chain: ChainName,
    /// Any of these, in ascending order; `None` for all.
    ids: Option<Vec<u64>>,
    /// The same as they were asked for, each once: a line for every mention could be a reply without bounds.
    order: Vec<u64>,
    address: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    kind: Option<Kind>,
    /// Seconds that its connection is at least old.
    age: Option<u64>,
    /// This one is left alone.
    spared: Option<u64>,
    /// `CLIENT KILL address`, which answers OK or an error.
    old_form: bool,
    /// The client that asks for the list.
    pub(super) asking: Asking,
}

impl Kind {
    fn parse(name: &[u8]) -> Result<Self, Vec<u8>> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("normal") => Ok(Self::Normal),
            () if is("pubsub") => Ok(Self::Pubsub),
            () if is("master") || is("slave") || is("replica") => Ok(Self::Server),
            () => Err(with_name("ERR Unknown client type '", name)),
        }
    }
}

impl Selection {
    /// `CLIENT LIST [TYPE type | ID id …]`; the error line where it is none.
    pub(crate) fn of_list(request: &Request<'_>, chain: ChainName) -> Result<Self, Vec<u8>> {
        let mut selection = Self {
            chain,
            ..Self::default()
        };
        match request.len() {
            2 => {}
            4 if is(request.arg(2), "TYPE") => selection.kind = Some(Kind::parse(request.arg(3))?),
            count if count > 3 && is(request.arg(2), "ID") => {
                let ids = (3..count).map(|at| integer(request.arg(at)));
                let ids: Option<Vec<i64>> = ids.collect();
                let ids = ids.ok_or(b"-ERR Invalid client ID\r\n")?;
                // Nobody has a negative one.
                let ids = ids.into_iter().filter_map(|id| u64::try_from(id).ok());
                let mut seen = FxHashSet::default();
                selection.order = ids.filter(|id| seen.insert(*id)).collect();
                let mut sorted = selection.order.clone();
                sorted.sort_unstable();
                selection.ids = Some(sorted);
            }
            _ => return Err(error::SYNTAX.to_vec()),
        }
        Ok(selection)
    }

    /// `CLIENT KILL address` and `CLIENT KILL filter value …`; `own` is the client that asks, `is_user` knows the users.
    pub(crate) fn of_kill(
        request: &Request<'_>,
        chain: ChainName,
        own: u64,
        is_user: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, Vec<u8>> {
        let mut selection = Self {
            chain,
            ..Self::default()
        };
        if request.len() == 3 {
            selection.address = Some(request.arg(2).to_vec());
            selection.old_form = true;
            return Ok(selection);
        }
        selection.spared = Some(own);
        let pairs = (2..request.len()).step_by(2);
        for at in pairs {
            if at + 1 == request.len() {
                return Err(error::SYNTAX.to_vec());
            }
            selection.narrow(request.arg(at), request.arg(at + 1), own, &is_user)?;
        }
        Ok(selection)
    }

    fn narrow(
        &mut self,
        filter: &[u8],
        value: &[u8],
        own: u64,
        is_user: &impl Fn(&[u8]) -> bool,
    ) -> Result<(), Vec<u8>> {
        if is(filter, "ID") {
            let id = integer(value).and_then(|id| u64::try_from(id).ok());
            let id = id.filter(|id| *id > 0);
            self.ids = Some(vec![id.ok_or(b"-ERR client-id should be greater than 0\r\n")?]);
        } else if is(filter, "TYPE") {
            self.kind = Some(Kind::parse(value)?);
        } else if is(filter, "ADDR") {
            self.address = Some(value.to_vec());
        } else if is(filter, "LADDR") {
            self.local = Some(value.to_vec());
        } else if is(filter, "USER") {
            if !is_user(value) {
                return Err(with_name("ERR No such user '", value));
            }
            self.user = Some(value.to_vec());
        } else if is(filter, "MAXAGE") {
            let age = integer(value).ok_or(error::NOT_AN_INTEGER)?;
            let age = u64::try_from(age).ok().filter(|age| *age > 0);
            self.age = Some(age.ok_or(b"-ERR maxage should be greater than 0\r\n")?);
        } else if is(filter, "SKIPME") && is(value, "YES") {
            self.spared = Some(own);
        } else if is(filter, "SKIPME") && is(value, "NO") {
            self.spared = None;
        } else {
            return Err(error::SYNTAX.to_vec());
        }
        Ok(())
    }

    /// Whether a client of this filter is meant. `now` is the turn's time.
    pub(crate) fn fits(&self, client: &Client, filter: &Filter, now: u64) -> bool {
        let session = &*client.session;
        let fits_address = |wanted: &Option<Vec<u8>>, address: Option<SocketAddr>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| *wanted == Session::written(address).as_bytes())
        };
        filter.is_of(&self.chain)
            && !client.inlet.is_closed()
            && self.spared != Some(session.id)
            && self
                .ids
                .as_ref()
                .is_none_or(|ids| ids.binary_search(&session.id).is_ok())
            && self.kind.is_none_or(|kind| kind == kind_of(client))
            && self.user.as_ref().is_none_or(|user| user == session.user())
            && fits_address(&self.address, session.socket.remote)
            && fits_address(&self.local, session.socket.local)
            && self
                .age
                .is_none_or(|age| now.saturating_sub(session.socket.opened) / 1_000_000 >= age)
    }

    /// The lines of LIST: by age as the server has them, or in the order that was asked for.
    pub(crate) fn in_order(&self, mut lines: Vec<(u64, Vec<u8>)>) -> Vec<u8> {
        lines.sort_by_key(|(id, _)| *id);
        if self.ids.is_none() {
            return lines.into_iter().flat_map(|(_, line)| line).collect();
        }
        let find = |id: &u64| lines.binary_search_by_key(id, |(id, _)| *id).ok();
        let asked = self.order.iter().filter_map(find).filter_map(|at| lines.get(at));
        asked.flat_map(|(_, line)| line).copied().collect()
    }

    /// KILL's reply.
    pub(crate) fn killed(&self, out: &mut Vec<u8>, count: u64) {
        match (self.old_form, count) {
            (true, 0) => out.extend_from_slice(b"-ERR No such client\r\n"),
            (true, _) => out.extend_from_slice(b"+OK\r\n"),
            (false, count) => encode::integer(out, count as i64),
        }
    }
}

fn is(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

fn with_name(text: &str, name: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    encode::error(&mut line, &[text.as_bytes(), name, b"'"].concat());
    line
}

/// The request for the list: whose it is, its bytes, and those of its arguments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asking {
    client: u64,
    frame: usize,
    arguments: usize,
}

impl Asking {
    pub(crate) fn new(client: &Client, request: &Request<'_>) -> Self {
        Self {
            client: client.session.id,
            frame: request.frame.len(),
            arguments: (0..request.len()).map(|at| request.arg(at).len()).sum(),
        }
    }

    /// Bytes of the request and of its arguments, if it is this client's.
    pub(crate) fn of(&self, session: &Session) -> (usize, usize) {
        match self.client == session.id {
            true => (self.frame, self.arguments),
            false => (0, 0),
        }
    }
}

/// A name that nothing has checked, so that it can end neither its field nor the line.
pub(crate) fn one_word(name: &[u8]) -> String {
    let shown = name.iter().map(|byte| match byte {
        b'!'..=b'~' => char::from(*byte),
        _ => '?',
    });
    shown.collect()
}

/// Its type, as CLIENT LIST and KILL choose by it.
pub(crate) fn kind_of(client: &Client) -> Kind {
    match client.features.has(Feature::Subscriptions) {
        true => Kind::Pubsub,
        false => Kind::Normal,
    }
}

/// The last command that a client sent, as the server writes it.
pub(crate) fn command_name(core: &Core, client: &Client) -> String {
    match client.inlet.last {
        None => "NULL".to_owned(),
        Some(CommandId(id)) => match redplane_command::all().get(usize::from(id)) {
            Some(command) => command.name.to_owned(),
            None => {
                let custom = &core.filters[client.filter].custom;
                let name = custom.iter().find(|(_, custom)| custom.0 == id);
                name.map_or_else(
                    || "NULL".to_owned(),
                    |(name, _)| String::from_utf8_lossy(name).into_owned(),
                )
            }
        },
    }
}
