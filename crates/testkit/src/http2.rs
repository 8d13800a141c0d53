//! A client's HTTP/2 connection, with prior knowledge or over TLS. Requests may be sent before earlier
//! ones are answered; answers are taken in the order of the requests.

use std::collections::VecDeque;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::failure::Mismatch;
use crate::message::{self, Kind, Message};
use crate::scenario::Tls;
use crate::wire::{PATIENCE, config};

pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    scheme: &'static str,
    pending: VecDeque<ResponseFuture>,
    /// The body of the next request.
    pub content: Option<Vec<u8>>,
}

impl Http2 {
    pub fn connect(port: u16, tls: Option<&Tls>, ca: &Path) -> Result<Self, Mismatch> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Mismatch::new("a runtime", error.to_string()))?;
        let sender = runtime.block_on(within(async {
            let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(said)?;
            match tls {
                None => handshake(socket).await,
                Some(tls) => {
                    let connector = TlsConnector::from(Arc::new(config(tls, ca)?));
                    let name = tls.sni.clone().unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
                    let name = ServerName::try_from(name).map_err(said)?;
                    handshake(connector.connect(name, socket).await.map_err(said)?).await
                }
            }
        }));
        let sender = sender.map_err(|error| Mismatch::new("an HTTP/2 connection", error))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self { runtime, sender, scheme, pending: VecDeque::new(), content: None })
    }

    /// Sends a request whose head is written as HTTP/1 would.
    pub fn request(&mut self, head: &[u8]) -> Result<(), Mismatch> {
        let content = self.content.take();
        let request = request(head, self.scheme)
            .map_err(|error| Mismatch::new("a request that HTTP/2 can carry", error))?;
        let sender = self.sender.clone();
        let sent = self.runtime.block_on(within(async move {
            let mut sender = sender.ready().await.map_err(said)?;
            let (response, mut stream) =
                sender.send_request(request, content.is_none()).map_err(said)?;
            if let Some(content) = content {
                stream.send_data(content.into(), true).map_err(said)?;
            }
            Ok(response)
        }));
        self.pending.push_back(sent.map_err(|error| Mismatch::new("to send a request", error))?);
        Ok(())
    }

    /// The answer to the first request that has none yet.
    pub fn answer(&mut self) -> Result<Message, Mismatch> {
        let response =
            self.pending.pop_front().ok_or_else(|| Mismatch::new("a request before", "none"))?;
        let read = async { message_of(response.await.map_err(said)?).await };
        self.runtime.block_on(within(read)).map_err(|error| Mismatch::new("a response", error))
    }
}

async fn handshake(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Bytes>, String> {
    let (sender, connection) = h2::client::handshake(io).await.map_err(said)?;
    // Its errors are those of the requests that it carries.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn request(head: &[u8], scheme: &str) -> Result<http::Request<()>, String> {
    let (head, _) = message::parse(head, Kind::HeadOnly)?.ok_or("the head is not whole")?;
    let (method, target) = head.request().ok_or("the request line is malformed")?;
    let authority = head.values("host").next().ok_or("no Host")?;
    let uri = format!("{scheme}://{authority}{target}");
    let fields = head.headers.iter().filter(|(name, _)| name != "Host");
    let request = http::Request::builder().method(method).uri(uri);
    let request = fields.fold(request, |request, (name, value)| request.header(name, value));
    request.body(()).map_err(said)
}

async fn message_of(response: http::Response<h2::RecvStream>) -> Result<Message, String> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(said)?;
        stream.flow_control().release_capacity(data.len()).map_err(said)?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await.map_err(said)?;
    Ok(Message {
        start_line: format!("HTTP/2 {}", head.status.as_str()),
        headers: fields(&head.headers),
        body,
        trailers: trailers.as_ref().map(fields).unwrap_or_default(),
    })
}

fn fields(map: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect();
    map.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

async fn within<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| Err("nothing within 5 s".to_owned()))
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
