//! Beside Envoy: admin pages that are not for everybody.

use redplane_testkit::{Proxy, ProxyKind, free_port, http_get, http_post};

use crate::stage::{admin, local, redplane};

/// The path counts with its query, and before the method.
#[test]
fn admin_pages_that_are_not_allowed_answer_403() {
    let mut told = Vec::new();
    for kind in [ProxyKind::Envoy, redplane()] {
        let port = free_port();
        let text = admin(port).replacen("{", "{allow_paths: [{exact: /ready}, {prefix: /stats}], ", 1);
        let mut proxy = Proxy::start(&kind, &text, port);
        let mut answers = Vec::new();
        for path in [
            "/ready",
            "/ready?x",
            "/config_dump?a=b",
            "/none",
            "/stats?filter=^none$",
        ] {
            let reply = http_get(local(port), path).expect("an answer");
            answers.push((path, reply.status, reply.body));
        }
        for path in ["/quitquitquit", "/logging?level=info"] {
            let reply = http_post(local(port), path).expect("an answer");
            answers.push((path, reply.status, reply.body));
        }
        assert!(proxy.process_mut().ended().is_none(), "{kind:?}");
        told.push(answers);
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(
        told[1][5],
        (
            "/quitquitquit",
            403,
            "request to path /quitquitquit not allowed".to_owned()
        )
    );
}
