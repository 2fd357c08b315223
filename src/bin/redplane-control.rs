//! `redplane-control`: the local control plane as a program, for the quickstart and the tests. All it does is in
//! `crates/control`; here are only its flags and what it prints.
//!
//! Stderr carries every remark, fault and NACK; stdout only what `--print` asks for.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgAction, Parser, ValueEnum};
use redplane_control::{Address, Events, Faults, Mode, Options, Server, World, follow, watch};
use tokio::signal::unix::{SignalKind, signal};

/// A local control plane for redplane's quickstart and tests. Not Istiod: no certificates, no HTTP, no cluster.
///
/// Reads a folder of Istio YAML (EnvoyFilter, Service with Endpoints or EndpointSlices, ServiceEntry), serves the
/// listeners, clusters and endpoints in it over ADS, delta and state-of-the-world, and pushes when a file changes.
/// A folder with a fault is reported and not pushed.
#[derive(Parser)]
#[command(name = "redplane-control")]
struct Flags {
    /// The folder with the YAML files; sub-folders are not read.
    #[arg(long)]
    dir: PathBuf,
    /// Where to serve ADS: ip:port, or unix:path.
    #[arg(long, default_value = "127.0.0.1:15010")]
    listen: Address,
    /// How traffic reaches the proxy.
    #[arg(long, value_enum, default_value_t = Interception::Redirect)]
    mode: Interception,
    /// Let listeners open their own port, which they must where no iptables rule redirects to the proxy.
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    bind: bool,
    /// Added to the port of every listener.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    port_offset: i32,
    /// The DNS domain of Kubernetes services.
    #[arg(long, default_value = "cluster.local")]
    domain: String,
    /// The proxy's namespace; without it the EnvoyFilters of every namespace apply.
    #[arg(long)]
    namespace: Option<String>,
    /// A label of the proxy's workload, for workload selectors; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Print the resources as JSON and exit.
    #[arg(long)]
    print: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Interception {
    /// A listener per virtual IP and port.
    Redirect,
    /// A listener per port on 127.0.0.1.
    None,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Flags {
    fn options(&self) -> Options {
        Options {
            mode: match self.mode {
                Interception::Redirect => Mode::Redirect,
                Interception::None => Mode::None,
            },
            bind: self.bind,
            port_offset: self.port_offset,
            domain: self.domain.clone(),
            namespace: self.namespace.clone(),
            labels: self.labels.iter().cloned().collect(),
            ..Options::default()
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redplane-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> anyhow::Result<()> {
    let options = flags.options();
    // Watched before it is read, so that no change falls between.
    let mut changes = watch(&flags.dir).with_context(|| format!("cannot watch {}", flags.dir.display()))?;
    let world = World::with_options(&flags.dir, &options)?;
    report(&world);
    if flags.print {
        println!("{:#}", world.to_json());
        return Ok(());
    }
    let server = Server::bind(&flags.listen, world).await;
    let server = server.with_context(|| format!("cannot listen on {}", flags.listen))?;
    eprintln!("serving {} on {}", flags.dir.display(), server.address());
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        () = follow(&mut changes, &flags.dir, &options, &server, told) => anyhow::bail!("the folder is gone"),
        () = print_events(server.events()) => anyhow::bail!("the server has ended"),
        _ = terminated.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    server.stop().await;
    Ok(())
}

fn told(read: &Result<World, Faults>) {
    match read {
        Ok(world) => report(world),
        Err(faults) => eprintln!("{faults}\nnothing pushed: the last good configuration stays"),
    }
}

fn report(world: &World) {
    for note in world.notes() {
        eprintln!("{note}");
    }
    let (clusters, listeners) = (world.clusters().len(), world.listeners().len());
    eprintln!("read {clusters} clusters and {listeners} listeners");
}

async fn print_events(mut events: Events) {
    while let Some(event) = events.next().await {
        eprintln!("{event}");
    }
}
