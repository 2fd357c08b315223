//! fred: pipelines on one connection, transactions, pub/sub with its own reconnecting, blocking queues, RESP3.

use std::time::{Duration, Instant};

use fred::clients::SubscriberClient;
use fred::prelude::*;
use fred::types::{CustomCommand, RespVersion};

use crate::Peers;

#[test]
fn fred_works_unchanged() {
    let mut peers = Peers::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        for (name, port) in [("redis", peers.plain.port()), ("redplane", peers.listen)] {
            for version in [RespVersion::RESP2, RespVersion::RESP3] {
                play(port, version)
                    .await
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        let client = connected(peers.listen, RespVersion::RESP3)
            .await
            .expect("it connects");
        client
            .set::<(), _, _>("kept", 1, None, None, false)
            .await
            .expect("SET");
        peers.restart();
        patiently(async || client.get::<i64, _>("kept").await).await;
        peers.failover();
        for i in 0..100 {
            patiently(async || {
                client
                    .set::<(), _, _>(format!("after:{i}"), i, None, None, false)
                    .await
            })
            .await;
        }
    });
}

fn builder(port: u16, version: RespVersion) -> Builder {
    let mut config = Config {
        server: ServerConfig::new_centralized("127.0.0.1", port),
        version,
        ..Config::default()
    };
    config.fail_fast = false;
    let mut builder = Builder::from_config(config);
    builder.set_policy(ReconnectPolicy::new_constant(0, 50));
    builder
}

async fn connected(port: u16, version: RespVersion) -> Result<Client, Error> {
    let client = builder(port, version).build()?;
    client.init().await?;
    Ok(client)
}

async fn play(port: u16, version: RespVersion) -> Result<(), Error> {
    let client = connected(port, version.clone()).await?;
    client.flushall::<()>(false).await?;
    client.set::<(), _, _>("a", "text", None, None, false).await?;
    assert_eq!(
        client.get::<Option<String>, _>("a").await?.as_deref(),
        Some("text")
    );
    client.hset::<(), _, _>("h", [("f", 1), ("g", 2)]).await?;
    let all: std::collections::BTreeMap<String, i64> = client.hgetall("h").await?;
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [("f".to_owned(), 1), ("g".to_owned(), 2)]
    );
    client
        .mset(std::collections::HashMap::from([("m1", 1), ("m2", 2)]))
        .await?;
    assert_eq!(
        client.mget::<Vec<Option<i64>>, _>(vec!["m2", "m0", "m1"]).await?,
        [Some(2), None, Some(1)]
    );

    let pipeline = client.pipeline();
    for i in 0..200 {
        pipeline
            .set::<(), _, _>(format!("p:{i}"), i, None, None, false)
            .await?;
    }
    pipeline.all::<()>().await?;
    assert_eq!(client.get::<i64, _>("p:199").await?, 199);

    let transaction = client.multi();
    transaction.set::<(), _, _>("{t}n", 1, None, None, false).await?;
    transaction.incr::<(), _>("{t}n").await?;
    assert_eq!(
        transaction.exec::<(String, i64)>(true).await?,
        ("OK".to_owned(), 2)
    );

    messages(port, version, &client).await?;

    let worker = client.clone_new();
    worker.init().await?;
    // What others call nil is a timeout to fred.
    let ended = worker.blpop::<(String, i64), _>("q", 0.2).await;
    assert_eq!(ended.expect_err("there is nothing").kind(), &ErrorKind::Timeout);
    let popped = tokio::spawn(async move { worker.blpop::<(String, i64), _>("q", 20.0).await });
    client.rpush::<(), _, _>("q", 7).await?;
    assert_eq!(popped.await.expect("the task ends")?, ("q".to_owned(), 7));

    let echo = CustomCommand::new_static("EVAL", None, false);
    assert_eq!(
        client.custom::<i64, _>(echo, vec!["return 5", "1", "k"]).await?,
        5
    );
    client.quit().await
}

async fn messages(port: u16, version: RespVersion, client: &Client) -> Result<(), Error> {
    let listener: SubscriberClient = builder(port, version).build_subscriber_client()?;
    listener.init().await?;
    let mut heard = listener.message_rx();
    // fred does not wait for the confirmation.
    listener.subscribe("news").await?;
    while client.publish::<i64, _, _>("news", 0).await? == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for i in 1..10 {
        client.publish::<(), _, _>("news", i).await?;
    }
    for i in 0..10 {
        let message = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await;
        let message = message.expect("it comes").expect("the client lives");
        assert_eq!(message.value.convert::<i64>()?, i);
    }
    listener.quit().await
}

/// Again until it works.
async fn patiently<T>(call: impl AsyncFn() -> Result<T, Error>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > end => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
