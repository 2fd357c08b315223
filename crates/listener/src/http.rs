//! A connection handed to the HTTP crate, with what is known of it.

use std::rc::Rc;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use redplane_config::tls::SanKind;
use redplane_http::{Downstream, Tls};
use redplane_upstream::tls::san;
use redplane_world::tls::TlsServer;
use redplane_world::{Chain, TlsFacts};
use ring::digest;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::access::validates;
use crate::session::Session;
use crate::worker::{Active, Worker};

/// Serves a connection to its end. The session lives as long as it does, and with it the gauges of the listener.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    active: &Rc<Active>,
    chain: &Arc<Chain>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    session: Session,
) {
    let Some(service) = chain.http.clone() else {
        return;
    };
    let facts = downstream(&session, chain);
    let drain = async {
        tokio::select! {
            () = active.draining() => {}
            () = chain.life.draining() => {}
        }
    };
    redplane_http::serve(stream, facts, service, Rc::clone(&worker.http), drain).await;
    drop(session);
}

fn downstream(session: &Session, chain: &Chain) -> Downstream {
    let facts = &session.facts;
    Downstream {
        id: facts.id,
        local: facts.destination,
        restored: facts.restored,
        remote: facts.source,
        direct_remote: facts.direct_source,
        server_name: facts.server_name.clone(),
        chain: chain.config.name.clone(),
        tls: facts.tls.as_ref().map(|tls| session_of(tls, chain)),
    }
}

fn session_of(tls: &TlsFacts, chain: &Chain) -> Tls {
    let leaf = tls.certificates.first();
    let own = chain.tls.as_deref().map(own_uri_sans);
    Tls {
        version: tls.version,
        cipher: tls.cipher.clone(),
        alpn: tls.alpn.clone(),
        is_validated: leaf.is_some() && validates(&chain.config),
        digest: leaf.map(|leaf| HEXLOWER.encode(digest::digest(&digest::SHA256, leaf).as_ref())),
        subject: leaf.and_then(|leaf| san::subject(leaf)),
        uri_sans: tls.uri_sans.clone(),
        dns_sans: tls.dns_sans.clone(),
        own_uri_sans: own.unwrap_or_default(),
    }
}

/// URI names of the certificate that a chain presents first.
fn own_uri_sans(tls: &TlsServer) -> Vec<String> {
    let identity = tls.identity();
    let names = identity.and_then(|identity| san::names(identity.key.cert.first()?).ok());
    let uris = names
        .into_iter()
        .flatten()
        .filter(|name| name.kind == SanKind::Uri);
    uris.map(|name| name.text).collect()
}
