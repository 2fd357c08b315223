//! CLIENT CACHING: whether the next command, or transaction, of a client is tracked.

use redplane_command::{Local, RequestPolicy, Transaction as Step, error};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Served;

use crate::{Mode, TrackingState};

const CACHING: &[u8] =
    b"-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
OPTOUT mode enabled\r\n";

const CACHING_YES: &[u8] =
    b"-ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.\r\n";

const CACHING_NO: &[u8] =
    b"-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.\r\n";

impl TrackingState {
    /// `CLIENT CACHING YES|NO`.
    pub(super) fn set_caching(&mut self, core: &mut Core, key: usize, word: &[u8]) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let Some(tracker) = self.trackers.get_mut(key) else {
            return core.answer(key, CACHING);
        };
        let reply: &[u8] = match &tracker.mode {
            _ if !is("YES") && !is("NO") => error::SYNTAX,
            Mode::OptIn if is("YES") => b"+OK\r\n",
            Mode::OptOut if is("NO") => b"+OK\r\n",
            _ if is("YES") => CACHING_YES,
            _ => CACHING_NO,
        };
        tracker.caching |= reply == b"+OK\r\n";
        core.answer(key, reply);
    }

    /// CLIENT CACHING was part of a transaction, and ends with it.
    pub fn forget_caching(&mut self, key: usize) {
        if let Some(tracker) = self.trackers.get_mut(key) {
            tracker.caching = false;
        }
    }

    /// CLIENT CACHING holds for one command, a transaction being one, and CLIENT's own do not count.
    #[cold]
    pub fn note_caching(&mut self, core: &Core, key: usize, served: Served, open: bool) {
        let client = &core.clients[key];
        let (sequence, head) = (client.replies.next_sequence(), client.replies.head());
        let tracker = self.trackers.get_mut(key);
        let Some(tracker) = tracker.filter(|own| own.caching) else {
            return;
        };
        let request = match served {
            Served::Known(command) if command.keeps_caching() => return,
            Served::Known(command) => Some(command.request),
            Served::Custom(_) => None,
        };
        tracker.caching = match request {
            Some(RequestPolicy::Transaction(Step::Multi)) => true,
            Some(
                RequestPolicy::Transaction(Step::Exec | Step::Discard)
                | RequestPolicy::Local(Local::Quit | Local::Reset),
            ) => false,
            _ => open,
        };
        if !matches!(request, Some(RequestPolicy::Local(_))) {
            tracker.mark(sequence, head);
        }
    }
}
