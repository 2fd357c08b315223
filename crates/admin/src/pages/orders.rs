//! The endpoints that change something elsewhere: each becomes an [`Order`], and the answer waits until it took effect.

use hyper::StatusCode;
use tokio::sync::oneshot;

use crate::reply::Reply;
use crate::request::Request;
use crate::{Action, Order, Sources};

/// `/drain_listeners`; pilot-agent's one word before it kills the process.
pub(crate) fn drain_listeners(sources: &Sources, request: &Request) -> Reply {
    let given = |name| request.params.has(name) || request.form.has(name);
    let action = Action::DrainListeners {
        inbound_only: given("inboundonly"),
        graceful: given("graceful"),
        skip_exit: given("skip_exit"),
    };
    carry_out(sources, action)
}

/// `/healthcheck/fail`
pub(crate) fn fail_health_check(sources: &Sources, _: &Request) -> Reply {
    carry_out(sources, Action::FailHealthCheck)
}

/// `/healthcheck/ok`
pub(crate) fn pass_health_check(sources: &Sources, _: &Request) -> Reply {
    carry_out(sources, Action::PassHealthCheck)
}

/// `/reopen_logs`
pub(crate) fn reopen_logs(sources: &Sources, _: &Request) -> Reply {
    carry_out(sources, Action::ReopenLogs)
}

/// `/quitquitquit`
pub(crate) fn quit(sources: &Sources, _: &Request) -> Reply {
    carry_out(sources, Action::Quit)
}

/// `/reset_counters`: the one that can be done here.
pub(crate) fn reset_counters(sources: &Sources, _: &Request) -> Reply {
    sources.registry.reset_counters();
    Reply::ok()
}

/// Hands an order over and waits. Runs on a blocking thread.
pub(crate) fn carry_out(sources: &Sources, action: Action) -> Reply {
    let (done, wait) = oneshot::channel();
    let refused = || Reply::error(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down\n");
    if sources.orders.blocking_send(Order { action, done }).is_err() {
        return refused();
    }
    match wait.blocking_recv() {
        Ok(()) => Reply::ok(),
        Err(_) => refused(),
    }
}
