//! redis-rs: its multiplexed connection, its pub/sub, its connection manager, its cluster client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use redis::aio::ConnectionManagerConfig;
use tokio_stream::StreamExt;

use crate::Peers;

#[test]
fn redis_rs_works_unchanged() {
    let mut peers = Peers::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        for (name, address) in [("redis", peers.plain.addr()), ("redplane", peers.address())] {
            library(address).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            messages(address).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            queues(address).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            scripts(address).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        reconnecting(&mut peers).await.expect("the connection manager");
    });
}

/// A connection of a client that speaks one protocol or the other.
fn client(address: SocketAddr, resp3: bool) -> redis::Client {
    let protocol = if resp3 { "?protocol=resp3" } else { "" };
    redis::Client::open(format!("redis://{address}/{protocol}")).expect("an address")
}

async fn messages(address: SocketAddr) -> redis::RedisResult<()> {
    let client = client(address, false);
    let mut other = client.get_multiplexed_async_connection().await?;
    let mut listener = client.get_async_pubsub().await?;
    listener.subscribe("news").await?;
    listener.psubscribe("new*").await?;
    let heard = tokio::spawn(async move {
        let mut stream = listener.on_message();
        let (mut direct, mut matched) = (Vec::<i64>::new(), Vec::<i64>::new());
        while direct.len() + matched.len() < 20 {
            let message = stream.next().await.expect("the connection lives");
            let list = if message.from_pattern() {
                &mut matched
            } else {
                &mut direct
            };
            list.push(message.get_payload()?);
        }
        redis::RedisResult::Ok((direct, matched))
    });
    for i in 0..10 {
        let () = other.publish("news", i).await?;
    }
    let (direct, matched) = heard.await.expect("the task ends")?;
    assert_eq!(direct, (0..10).collect::<Vec<_>>());
    assert_eq!(matched, direct);
    Ok(())
}

async fn queues(address: SocketAddr) -> redis::RedisResult<()> {
    for resp3 in [false, true] {
        let client = client(address, resp3);
        let mut other = client.get_multiplexed_async_connection().await?;
        let begun = Instant::now();
        let mut worker = client.get_multiplexed_async_connection().await?;
        let none: Option<(String, String)> = worker.blpop("q", 0.2).await?;
        assert_eq!(none, None);
        assert!(Instant::now().duration_since(begun) >= Duration::from_millis(200));
        let popped = tokio::spawn(async move { worker.blpop::<_, (String, i64)>("q", 20.0).await });
        let () = other.rpush("q", 7).await?;
        assert_eq!(popped.await.expect("the task ends")?, ("q".to_owned(), 7));
    }
    Ok(())
}

async fn scripts(address: SocketAddr) -> redis::RedisResult<()> {
    let mut connection = client(address, true).get_multiplexed_async_connection().await?;
    let script = redis::Script::new("return {KEYS[1], ARGV[1]}");
    for i in 0..30 {
        let name = format!("s:{i}");
        let got: (String, i64) = script.key(&name).arg(i).invoke_async(&mut connection).await?;
        assert_eq!(got, (name, i));
    }
    Ok(())
}

async fn reconnecting(peers: &mut Peers) -> redis::RedisResult<()> {
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let client = client(peers.address(), false);
    let mut connection = client.get_connection_manager_with_config(config).await?;
    let () = connection.set("kept", 1).await?;
    peers.restart();
    patiently(async || connection.clone().get::<_, i64>("kept").await).await;
    peers.failover();
    for i in 0..100 {
        patiently(async || connection.clone().set::<_, _, ()>(format!("after:{i}"), i).await).await;
    }
    Ok(())
}

/// Again until it works.
async fn patiently<T>(call: impl AsyncFn() -> redis::RedisResult<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > end => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn library(address: SocketAddr) -> redis::RedisResult<()> {
    let mut connection = client(address, false).get_multiplexed_async_connection().await?;
    let () = connection.set("a", "text").await?;
    assert_eq!(
        connection.get::<_, Option<String>>("a").await?.as_deref(),
        Some("text")
    );
    assert_eq!(connection.get::<_, Option<String>>("nothere").await?, None);

    let () = connection.mset(&[("k1", 1), ("k2", 2), ("k3", 3)]).await?;
    let values: Vec<Option<i64>> = connection.mget(&["k3", "k2", "k1", "k0"]).await?;
    assert_eq!(values, [Some(3), Some(2), Some(1), None]);
    assert_eq!(connection.del::<_, i64>(&["k1", "k2", "k3"]).await?, 3);

    let () = connection.hset("h", "f", 1).await?;
    let () = connection.rpush("l", &["x", "y"]).await?;
    assert_eq!(connection.lrange::<_, Vec<String>>("l", 0, -1).await?, ["x", "y"]);
    assert_eq!(connection.hincr::<_, _, _, i64>("h", "f", 5).await?, 6);

    let (first, second): (i64, i64) = redis::pipe()
        .incr("n", 1)
        .incr("n", 2)
        .query_async(&mut connection)
        .await?;
    assert_eq!((first, second), (1, 3));
    let (old, new): (i64, i64) = redis::pipe()
        .atomic()
        .get("n")
        .incr("n", 10)
        .query_async(&mut connection)
        .await?;
    assert_eq!((old, new), (3, 13));

    let wrong = connection
        .incr::<_, _, i64>("l", 1)
        .await
        .expect_err("a list is no number");
    assert_eq!(wrong.code(), Some("WRONGTYPE"));
    redis::cmd("PING").query_async(&mut connection).await
}
