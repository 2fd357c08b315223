//! Serves resources out of one JSON file over ADS, and changes one cluster whenever it is told to.
//!
//! `fleet FILE`: FILE holds `clusters`, `endpoints` and `listeners` in proto-JSON. It prints `serving IP:PORT`, then a
//! line for every event on a stream. A line on stdin gives the next cluster another connect timeout and pushes it.
//! `benches/push.sh` measures proxies with it.

use std::net::{Ipv4Addr, SocketAddr};

use redplane_control::{Address, Events, Server, World};
use redplane_proto::Json;
use redplane_proto::pb::google::protobuf::Duration;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("usage: fleet FILE")?;
    let mut world = read(&file)?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(&Address::Tcp(any_port), world.clone()).await?;
    println!("serving {}", server.address());
    tokio::spawn(print(server.events()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut changes = 0;
    while lines.next_line().await?.is_some() {
        changes += 1;
        world = changed(&world, changes);
        println!("pushed {}", server.publish(world.clone()));
    }
    server.stop().await;
    Ok(())
}

fn read(file: &str) -> Result<World, Failure> {
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let json = Json::load();
    let mut list = |name: &str| match value[name].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    let (clusters, endpoints, listeners) = (list("clusters"), list("endpoints"), list("listeners"));
    Ok(World::of(
        clusters
            .iter()
            .map(|v| json.message(v))
            .collect::<Result<_, _>>()?,
        endpoints
            .iter()
            .map(|v| json.message(v))
            .collect::<Result<_, _>>()?,
        listeners
            .iter()
            .map(|v| json.message(v))
            .collect::<Result<_, _>>()?,
    ))
}

/// Another connect timeout for one cluster, each time for another one.
fn changed(world: &World, change: usize) -> World {
    let mut clusters = world.clusters().to_vec();
    let count = clusters.len().max(1);
    if let Some(cluster) = clusters.get_mut(change * 7919 % count) {
        cluster.connect_timeout = Some(Duration {
            seconds: 5 + change as i64,
            nanos: 0,
        });
    }
    World::of(clusters, world.endpoints().to_vec(), world.listeners().to_vec())
}

async fn print(mut events: Events) {
    while let Some(event) = events.next().await {
        println!("{event}");
    }
}
