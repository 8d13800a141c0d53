//! Origins of four makes that say in `x-seen` which target they saw, each behind a tap that records both directions.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use peers::Process;
use tempfile::TempDir;

use crate::origin::lock;
use crate::subject::free;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Nginx,
    Haproxy,
    Node,
    Python,
}

impl Make {
    pub const ALL: &[Make] = &[Make::Nginx, Make::Haproxy, Make::Node, Make::Python];

    pub fn name(self) -> &'static str {
        match self {
            Make::Nginx => "nginx",
            Make::Haproxy => "haproxy",
            Make::Node => "node",
            Make::Python => "python",
        }
    }

    fn command(self, folder: &Path, address: SocketAddr) -> Result<Command> {
        match self {
            Make::Nginx => peers::servers::nginx(folder, &nginx(address)),
            Make::Haproxy => peers::servers::haproxy(folder, &haproxy(address)),
            Make::Node => script("node", &folder.join("origin.js"), NODE, address),
            Make::Python => script("python3", &folder.join("origin.py"), PYTHON, address),
        }
    }
}

fn script(program: &str, file: &Path, text: &str, address: SocketAddr) -> Result<Command> {
    fs::write(file, text.replace("PORT", &address.port().to_string()))?;
    let mut command = peers::command(program)?;
    command.arg(file);
    Ok(command)
}

fn nginx(address: SocketAddr) -> String {
    format!(
        "    server {{
        listen {address};
        location / {{
            add_header x-seen $request_uri always;
            return 200 ok;
        }}
    }}
"
    )
}

fn haproxy(address: SocketAddr) -> String {
    format!(
        "defaults
    mode http
    timeout client 60s
    timeout http-request 10s
    timeout http-keep-alive 60s
frontend origin
    bind {address}
    http-request return status 200 content-type text/plain string ok hdr x-seen %[path]
"
    )
}

/// Answers once the body has come.
const NODE: &str = "const http = require('http');
const server = http.createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    response.setHeader('x-seen', request.url);
    response.setHeader('content-length', 2);
    response.end('ok');
  });
});
server.keepAliveTimeout = 60000;
server.listen(PORT, '127.0.0.1');
";

/// The library reads heads; the body is read here, by Transfer-Encoding before Content-Length (RFC 9112 section 6.3).
const PYTHON: &str = "import http.server

class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def answer(self):
        coding = self.headers.get('transfer-encoding')
        if coding is not None:
            if coding.strip().lower() != 'chunked':
                self.send_error(501)
                self.close_connection = True
                return
            while True:
                size = int(self.rfile.readline().split(b';')[0], 16)
                if size == 0:
                    break
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get('content-length', 0)))
        self.send_response(200)
        self.send_header('x-seen', self.path)
        self.send_header('content-length', '2')
        self.end_headers()
        self.wfile.write(b'ok')

    def __getattr__(self, name):
        if name.startswith('do_'):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', PORT), Origin).serve_forever()
";

/// What went over one connection to an origin.
#[derive(Clone, Default)]
pub struct Wire {
    pub to_origin: Vec<u8>,
    pub from_origin: Vec<u8>,
}

/// A recorded connection, and the proxy's end of it.
struct Recorded {
    wire: Arc<Mutex<Wire>>,
    client: TcpStream,
}

/// What an origin has to start.
const READY: Duration = Duration::from_secs(10);

type Wires = Arc<Mutex<Vec<Recorded>>>;

/// An origin behind its tap.
pub struct Tapped {
    pub make: Make,
    /// Of the tap.
    pub address: SocketAddr,
    wires: Wires,
    _process: Process,
    _folder: TempDir,
}

impl Tapped {
    pub fn start(make: Make) -> Result<Tapped> {
        let folder = tempfile::tempdir()?;
        let origin = free()?;
        let mut command = make.command(folder.path(), origin)?;
        let mut process = Process::start(&mut command, folder.path().join("messages"))?;
        let started = process.await_ports(&[origin], READY);
        started.with_context(|| format!("{} did not start", make.name()))?;
        let wires = Wires::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let tapped =
            Tapped { make, address, wires: Arc::clone(&wires), _process: process, _folder: folder };
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                // A connection that cannot be made is closed, as an origin's would be.
                let _ = tap(client, origin, &wires);
            }
        });
        Ok(tapped)
    }

    pub fn host(&self) -> String {
        format!("to-{}.test", self.make.name())
    }

    /// Begins anew: what is recorded from now on counts, on connections that are kept too.
    pub fn forget(&self) {
        for recorded in lock(&self.wires).iter() {
            *lock(&recorded.wire) = Wire::default();
        }
    }

    /// Closes every connection, as an origin may that is not in the middle of an answer.
    pub fn close(&self) {
        for recorded in lock(&self.wires).drain(..) {
            let _ = recorded.client.shutdown(Shutdown::Both);
        }
    }

    /// Connections on which something went.
    pub fn recorded(&self) -> Vec<Wire> {
        let wires = lock(&self.wires);
        let wires = wires.iter().map(|recorded| lock(&recorded.wire).clone());
        wires.filter(|wire| !wire.to_origin.is_empty()).collect()
    }
}

fn tap(client: TcpStream, origin: SocketAddr, wires: &Wires) -> Result<()> {
    let origin = TcpStream::connect(origin)?;
    client.set_nodelay(true)?;
    origin.set_nodelay(true)?;
    let wire = Arc::new(Mutex::new(Wire::default()));
    lock(wires).push(Recorded { wire: Arc::clone(&wire), client: client.try_clone()? });
    let (back_from, back_to, for_back) =
        (origin.try_clone()?, client.try_clone()?, Arc::clone(&wire));
    thread::spawn(move || pump(client, origin, |bytes| lock(&wire).to_origin.extend(bytes)));
    thread::spawn(move || {
        pump(back_from, back_to, |bytes| lock(&for_back).from_origin.extend(bytes))
    });
    Ok(())
}

/// Recorded before it is passed on: who has an answer finds what led to it.
fn pump(mut from: TcpStream, mut to: TcpStream, record: impl Fn(&[u8])) {
    let mut piece = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        record(&piece[..count]);
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
