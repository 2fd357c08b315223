//! A RESP backend that follows a script: a real TCP server whose every answer the test decides.
//!
//! It serves what no real Redis can be made to do on demand: late, partial and malformed replies, redirections that
//! loop, connections that die in the middle. Each connection has a thread; every byte received is kept.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::reply::{Decoded, Reply, decode};
use crate::wait::until;

/// One request as the backend read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which connection it came on, counted from 0 in order of acceptance.
    pub connection: usize,
    /// Its place among the requests of that connection, from 0.
    pub index: usize,
    /// Its words.
    pub words: Vec<Vec<u8>>,
}

impl Request {
    /// The command name in lower case.
    #[must_use]
    pub fn name(&self) -> String {
        self.word(0).to_ascii_lowercase()
    }

    /// One word as text; empty when there is none.
    #[must_use]
    pub fn word(&self, at: usize) -> String {
        self.words
            .get(at)
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .unwrap_or_default()
    }

    /// All words as one line.
    #[must_use]
    pub fn line(&self) -> String {
        (0..self.words.len())
            .map(|at| self.word(at))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What the backend does about a request, in this order.
#[derive(Debug, Clone)]
pub enum Act {
    /// Writes these bytes, whatever they are.
    Write(Vec<u8>),
    /// Lets time pass before the next act; requests behind this one wait as well.
    Delay(Duration),
    /// Closes the connection.
    Close,
}

impl Act {
    /// One reply in RESP without its final CR LF: `+OK`, `-MOVED 1 host:2`, `$1\r\na`.
    #[must_use]
    pub fn reply(text: &str) -> Vec<Self> {
        vec![Self::Write(format!("{text}\r\n").into_bytes())]
    }

    /// A bulk string.
    #[must_use]
    pub fn bulk(body: &[u8]) -> Vec<Self> {
        vec![Self::Write(Reply::Bulk(Some(body.to_vec())).encode())]
    }
}

type Script = dyn Fn(&Request) -> Vec<Act> + Send + Sync;

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// The bytes of each connection and a handle to end it.
    connections: Mutex<Vec<(Vec<u8>, TcpStream)>>,
    stopping: AtomicBool,
}

/// A port that is bound and not yet served: scripts that name their own address need it first.
pub struct Bound {
    listener: TcpListener,
}

impl Bound {
    /// The address to be served.
    ///
    /// # Panics
    /// When the socket has no address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    /// Starts serving.
    #[must_use]
    pub fn serve(self, script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Backend {
        let addr = self.addr();
        let shared = Arc::new(Shared::default());
        let script: Arc<Script> = Arc::new(script);
        let inner = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&self.listener, &inner, &script));
        Backend {
            addr,
            shared,
            acceptor: Some(acceptor),
        }
    }
}

/// A running scripted backend.
pub struct Backend {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Backend {
    /// Binds a free loopback port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn bind() -> Bound {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port can be bound");
        Bound { listener }
    }

    /// Binds and serves at once.
    #[must_use]
    pub fn start(script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::bind().serve(script)
    }

    /// The address served.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All requests so far, in the order they were read.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Every byte received on one connection.
    #[must_use]
    pub fn bytes(&self, connection: usize) -> Vec<u8> {
        lock(&self.shared.connections)
            .get(connection)
            .map(|c| c.0.clone())
            .unwrap_or_default()
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// Waits until so many requests have been read, and returns them.
    ///
    /// # Panics
    /// When they have not come within ten seconds.
    #[must_use]
    pub fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        until("the backend to get its requests", Duration::from_secs(10), || {
            self.requests().len() >= count
        });
        self.requests()
    }

    /// Closes all connections now; new ones are still accepted.
    pub fn drop_connections(&self) {
        close_all(&self.shared);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the flag.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        close_all(&self.shared);
    }
}

fn close_all(shared: &Shared) {
    for (_, stream) in lock(&shared.connections).iter() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<Script>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        let connection = {
            let mut all = lock(&shared.connections);
            all.push((Vec::new(), handle));
            all.len() - 1
        };
        let (shared, script) = (Arc::clone(shared), Arc::clone(script));
        thread::spawn(move || serve(stream, connection, &shared, &*script));
    }
}

fn serve(mut stream: TcpStream, connection: usize, shared: &Shared, script: &Script) {
    let mut unread = Vec::new();
    let mut buffer = [0; 65536];
    let mut index = 0;
    loop {
        while let Decoded::Reply(frame, taken) = decode(&unread) {
            unread.drain(..taken);
            let request = Request {
                connection,
                index,
                words: words(&frame),
            };
            index += 1;
            lock(&shared.requests).push(request.clone());
            if !perform(&mut stream, script(&request)) {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => {
                lock(&shared.connections)[connection]
                    .0
                    .extend_from_slice(&buffer[..n]);
                unread.extend_from_slice(&buffer[..n]);
            }
            _ => return,
        }
    }
}

/// Does the acts; false when the connection is over.
fn perform(stream: &mut TcpStream, acts: Vec<Act>) -> bool {
    acts.into_iter().all(|act| match act {
        Act::Write(bytes) => stream.write_all(&bytes).is_ok(),
        Act::Delay(time) => {
            thread::sleep(time);
            true
        }
        Act::Close => {
            let _ = stream.shutdown(Shutdown::Both);
            false
        }
    })
}

fn words(frame: &Reply) -> Vec<Vec<u8>> {
    match frame {
        Reply::Array(Some(elements)) => elements.iter().flat_map(words).collect(),
        Reply::Bulk(Some(body)) => vec![body.clone()],
        Reply::Line(line) => line.split(|b| *b == b' ').map(<[u8]>::to_vec).collect(),
        other => vec![other.encode()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, command_bytes};

    #[test]
    fn a_script_decides_every_byte() {
        let backend = Backend::start(|request| match request.name().as_str() {
            "get" => Act::bulk(b"v"),
            "half" => vec![Act::Write(b"$4\r\nab".to_vec()), Act::Close],
            _ => Act::reply("-ERR not in the script"),
        });
        let mut client = Client::connect(backend.addr()).unwrap();
        assert_eq!(client.command(&["GET", "a"]).unwrap().text().unwrap(), "v");
        assert!(client.command(&["X"]).unwrap().is_error());
        client.send(&command_bytes(&["HALF"])).unwrap();
        let (bytes, closed) = client.read_until_close();
        assert_eq!((bytes.as_slice(), closed), (&b"$4\r\nab"[..], true));
        let lines: Vec<String> = backend.requests().iter().map(Request::line).collect();
        assert_eq!(lines, ["GET a", "X", "HALF"]);
        assert!(backend.bytes(0).starts_with(b"*2\r\n$3\r\nGET\r\n"));
    }
}
