//! The origin behind the clients: a page with what it refers to, answers of every framing, and what was asked for.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use testkit::message::{self, Kind, Message};

const PATIENCE: Duration = Duration::from_secs(120);
pub const LARGE_BYTES: usize = 1 << 20;
/// A hundred numbered pieces: the numbers have 190 digits.
pub const CHUNKED_BYTES: usize = 100 * "piece \n".len() + 190;

/// Ends with the process.
pub struct Origin {
    pub address: SocketAddr,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Origin {
    pub fn start() -> io::Result<Origin> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let for_thread = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&for_thread);
                // A connection that ends early is what the client sees.
                thread::spawn(move || serve(stream, &asked));
            }
        });
        Ok(Origin { address, asked })
    }

    /// How often a path was asked for so far.
    pub fn asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(path).copied().unwrap_or(0)
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<BTreeMap<String, usize>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut held = Vec::new();
    loop {
        let parsed = message::parse(&held, Kind::Request).map_err(io::Error::other)?;
        let Some((request, length)) = parsed else {
            let mut piece = [0; 64 << 10];
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                count => held.extend_from_slice(&piece[..count]),
            }
            continue;
        };
        held.drain(..length);
        if let Some((_, path)) = request.request() {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            *asked.entry(path.to_owned()).or_default() += 1;
        }
        stream.write_all(&answer(&request))?;
    }
}

fn answer(request: &Message) -> Vec<u8> {
    let (method, path) = request.request().unwrap_or(("GET", "/"));
    let bytes = match path {
        "/" => whole("text/html", PAGE),
        "/style.css" => whole("text/css", b"body { color: black }"),
        "/script.js" => whole("text/javascript", SCRIPT),
        "/data.json" => whole("application/json", b"{\"answer\": 42}"),
        "/large" => whole("application/octet-stream", &vec![b'x'; LARGE_BYTES]),
        "/chunked" => chunked(),
        "/empty" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/missing" => b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnone\n".to_vec(),
        // What was sent, and what arrived of it.
        "/length" => whole("text/plain", format!("{method} {}", request.body.len()).as_bytes()),
        "/echo" => whole("application/octet-stream", &request.body),
        _ => whole("text/plain", path.as_bytes()),
    };
    match method {
        "HEAD" => head_of(bytes),
        _ => bytes,
    }
}

const PAGE: &[u8] =
    b"<!doctype html><html><head><title>A page</title><link rel=stylesheet href=/style.css>\
<script src=/script.js></script></head><body><p id=told>not yet</p></body></html>";

/// Asks for more, and writes what came into the page.
const SCRIPT: &[u8] = b"addEventListener('load', async () => {
  const data = await (await fetch('/data.json')).json();
  const posted = await (await fetch('/length', {method: 'POST', body: 'x'.repeat(5000)})).text();
  document.getElementById('told').textContent = `answer ${data.answer}, ${posted}`;
});";

/// With a line for browsers' sake, whose absence testssl.sh would hold against the edge.
fn whole(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-content-type-options: nosniff\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn chunked() -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for index in 0..100 {
        let piece = format!("piece {index}\n");
        bytes.extend(format!("{:x}\r\n{piece}\r\n", piece.len()).bytes());
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

fn head_of(mut answer: Vec<u8>) -> Vec<u8> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    answer.truncate(end.map_or(answer.len(), |at| at + 4));
    answer
}
