//! One small HTTP/1.1 exchange with a metadata service or with STS. Nothing is kept open, nothing is redirected.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Uri;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// How long an exchange may take. Envoy: five seconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'static str,
    pub(crate) url: &'a str,
    /// Names and values; `host` is added.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: String,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(url: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            method: "GET",
            url,
            headers,
            body: String::new(),
        }
    }
}

/// Sends a request and gives the body of a good answer. Errors never have anything of the request's secrets in them.
pub(crate) async fn ask(ask: Ask<'_>) -> Result<String, String> {
    let uri: Uri = ask.url.parse().map_err(|_| "the URL is malformed".to_owned())?;
    let host = uri.host().ok_or("the URL has no host")?.to_owned();
    let work = async {
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port))
            .await
            .map_err(|error| error.to_string())?;
        if !secure {
            return exchange(stream, &ask, &uri).await;
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
        let tls = TlsConnector::from(tls()?).connect(name, stream).await;
        exchange(tls.map_err(|error| error.to_string())?, &ask, &uri).await
    };
    let late = || format!("no answer within {TIMEOUT:?}");
    let answer = tokio::time::timeout(TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(late()));
    answer.map_err(|reason| format!("{host}: {reason}"))
}

async fn exchange<S>(stream: S, ask: &Ask<'_>, uri: &Uri) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let task = tokio::spawn(connection);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = hyper::Request::builder()
        .method(ask.method)
        .uri(path)
        .header(HOST, authority);
    for (name, value) in ask.headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(ask.body.clone())))
        .map_err(|error| error.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    task.abort();
    if !status.is_success() {
        return Err(format!("status {}", status.as_u16()));
    }
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    String::from_utf8(body.into()).map_err(|_| "the answer is not UTF-8".to_owned())
}

/// The system's roots, read once.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    // What cannot be read is left out; without any the error below says it.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("no file of trusted certificates was found; SSL_CERT_FILE may name one".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}
