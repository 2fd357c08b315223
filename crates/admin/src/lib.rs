//! The admin interface: Envoy's endpoints, bodies and status codes over HTTP/1.
//!
//! Everything that is shown comes from [`Sources`], a set of closures and a [`Registry`](redplane_telemetry::Registry)
//! that the binary fills; everything that is to be done leaves as an [`Order`]. So this crate knows neither clusters nor
//! workers, and holds no state but the log levels. Pages are made on a blocking thread: a dump of ten thousand
//! resources holds up neither xDS nor a worker.
//!
//! Envoy: operations/admin.

mod dump;
mod endpoint;
mod home;
mod html;
mod levels;
mod pages;
mod reply;
mod request;
mod request_line;
mod server;
mod sources;
mod table;
mod view;

pub use dump::{DumpInput, Dumped, DynamicResource, FailedUpdate, ResourceVersion};
pub use levels::{LOGGERS, Level, Levels};
pub use server::serve;
pub use sources::{Action, Order, Source, Sources, Views};
pub use view::{
    Address, CertificateFile, ClusterView, EdsHealth, HealthFlags, HostStats, HostView, InitTargets,
    ListenerView, Locality, OldestView, RedisHostView, Role, RuntimeView, ServerState, ServerView,
    Thresholds, TlsCertificates, WaitingClientView, WaitingView,
};
