//! A real redis-server of one test: started on a free loopback port in cluster mode, ended when dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running server and a connection to it.
pub(crate) struct Server {
    process: Child,
    stream: BufReader<TcpStream>,
    _folder: TempDir,
}

impl Server {
    /// Starts `redis-server`, which must be in PATH, and waits until it says that it is ready.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A cluster node also listens on the port 10000 above.
        let port = loop {
            let free = TcpListener::bind("127.0.0.1:0")
                .expect("a free port")
                .local_addr()
                .expect("bound")
                .port();
            if free < 55_000 {
                break free;
            }
        };
        let mut process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--cluster-enabled", "yes", "--daemonize", "no"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server must be in PATH");
        let log = BufReader::new(process.stdout.take().expect("piped"));
        let mut lines = log.lines().map_while(Result::ok);
        let ready = lines.any(|line| line.contains("Ready to accept connections"));
        assert!(ready, "redis-server ended before it was ready");
        std::thread::spawn(move || lines.for_each(drop));
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("redis-server listens");
        Self {
            process,
            stream: BufReader::new(stream),
            _folder: folder,
        }
    }

    /// Sends a command and reads its reply.
    pub(crate) fn ask(&mut self, args: &[&str]) -> Reply {
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .expect("the server takes it");
        Reply::read(&mut self.stream)
    }
}

impl Reply {
    /// Reads one reply, from the server or from what the crate encodes.
    pub(crate) fn read(stream: &mut impl BufRead) -> Self {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a reply");
        let (kind, rest) = line.trim_end_matches("\r\n").split_at(1);
        let number = || rest.parse::<i64>().expect("a number");
        match kind {
            "+" => Self::Text(rest.to_owned()),
            "-" => Self::Error(rest.to_owned()),
            ":" => Self::Int(number()),
            "*" => Self::Array((0..number().max(0)).map(|_| Self::read(stream)).collect()),
            "$" if rest == "-1" => Self::Text(String::new()),
            "$" => {
                let mut bytes = vec![0; usize::try_from(number()).expect("a length") + 2];
                stream.read_exact(&mut bytes).expect("the whole text");
                bytes.truncate(bytes.len() - 2);
                Self::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => panic!("unknown reply {line:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A RESP2 reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Text(String),
    Error(String),
    Int(i64),
    Array(Vec<Self>),
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => panic!("{other:?} is no text"),
        }
    }

    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("{other:?} is no integer"),
        }
    }

    pub(crate) fn array(&self) -> Vec<Self> {
        match self {
            Self::Array(items) => items.clone(),
            other => panic!("{other:?} is no array"),
        }
    }
}
