//! An origin that speaks HTTP/2 by the `h2` crate, in the clear or over TLS, and the client of the tests.

#![allow(dead_code)]

use super::PATIENCE;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub requests: AtomicUsize,
    /// Bytes that `/flood` could send.
    pub flooded: AtomicUsize,
    /// Answers that ended in an error.
    pub cut: AtomicUsize,
}

pub struct Http2Origin {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
}

#[derive(Clone, Copy, Default)]
pub struct Manner {
    pub max_streams: Option<u32>,
    /// The first connection is told that its requests were not processed.
    pub goes_away: bool,
}

impl Http2Origin {
    pub fn start(manner: Manner) -> Http2Origin {
        let seen = Arc::new(Seen::default());
        let held = Arc::clone(&seen);
        let address = listen(move |io| connection(io, manner, Arc::clone(&held)));
        Http2Origin { address, seen }
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }
}

/// Serves each connection in a task of a thread of its own, until the process ends.
pub fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + 'static,
{
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let set = tokio::task::LocalSet::new();
        set.block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((io, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(io));
            }
        });
    });
    address
}

pub async fn connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    mut io: S,
    manner: Manner,
    seen: Arc<Seen>,
) {
    if seen.connections.fetch_add(1, SeqCst) == 0 && manner.goes_away {
        return go_away(&mut io, 0).await;
    }
    let mut builder = h2::server::Builder::new();
    manner.max_streams.map(|max| builder.max_concurrent_streams(max));
    let Ok(mut http2) = builder.handshake::<_, Bytes>(io).await else { return };
    while let Some(Ok((request, respond))) = http2.accept().await {
        seen.requests.fetch_add(1, SeqCst);
        if request.uri().path() == "/last" {
            http2.graceful_shutdown();
        }
        tokio::task::spawn_local(answer(request, respond, Arc::clone(&seen)));
    }
}

/// Takes a request, its body too, and says by GOAWAY which stream was the last that it looked at (RFC 9113 section 6.8):
/// none, or the first; then it ends the connection.
pub async fn go_away<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, last: u32) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    io.read_exact(&mut [0; 24]).await.unwrap();
    io.write_all(&SETTINGS).await.unwrap();
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        io.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] <= HEADERS && head[4] & END_STREAM != 0 {
            break;
        }
    }
    io.write_all(&[&GOAWAY[..], &last.to_be_bytes(), &[0; 4]].concat()).await.unwrap();
    if last == 0 {
        let _ = io.read_to_end(&mut Vec::new()).await;
    }
}

/// By the path of the request. What fails here fails in the client's eyes too.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, seen: Arc<Seen>) {
    let path = request.uri().path().to_owned();
    let answered = match path.as_str() {
        "/echo" | "/last" => echo(request, respond).await,
        "/trailers-only" => {
            let response = Response::builder().header("grpc-status", "5").body(()).unwrap();
            respond.send_response(response, true).map(|_| ())
        }
        "/unavailable" => {
            let response = Response::builder().status(503).body(()).unwrap();
            respond.send_response(response, true).map(|_| ())
        }
        "/refuse" => {
            respond.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        }
        "/reset" => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/truncate" => {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let _ = send.send_data(Bytes::from_static(b"half"), false);
            tokio::time::sleep(Duration::from_millis(50)).await;
            send.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/half" => half(&request, respond).await,
        "/short" => {
            let response = Response::builder().header("content-length", "10").body(()).unwrap();
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data(Bytes::from_static(b"half"), true)
        }
        "/hints" => {
            let hints = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
            respond.send_informational(hints).unwrap();
            echo(request, respond).await
        }
        "/more-hints" => {
            for link in ["</a>", "</b>", "</c>"] {
                let hints = Response::builder().status(103).header("link", link).body(()).unwrap();
                respond.send_informational(hints).unwrap();
            }
            echo(request, respond).await
        }
        "/wait" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            echo(request, respond).await
        }
        "/never" => {
            tokio::time::sleep(PATIENCE).await;
            Ok(())
        }
        // How servers of gRPC say that a call has failed.
        "/unknown" => unknown(respond),
        // As they do when the client's time is over.
        "/gives-up" => {
            tokio::time::sleep(Duration::from_millis(60)).await;
            respond.send_reset(h2::Reason::CANCEL);
            Ok(())
        }
        "/flood" => flood(respond, &seen).await,
        _ => describe(&request, respond),
    };
    if answered.is_err() {
        seen.cut.fetch_add(1, SeqCst);
    }
}

fn unknown(mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "12")
        .body(())
        .unwrap();
    respond.send_response(response, true).map(|_| ())
}

/// The head as text.
fn describe(
    request: &Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let response = Response::builder().header("content-length", text.len()).body(()).unwrap();
    respond.send_response(response, false)?.send_data(text.into(), true)
}

/// Head first, then each piece as it comes, then the trailers with one more.
async fn echo(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let te = request.headers().get("te").cloned();
    let mut body = request.into_body();
    let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut send = respond.send_response(response, false)?;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let length = piece.len();
        send_all(&mut send, piece).await?;
        body.flow_control().release_capacity(length)?;
    }
    let mut trailers = body.trailers().await?.unwrap_or_default();
    trailers.insert("grpc-status", "0".parse().unwrap());
    te.map(|te| trailers.insert("x-te", te));
    send.send_trailers(trailers)
}

/// A head with the fields that the request has with `x-` before them, 500 bytes, and nothing more.
async fn half(
    request: &Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    for name in ["content-type", "content-length"] {
        let asked = request.headers().get(format!("x-{name}"));
        asked.map(|value| response.headers_mut().insert(name, value.clone()));
    }
    let mut send = respond.send_response(response, false)?;
    send_all(&mut send, Bytes::from_static(&[b'x'; 500])).await?;
    poll_fn(|cx| send.poll_reset(cx)).await.map(|_| ())
}

pub const FLOOD_BYTES: usize = 4 << 20;

async fn flood(mut respond: SendResponse<Bytes>, seen: &Seen) -> Result<(), h2::Error> {
    let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut send = respond.send_response(response, false)?;
    while seen.flooded.load(SeqCst) < FLOOD_BYTES {
        send_all(&mut send, Bytes::from_static(&[7; 16 << 10])).await?;
        seen.flooded.fetch_add(16 << 10, SeqCst);
    }
    send.send_data(Bytes::new(), true)
}

pub async fn send_all(send: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(capacity) => send.send_data(data.split_to(capacity?.min(data.len())), false)?,
            None => return Err(Reason::CANCEL.into()),
        }
    }
    Ok(())
}

/// Runs a client's part over HTTP/2, bounded in time.
pub fn client<F: Future>(port: u16, run: impl FnOnce(SendRequest<Bytes>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let io = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        tokio::time::timeout(PATIENCE, run(send)).await.expect("in time")
    })
}

pub async fn body(response: Response<RecvStream>) -> (Vec<u8>, Option<HeaderMap>) {
    let mut stream = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (bytes, stream.trailers().await.unwrap())
}
