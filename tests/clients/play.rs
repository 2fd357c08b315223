//! Plays of client libraries in other languages: programs that are run against an address, and that ask for changes of
//! the stage by a word on a line (`restart`, `failover`) and wait until that is done.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use redplane_testkit::repository_root;

use crate::Peers;

/// Everything a play may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A program, and what it is called in messages.
pub(crate) struct Play {
    pub(crate) name: &'static str,
    pub(crate) command: fn(SocketAddr) -> Command,
    /// Whether it can be played against a plain Redis too, and is told so by a last word.
    pub(crate) plain: bool,
}

/// Plays against a plain Redis first, so that what fails behind redplane is not the play's own fault.
pub(crate) fn everywhere(play: &Play) {
    let mut peers = Peers::start();
    if play.plain {
        let address = peers.plain.addr();
        let mut command = (play.command)(address);
        command.arg("plain");
        run(play.name, command, &mut |_| {});
    }
    let mut command = (play.command)(peers.address());
    command.stderr(Stdio::piped());
    run(play.name, command, &mut |word| match word {
        "restart" => peers.restart(),
        "failover" => peers.failover(),
        _ => {}
    });
}

fn run(name: &str, mut command: Command, change: &mut dyn FnMut(&str)) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}. tests/clients/prepare.sh makes the clients ready."));
    let mut errors = child.stderr.take().expect("it is a pipe");
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = std::io::copy(&mut errors, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let watchdog = watch(child.id());
    let mut input = child.stdin.take().expect("it is a pipe");
    let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let mut said = String::new();
    for line in output.lines().map_while(Result::ok) {
        let _ = writeln!(said, "{line}");
        if matches!(line.as_str(), "restart" | "failover") {
            change(&line);
            input.write_all(b"done\n").expect("the play waits for it");
        }
    }
    let status = child.wait().expect("it ends");
    drop(watchdog);
    let errors = errors.join().expect("stderr is read");
    assert!(
        status.success() && said.ends_with("done\n"),
        "{name}: {status}\n{said}\n{errors}"
    );
}

/// Ends a play that hangs.
fn watch(id: u32) -> std::sync::mpsc::Sender<()> {
    let (alive, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let late = ended.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = Command::new("kill").arg(id.to_string()).status();
        }
    });
    alive
}

fn folder() -> PathBuf {
    repository_root().join("tests/clients")
}

fn at(mut command: Command, address: SocketAddr) -> Command {
    command
        .arg(address.ip().to_string())
        .arg(address.port().to_string());
    command
}

pub(crate) fn python(kind: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(repository_root().join(".venv/bin/python"));
    command.arg(folder().join("python/play.py")).arg(kind);
    at(command, address)
}

pub(crate) fn node(file: &str, address: SocketAddr) -> Command {
    // Where the machine has no Node.js of its own, it is beside Python.
    let own = repository_root().join(".venv/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("node");
    command
        .env("PATH", format!("{path}:{}", own.display()))
        .arg(folder().join("node").join(file));
    at(command, address)
}

pub(crate) fn go(address: SocketAddr) -> Command {
    let mut command = Command::new(repository_root().join("tests/.cache/clients/go-redis"));
    command.arg(address.to_string());
    command
}

pub(crate) fn java(class: &str, address: SocketAddr) -> Command {
    let target = folder().join("java/target");
    let libraries = std::fs::read_to_string(target.join("classpath")).unwrap_or_default();
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(format!("{}:{libraries}", target.join("classes").display()))
        .arg(format!("clients.{class}"));
    at(command, address)
}
