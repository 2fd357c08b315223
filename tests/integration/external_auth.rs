//! Logins that a gRPC service decides on: the same service, asked by Envoy and by redplane, and the same replies.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use redplane_proto::pb::envoy::service::redis_auth::v3::redis_proxy_external_auth_server::{
    RedisProxyExternalAuth, RedisProxyExternalAuthServer,
};
use redplane_proto::pb::envoy::service::redis_auth::v3::{
    RedisProxyExternalAuthRequest, RedisProxyExternalAuthResponse,
};
use redplane_proto::pb::google::protobuf::Timestamp;
use redplane_proto::pb::google::rpc;
use redplane_testkit::{Client, Proxy, ProxyKind, Redis, RedisConfig, Reply, free_port, until};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport};

use crate::front::{all_to, hosts, listener, redis_filter};
use crate::stage::{PATIENCE, admin, client, redplane, static_resources};

/// What the service was asked: user, password, and the header `x-token`.
type Questions = Arc<Mutex<Vec<(String, String, String)>>>;

/// Decides by the password.
struct Judge(Questions);

impl Judge {
    fn note(&self, question: (String, String, String)) {
        self.0.lock().expect("nobody panics with it").push(question);
    }
}

#[tonic::async_trait]
impl RedisProxyExternalAuth for Judge {
    async fn authenticate(
        &self,
        request: Request<RedisProxyExternalAuthRequest>,
    ) -> Result<Response<RedisProxyExternalAuthResponse>, Status> {
        let token = request
            .metadata()
            .get("x-token")
            .and_then(|value| value.to_str().ok());
        let token = token.unwrap_or_default().to_owned();
        let RedisProxyExternalAuthRequest { username, password } = request.into_inner();
        self.note((username, password.clone(), token));
        let (code, message, lasts) = match password.as_str() {
            "right" => (0, "", Some(600)),
            "brief" => (0, "", Some(2)),
            "timeless" => (0, "", None),
            "denied" => (7, "not you", None),
            "unknown" => (16, "", None),
            "confused" => (13, "no idea", None),
            "broken" => return Err(Status::unavailable("down")),
            _ => return std::future::pending().await,
        };
        Ok(Response::new(RedisProxyExternalAuthResponse {
            status: Some(rpc::Status {
                code,
                ..rpc::Status::default()
            }),
            expiration: lasts.map(|seconds| Timestamp {
                seconds: now() + seconds,
                nanos: 0,
            }),
            message: message.into(),
        }))
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is after 1970").as_secs() as i64
}

/// A running service. It ends with its runtime.
struct Service {
    address: SocketAddr,
    questions: Questions,
    _runtime: Runtime,
}

impl Service {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let socket = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let socket = socket.expect("a port is free");
        let address = socket.local_addr().expect("it is bound");
        let questions = Questions::default();
        let judge = RedisProxyExternalAuthServer::new(Judge(Arc::clone(&questions)));
        let serving = transport::Server::builder().add_service(judge);
        runtime.spawn(serving.serve_with_incoming(TcpListenerStream::new(socket)));
        Self {
            address,
            questions,
            _runtime: runtime,
        }
    }
}

/// A proxy with one listener whose logins end, and one whose logins last, and one whose service is not there.
struct Door {
    proxy: Proxy,
    expiring: u16,
    lasting: u16,
    orphaned: u16,
}

impl Door {
    fn start(kind: &ProxyKind, service: &Service, redis: &Redis) -> Self {
        let (admin_port, expiring, lasting, orphaned) = (free_port(), free_port(), free_port(), free_port());
        let filter = |name: &str, cluster: &str, fields: &str| {
            let provider = format!(
                "external_auth_provider: {{grpc_service: {{envoy_grpc: {{cluster_name: {cluster}}}, initial_metadata: \
                 [{{key: x-token, value: t0ken}}]}}{fields}}}, {}",
                all_to("c")
            );
            redis_filter(name, "op_timeout: 5s", &provider)
        };
        let listeners = [
            listener(
                "e",
                expiring,
                &filter("e", "auth", ", enable_auth_expiration: true"),
            ),
            listener("l", lasting, &filter("l", "auth", "")),
            listener("o", orphaned, &filter("o", "nobody", "")),
        ];
        let http2 = ", typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
                     {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
                     explicit_http_config: {http2_protocol_options: {}}}}";
        let clusters = [
            hosts("c", &[redis.port()], ""),
            hosts("auth", &[service.address.port()], http2),
            hosts("nobody", &[free_port()], http2),
        ];
        let text = format!(
            "node: {{id: one, cluster: two}}\n{}{}",
            admin(admin_port),
            static_resources(&listeners, &clusters)
        );
        Self {
            proxy: Proxy::start(kind, &text, admin_port),
            expiring,
            lasting,
            orphaned,
        }
    }

    /// Sends all commands at once on a new connection, and says what came back.
    fn tell(port: u16, lines: &[&str]) -> Vec<String> {
        let mut client = client(port);
        Self::tell_on(&mut client, lines)
    }

    fn tell_on(client: &mut Client, lines: &[&str]) -> Vec<String> {
        let bytes: Vec<u8> = lines
            .iter()
            .flat_map(|line| redplane_testkit::command_bytes(&line.split(' ').collect::<Vec<_>>()))
            .collect();
        client.send(&bytes).expect("it reads");
        let replies = client.read_replies(lines.len());
        replies.iter().map(shown).collect()
    }
}

