//! A key set fetched through a cluster.
//!
//! The fetch is a task of its own: the client that made it necessary may leave.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, Method, Uri};
use http_body::Body;
use hyper::body::Incoming;
use redplane_config::http::UpstreamProtocol;
use redplane_config::jwt::{KeySet, RemoteKeys};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tracing::warn;

use crate::downstream::Downstream;
use crate::feed::RequestBody;
use crate::pool::{self, NoLease, Wanted};
use crate::upstream::{Outgoing, choose};
use crate::worker::Worker;

/// A key set is no larger.
const LARGEST: usize = 1 << 20;

/// Fetches keys, or waits for those that are on their way; `None` where they cannot be had.
pub(super) async fn fetch(remote: &RemoteKeys, worker: &Rc<Worker>) -> Option<Arc<KeySet>> {
    let (coming, begin) = worker.keys.coming(remote);
    if begin {
        let (remote, worker) = (remote.clone(), Rc::clone(worker));
        spawn_local(async move {
            let limited = timeout(remote.timeout, ask(&remote, &worker)).await;
            let keys = match limited.unwrap_or_else(|_| Err("it took too long".to_owned())) {
                Ok(keys) => Some(Arc::new(keys)),
                Err(reason) => {
                    warn!(uri = remote.uri, cluster = remote.cluster, "key set: {reason}");
                    None
                }
            };
            worker.keys.came(&remote, keys);
        });
    }
    coming.over().await
}

async fn ask(remote: &RemoteKeys, worker: &Rc<Worker>) -> Result<KeySet, String> {
    let cluster = worker
        .cluster(&remote.cluster)
        .ok_or("the cluster is not known")?;
    let place = choose(&cluster, None, (&[], 0), &Downstream::default()).ok_or("the cluster has no host")?;
    let uri: Uri = remote.uri.parse().map_err(|_| "the URI is malformed")?;
    let stats = worker.block(cluster.stats());
    let wanted = Wanted {
        cluster: &cluster,
        place: &place,
        protocol: match cluster.config().http.protocol {
            UpstreamProtocol::Http2 => UpstreamProtocol::Http2,
            _ => UpstreamProtocol::Http1,
        },
        offer: None,
        sni: None,
        stats: &stats,
        // Nothing is tried twice here, so that no connection is taken that may be gone.
        fresh: true,
        high: false,
    };
    let mut lease = match pool::lease(&worker.pools, wanted).await {
        Ok(lease) => lease,
        Err(NoLease::Overflow) => return Err("a circuit breaker is open".to_owned()),
        Err(NoLease::Failed(error)) => return Err(error.to_string()),
    };
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let outgoing = Outgoing {
        method: Method::GET,
        scheme: if uri.scheme_str() == Some("https") {
            "https"
        } else {
            "http"
        },
        authority: HeaderValue::from_str(host).map_err(|_| "the URI is malformed")?,
        path: uri
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/")),
        headers: HeaderMap::new(),
        extensions: Extensions::new(),
    };
    let request = outgoing.request(RequestBody::Empty, lease.is_http2());
    let response = lease
        .send(request)
        .await
        .map_err(|_| "the server did not answer")?;
    if response.status() != 200 {
        return Err(format!("the server answered {}", response.status().as_u16()));
    }
    let text = whole(response.into_body()).await?;
    KeySet::parse(&String::from_utf8_lossy(&text)).map_err(str::to_owned)
}

/// A body, whole.
async fn whole(body: Incoming) -> Result<BytesMut, String> {
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > LARGEST {
            return Err("the answer is too large".to_owned());
        }
    }
    Ok(bytes)
}
