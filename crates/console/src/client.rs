//! Asks an instance's admin address.

use crate::server::GUARD_HEADER;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::http::request::Builder;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// A plan of ten thousand routes is a few dozen megabytes.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// Probes of an explanation are bounded well below this.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub enum Error {
    /// Nothing answers at the address.
    NoInstance(SocketAddr, String),
    /// The instance refused; its own words.
    Refused(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoInstance(address, why) => write!(
                f,
                "no instance answers at {address} ({why}); start one with `cutwater up DIR`, name another with --admin, or read a folder with --dir"
            ),
            Error::Refused(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

/// GETs a path, query included.
pub async fn get(address: SocketAddr, path: &str) -> Result<String, Error> {
    ask(address, Request::get(path), PATIENCE).await
}

/// POSTs to a path that changes something.
pub async fn post(address: SocketAddr, path: &str, patience: Duration) -> Result<String, Error> {
    ask(address, Request::post(path).header(GUARD_HEADER, path), patience).await
}

async fn ask(address: SocketAddr, request: Builder, patience: Duration) -> Result<String, Error> {
    let no_instance = |why: String| Error::NoInstance(address, why);
    match tokio::time::timeout(patience, exchange(address, request)).await {
        Ok(Ok((true, body))) => Ok(body),
        Ok(Ok((false, body))) => Err(Error::Refused(message(&body))),
        Ok(Err(error)) => Err(no_instance(error.to_string())),
        Err(_) => Err(no_instance(format!("no answer within {} s", patience.as_secs()))),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(address: SocketAddr, request: Builder) -> Result<(bool, String), AnyError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = request.header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let is_success = response.status().is_success();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes();
        Ok((is_success, String::from_utf8(body.to_vec())?))
    };
    // Its end, which may come together with the last of the answer, shows in the exchange too.
    let driven = async {
        match connection.await {
            Ok(()) => std::future::pending().await,
            Err(error) => error.into(),
        }
    };
    tokio::select! {
        biased;
        result = exchange => result,
        error = driven => Err(error),
    }
}

/// An error's JSON, or whatever else was said.
fn message(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    parsed
        .and_then(|value| value["error"].as_str().map(str::to_owned))
        .unwrap_or_else(|| body.trim().to_owned())
}

/// Percent-encodes a query value, RFC 3986 section 2.3.
pub fn encode(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
