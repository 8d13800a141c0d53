//! HTTP/2 with prior knowledge, by hyper. `/close` resets the stream, since the connection carries
//! others.

use std::future::poll_fn;
use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::answer::{BodyMeter, Field, Received, answer, too_large};
use crate::body::Content;
use crate::plan::Plan;
use crate::{Stop, limits};

pub(crate) async fn serve(
    io: TcpStream,
    first: BytesMut,
    name: Arc<str>,
    stop: &mut Stop,
) -> io::Result<()> {
    let (read, write) = io.into_split();
    let io = TokioIo::new(tokio::io::join(Cursor::new(first).chain(read), write));
    let service = service_fn(move |request| respond(request, name.clone()));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS)
        .keep_alive_interval(limits::IDLE)
        .serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served.map_err(io::Error::other),
        () = stop.wait() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(io::Error::other)
}

async fn respond(request: Request<Incoming>, name: Arc<str>) -> io::Result<Response<Content>> {
    let (head, mut body) = request.into_parts();
    let mut meter = BodyMeter::new();
    let mut trailers = Vec::new();
    while let Some(frame) = next_frame(&mut body).await? {
        match frame.into_data() {
            Ok(data) => {
                if meter.add(&data).is_err() {
                    return Ok(too_large());
                }
            }
            Err(frame) => trailers.extend(frame.trailers_ref().map(fields).unwrap_or_default()),
        }
    }
    let target = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), |p| p.to_string());
    let received = Received {
        name: name.to_string(),
        method: head.method.to_string(),
        protocol: "HTTP/2.0",
        headers: authority(&head.uri).into_iter().chain(fields(&head.headers)).collect(),
        body: meter.finish(),
        trailers,
        target,
    };
    answer(Plan::of(&received.target), &received)
        .await
        .ok_or_else(|| io::Error::other("the path asks for no answer"))
}

async fn next_frame(body: &mut Incoming) -> io::Result<Option<hyper::body::Frame<bytes::Bytes>>> {
    let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
    timeout(limits::READ, frame).await?.transpose().map_err(io::Error::other)
}

/// The authority is shown under its name on the wire, RFC 9113 section 8.3.1.
fn authority(uri: &http::Uri) -> Option<Field> {
    uri.authority().map(|authority| (":authority".to_owned(), authority.to_string()))
}

fn fields(headers: &HeaderMap) -> Vec<Field> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}
