//! What CLIENT TRACKING is asked for: its words, and which of them go together. Errors have the server's words.

use std::collections::BTreeSet;

use bytes::Bytes;
use redplane_command::error;
use redplane_redis_core::filter::ChainName;
use redplane_redis_flow::request::Request;
use redplane_resp::encode;

use crate::{Mode, Tracker};

/// `CLIENT TRACKING ON|OFF [REDIRECT id] [BCAST] [PREFIX prefix …] [OPTIN] [OPTOUT] [NOLOOP]`.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Clients of this chain can be redirected to.
    pub(crate) chain: ChainName,
    pub(super) on: bool,
    pub(crate) redirect: Option<u64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    pub(super) noloop: bool,
    prefixes: Vec<Bytes>,
}

const NO_CLIENT: &[u8] = b"-ERR The client ID you want redirect to does not exist\r\n";

const PREFIX_ALONE: &[u8] = b"-ERR PREFIX option requires BCAST mode to be enabled\r\n";

const OTHER_REACH: &[u8] =
    b"-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and \
then re-enabling it with a different mode.\r\n";

const BROADCAST_OPTION: &[u8] = b"-ERR OPTIN and OPTOUT are not compatible with BCAST\r\n";

const BOTH_OPTIONS: &[u8] = b"-ERR You can't specify both OPTIN mode and OPTOUT mode\r\n";

const OTHER_OPTION: &[u8] =
    b"-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and \
then re-enabling it with a different mode.\r\n";

impl Wanted {
    /// Reads the request; an error line where it makes no sense.
    pub(super) fn read(request: &Request<'_>, chain: ChainName) -> Result<Self, Vec<u8>> {
        let mut wanted = Self {
            chain,
            ..Self::default()
        };
        let mut at = 3;
        while at < request.len() {
            let word = request.arg(at);
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let value = (at + 1 < request.len()).then(|| request.arg(at + 1));
            at += 1;
            match value {
                Some(value) if is("REDIRECT") => {
                    wanted.redirect_to(value)?;
                    at += 1;
                }
                Some(value) if is("PREFIX") => {
                    wanted.prefixes.push(Bytes::copy_from_slice(value));
                    at += 1;
                }
                _ if is("BCAST") => wanted.broadcast = true,
                _ if is("OPTIN") => wanted.opt_in = true,
                _ if is("OPTOUT") => wanted.opt_out = true,
                _ if is("NOLOOP") => wanted.noloop = true,
                _ => return Err(error::SYNTAX.to_vec()),
            }
        }
        wanted.on = request.arg(2).eq_ignore_ascii_case(b"ON");
        match wanted.on || request.arg(2).eq_ignore_ascii_case(b"OFF") {
            true => Ok(wanted),
            false => Err(error::SYNTAX.to_vec()),
        }
    }

    fn redirect_to(&mut self, value: &[u8]) -> Result<(), Vec<u8>> {
        if self.redirect.is_some() {
            return Err(b"-ERR A client can only redirect to a single other client\r\n".to_vec());
        }
        let id = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let id: i64 = id.ok_or(error::NOT_AN_INTEGER)?;
        // Redis: 0 is nobody.
        self.redirect = match u64::try_from(id) {
            Ok(id) if id > 0 => Some(id),
            _ => return Err(NO_CLIENT.to_vec()),
        };
        Ok(())
    }

    /// The error of a redirection to nobody.
    pub(super) fn no_client() -> &'static [u8] {
        NO_CLIENT
    }

    /// The mode that a client comes to with this, or why it cannot.
    pub(super) fn mode_after(&self, former: Option<&Tracker>) -> Result<Mode, Vec<u8>> {
        let known = former.map(|tracker| &tracker.mode);
        let refused = match known {
            _ if !self.broadcast && !self.prefixes.is_empty() => PREFIX_ALONE,
            Some(mode) if matches!(mode, Mode::Broadcast(_)) != self.broadcast => OTHER_REACH,
            _ if self.broadcast && (self.opt_in || self.opt_out) => BROADCAST_OPTION,
            _ if self.opt_in && self.opt_out => BOTH_OPTIONS,
            Some(Mode::OptOut) if self.opt_in => OTHER_OPTION,
            Some(Mode::OptIn) if self.opt_out => OTHER_OPTION,
            _ => b"",
        };
        match () {
            () if !refused.is_empty() => Err(refused.to_vec()),
            () if self.opt_in => Ok(Mode::OptIn),
            () if self.opt_out => Ok(Mode::OptOut),
            () if !self.broadcast => Ok(Mode::Default),
            () => self.prefixes_after(known).map(Mode::Broadcast),
        }
    }

    fn prefixes_after(&self, known: Option<&Mode>) -> Result<BTreeSet<Bytes>, Vec<u8>> {
        let mut all = match known {
            Some(Mode::Broadcast(prefixes)) => prefixes.clone(),
            _ => BTreeSet::new(),
        };
        for (at, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = all.iter().find(|other| overlap(prefix, other)) {
                return Err(collision(prefix, "an existing prefix", other));
            }
            let rest = &self.prefixes[at + 1..];
            if let Some(other) = rest.iter().find(|other| overlap(prefix, other)) {
                return Err(collision(prefix, "another provided prefix", other));
            }
        }
        all.extend(self.prefixes.iter().cloned());
        if self.prefixes.is_empty() {
            all.insert(Bytes::new());
        }
        Ok(all)
    }
}

fn overlap(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn collision(prefix: &[u8], with: &str, other: &[u8]) -> Vec<u8> {
    let text = [
        b"ERR Prefix '",
        prefix,
        b"' overlaps with ",
        with.as_bytes(),
        b" '",
        other,
        b"'. Prefixes for a single client must not overlap.",
    ]
    .concat();
    let mut line = Vec::new();
    encode::error(&mut line, &text);
    line
}
