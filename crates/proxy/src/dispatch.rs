//! What a request becomes: bytes from a client, decoded, checked in Redis's order, and sent on its way.
//!
//! The order is known command, arity, login, transaction, fault, policy. The engine matches on the table's policies,
//! never on a name.

use redplane_command::{Command, CommandId, NotFound, Refusal, RequestPolicy, error};
use redplane_merge::Failure;
use redplane_pubsub::is_refused;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_flow::request::{Request, Served};
use redplane_resp::encode;
use redplane_telemetry::stats::redis_proxy;
use redplane_transaction::steers_transaction;

use crate::engine::Engine;
use crate::lessons::{Lesson, is_from_a_browser};
use crate::session::must_greet;

impl Engine {
    /// Refuses a command of a client with subscriptions.
    #[cold]
    pub(crate) fn refuse_in_pubsub(&mut self, key: usize, served: Served) {
        if let Served::Known(command) = served
            && command.request == RequestPolicy::Transaction(redplane_command::Transaction::Exec)
        {
            return self
                .transactions
                .abort_transaction(&mut self.core, key, |out| error::in_pubsub(out, command));
        }
        self.core.answer_with(key, |out| match served {
            Served::Known(command) => error::in_pubsub(out, command),
            Served::Custom(_) => encode::error(out, b"ERR this command is not allowed in this context"),
        });
    }

    /// One request. False when it has to wait: it is looked at again when its client's input goes on.
    #[inline]
    pub(crate) fn request(&mut self, key: usize, request: Request<'_>) -> bool {
        let client = &self.core.clients[key];
        let filter = &self.core.filters[client.filter];
        let served = if filter.custom.is_empty() {
            redplane_command::find(request.len(), |i| request.arg(i)).map(Served::Known)
        } else {
            find_with_custom(filter, &request)
        };
        if let Ok(Served::Known(command)) = served
            && self.pauses.list.is_empty()
            && self.core.send_straight(key, command, &request)
        {
            return true;
        }
        self.request_at_length(key, served, request)
    }

    /// The same where something has to be looked at more closely.
    fn request_at_length(
        &mut self,
        key: usize,
        served: Result<Served, NotFound>,
        request: Request<'_>,
    ) -> bool {
        let served = match served {
            Err(not_found) => match self.lessons.consult(&mut self.core, key, not_found, &request) {
                Lesson::Served(served) => Ok(served),
                Lesson::Rests => return false,
                Lesson::Unknown(not_found) => Err(not_found),
                Lesson::Failed(failure) => {
                    if let Some(transaction) = self.transactions.of_mut(key) {
                        transaction.spoil();
                    }
                    self.core.fail_now(key, CommandId(u16::MAX), failure);
                    return true;
                }
            },
            served => served,
        };
        if let Ok(served) = served
            && self.must_rest(key, served, &request)
        {
            return false;
        }
        self.core
            .tally
            .request(self.core.clients[key].filter, &self.core.filters);
        match served {
            Ok(served) => self.checked(key, served, request),
            Err(not_found) => self.not_found(key, not_found, &request),
        }
        true
    }

    #[cold]
    fn not_found(&mut self, key: usize, not_found: NotFound, request: &Request<'_>) {
        if must_greet(&self.core, key) {
            return self.not_admitted(key, None);
        }
        let client = &mut self.core.clients[key];
        let stats = &self.core.filters[client.filter].stats;
        match not_found {
            NotFound::Command => stats.inc(redis_proxy::SPLITTER_UNSUPPORTED_COMMAND),
            _ => stats.inc(redis_proxy::SPLITTER_INVALID_REQUEST),
        }
        if let Some(transaction) = self.transactions.of_mut(key) {
            transaction.spoil();
        }
        if matches!(not_found, NotFound::Command) && is_from_a_browser(request.arg(0)) {
            client.inlet.rest(Rest::End);
            return;
        }
        if let NotFound::Arity(command) = not_found
            && command.request == RequestPolicy::Transaction(redplane_command::Transaction::Exec)
        {
            return self
                .transactions
                .abort_transaction(&mut self.core, key, |out| error::wrong_arity(out, command));
        }
        let client = &mut self.core.clients[key];
        client.replies.reply(|out| match not_found {
            NotFound::Command => {
                error::unknown_command(out, request.arg(0), (1..request.len()).map(|i| request.arg(i)));
            }
            NotFound::Subcommand(container) => error::unknown_subcommand(out, container, request.arg(1)),
            NotFound::Arity(command) => error::wrong_arity(out, command),
        });
    }

