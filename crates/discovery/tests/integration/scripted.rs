//! A RESP server whose answers are a function of the command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use redplane_resp::value::{Value, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a server answers: bytes to a command of upper-case words.
pub(crate) type Script = dyn Fn(&[String]) -> Vec<u8> + Send + Sync;

/// A running server; it ends with its value.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    commands: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", script).await
    }

    pub(crate) async fn at(
        address: &str,
        script: impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let commands = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&commands);
        let task = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(stream, Arc::clone(&script), Arc::clone(&counter)));
            }
        });
        Self {
            address,
            commands,
            task,
        }
    }

    /// Commands answered so far.
    pub(crate) fn commands(&self) -> usize {
        self.commands.load(SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, commands: Arc<AtomicUsize>) {
    let mut input = Vec::new();
    while stream.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
        let mut used = 0;
        let mut output = Vec::new();
        while let Ok(Some((command, length))) = decode(&input[used..]) {
            used += length;
            commands.fetch_add(1, SeqCst);
            output.extend(script(&words(&command)));
        }
        input.drain(..used);
        if stream.write_all(&output).await.is_err() {
            return;
        }
    }
}

fn words(command: &Value) -> Vec<String> {
    let text = |word: &Value| String::from_utf8_lossy(word.text().unwrap_or_default()).into_owned();
    let mut words: Vec<String> = command.elements().unwrap_or_default().iter().map(text).collect();
    if let Some(verb) = words.first_mut() {
        verb.make_ascii_uppercase();
    }
    words
}