/// A reply as a line.
pub(crate) fn shown(reply: &Reply) -> String {
    let (mark, text) = match reply {
        Reply::Simple(text) => ("+", text),
        Reply::Error(text) => ("-", text),
        Reply::Bulk(Some(text)) => ("$", text),
        other => return format!("{other:?}"),
    };
    format!("{mark}{}", String::from_utf8_lossy(text))
}

/// Scripts of commands that are sent at once.
const SCRIPTS: &[&[&str]] = &[
    &["GET k", "PING"],
    &["AUTH right", "SET k 1", "GET k", "PING"],
    &["AUTH usr right", "GET k"],
    &["GET k", "AUTH denied", "GET k", "AUTH right", "GET k"],
    &["AUTH right", "AUTH denied", "GET k"],
    &["AUTH usr unknown", "GET k"],
    &["AUTH confused", "GET k"],
    &["AUTH broken", "GET k"],
    &["AUTH right", "AUTH broken", "GET k"],
    &["AUTH never-answered", "GET k", "AUTH right", "GET k"],
    &["HELLO 2 AUTH usr denied", "GET k"],
    &["HELLO 2 AUTH usr unknown", "GET k"],
    &["HELLO 2 AUTH usr confused", "GET k"],
];

#[test]
fn the_same_service_says_the_same_to_envoys_clients() {
    let service = Service::start();
    let redis = Redis::start(RedisConfig::default());
    let envoy = Door::start(&ProxyKind::Envoy, &service, &redis);
    let ours = Door::start(&redplane(), &service, &redis);
    for script in SCRIPTS {
        for (their, our) in [
            (envoy.expiring, ours.expiring),
            (envoy.lasting, ours.lasting),
            (envoy.orphaned, ours.orphaned),
        ] {
            let (theirs, own) = (Door::tell(their, script), Door::tell(our, script));
            assert_eq!(own, theirs, "{script:?}\n{}", ours.proxy.process().output());
        }
    }
    // Without an end, where logins end, it is over at once; where they last, it means nothing.
    for door in [&envoy, &ours] {
        let denied = "-NOAUTH Authentication required.";
        assert_eq!(
            Door::tell(door.expiring, &["AUTH timeless", "SET k 1"]),
            ["+OK", denied]
        );
        assert_eq!(
            Door::tell(door.lasting, &["AUTH timeless", "SET k 1"]),
            ["+OK", "+OK"]
        );
        let mut brief = client(door.expiring);
        let mut lasting = client(door.lasting);
        for client in [&mut brief, &mut lasting] {
            let replies = Door::tell_on(client, &["AUTH brief", "SET k 1"]);
            assert_eq!(replies, ["+OK", "+OK"]);
        }
        until("the end of the login", PATIENCE, || {
            Door::tell_on(&mut brief, &["SET k 1"]) == [denied]
        });
        assert_eq!(Door::tell_on(&mut lasting, &["SET k 1"]), ["+OK"]);
        assert_eq!(Door::tell_on(&mut brief, &["AUTH right", "SET k 1"])[1], "+OK");
    }
    let questions = service.questions.lock().expect("nobody panics with it");
    let asked = |user: &str| {
        let question = (user.to_owned(), "right".to_owned(), "t0ken".to_owned());
        questions.iter().filter(|asked| **asked == question).count()
    };
    assert!(asked("usr") == 4 && asked("") >= 16, "{questions:?}");
    let log = ours.proxy.process().output();
    assert!(!log.contains("never-answered") && !log.contains("t0ken"), "{log}");
    assert_eq!(ours.proxy.stat("cluster.auth.upstream_rq_active"), Some(0));
    assert!(ours.proxy.stat("cluster.auth.upstream_rq_timeout") >= Some(2));
}