    /// A known command of the right arity.
    #[inline]
    fn checked(&mut self, key: usize, served: Served, request: Request<'_>) {
        let client = &mut self.core.clients[key];
        client.inlet.last = Some(served.id());
        if !client.authenticated && !may_come_before_login(served) {
            return self.not_admitted(key, Some(served));
        }
        let features = client.features;
        if features.has(Feature::Tracking) {
            let open = self.transactions.is_in_transaction(key);
            self.tracking.note_caching(&self.core, key, served, open);
        }
        let client = &self.core.clients[key];
        let filter = &self.core.filters[client.filter];
        if features.has(Feature::Subscriptions) && is_refused(filter.greeting.protocol, served) {
            return self.refuse_in_pubsub(key, served);
        }
        self.core
            .tally
            .asked(client.filter, &self.core.filters, served.id());
        if features.has(Feature::Transaction)
            && self.transactions.is_in_transaction(key)
            && !steers_transaction(&self.core, key, served)
        {
            let corrects = self.pubsub.corrects_publications();
            return self
                .transactions
                .queue_command(&mut self.core, key, served, &request, corrects);
        }
        if !filter.proxy.faults.is_empty() && self.inject_fault(key, served, &request) {
            return;
        }
        self.serve(key, served, request);
    }

    /// The command itself.
    #[inline]
    pub(crate) fn serve(&mut self, key: usize, served: Served, request: Request<'_>) {
        let command = match served {
            Served::Known(command) => command,
            Served::Custom(_) => return self.forward_by_key(key, served, request, 1),
        };
        match command.request {
            RequestPolicy::ByKey => self.by_key(key, command, request),
            RequestPolicy::Sort => self.sort(key, command, request),
            RequestPolicy::MultiShard => self.split(key, command, request),
            RequestPolicy::Script(argument) => self.script(key, argument, command, request),
            RequestPolicy::Local(local) => self.local(key, local, command, &request),
            RequestPolicy::Transaction(step) => {
                self.transactions
                    .steer_transaction(&mut self.core, key, step, command, request);
            }
            RequestPolicy::AllShards | RequestPolicy::AllNodes => self.core.fan_out(key, command, request),
            RequestPolicy::AnyNode => self.forward_any(key, command, request),
            RequestPolicy::SlotArgument => self.by_slot_argument(key, command, request),
            RequestPolicy::ShardIndex => self.core.by_shard_index(key, command, request),
            RequestPolicy::RandomShards => self.scans.seek(&mut self.core, key, command, request),
            RequestPolicy::Scan => self.scans.scan(&mut self.core, key, command, request),
            RequestPolicy::Container => self.core.answer_with(key, |out| error::wrong_arity(out, command)),
            RequestPolicy::Pubsub(step) => self.pubsub.pubsub(&mut self.core, key, step, command, request),
            RequestPolicy::Refuse(Refusal::OneDatabase) => self.between_databases(key, command, request),
            RequestPolicy::Refuse(_) => {
                self.core.refuse(key, command, &request);
            }
            RequestPolicy::Blocking(redplane_command::Blocking::Replication) => {
                self.blocking
                    .wait_for_replicas(&mut self.core, key, command, &request);
            }
            RequestPolicy::Blocking(_) => self.by_keys(key, command, request),
        }
    }

    /// Keys that must all be in one place.
    #[inline]
    fn by_key(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        use redplane_command::FastKeys;
        if command.keys.fast == FastKeys::First {
            return self.forward_by_key(key, Served::Known(command), request, 1);
        }
        self.by_keys(key, command, request);
    }

    pub(crate) fn by_keys(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let first = redplane_command::first_key(command, request.len(), |i| request.arg(i));
        let Some(first) = first else {
            // No keys, or arguments that make no sense: a server words the error.
            return self.forward_any(key, command, request);
        };
        let served = Served::Known(command);
        match self.core.share_a_place(key, served, &request, command.is_read()) {
            Ok(()) => self.forward_by_key(key, served, request, first),
            Err(Failure::CrossSlot) => self.core.answer(key, error::CROSSSLOT),
            Err(failure) => self.core.fail_now(key, command.id, failure),
        }
    }
}

#[cold]
fn find_with_custom(
    filter: &redplane_redis_core::filter::Filter,
    request: &Request<'_>,
) -> Result<Served, NotFound> {
    let name = request.arg(0).to_ascii_lowercase();
    if let Some(id) = filter.custom.get(&name).filter(|_| request.len() > 1) {
        return Ok(Served::Custom(*id));
    }
    redplane_command::find(request.len(), |i| request.arg(i)).map(Served::Known)
}

fn may_come_before_login(served: Served) -> bool {
    matches!(served, Served::Known(command) if command.may_come_before_login())
}
