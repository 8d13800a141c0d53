//! The record of one request, for an access log. A worker that has no [`Recorder`] builds none.

use crate::client_certificate::ClientCertificate;
use crate::connection::Connection;
use model::Digest;
use model::id::RuleId;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

/// Everything that is known when a request is over, or a connection that was led on as bytes: then without what belongs
/// to a request. Borrowed from the connection's buffers.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// Empty for what is no request.
    pub request_id: &'a str,
    pub started: SystemTime,
    /// The other end of the connection, or the one that a PROXY header tells of.
    pub client: SocketAddr,
    /// Who asks by the word of a proxy that is believed, where it is not `client`.
    pub told: Option<IpAddr>,
    /// Who sent the PROXY header.
    pub proxy: Option<SocketAddr>,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`; `tcp`, `tls` or `udp`.
    pub protocol: &'static str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The listener's port as written in its manifest.
    pub port: u16,
    pub method: &'a [u8],
    /// In lower case, without the port. Method, host and path are empty for a message that is no request.
    pub host: &'a str,
    /// In normal form, without the query.
    pub path: &'a [u8],
    /// What the client was sent; 0 when it went away before a status was known.
    pub status: u16,
    pub rule: Option<&'a RuleId>,
    /// The last one that was tried.
    pub endpoint: Option<SocketAddr>,
    /// Attempts at endpoints; 0 where the edge answered itself.
    pub attempts: u32,
    /// Why the edge answered itself, or gave up: a slug.
    pub refusal: Option<&'static str>,
    pub total: Duration,
    /// Making the connection to the endpoint; absent when one was there.
    pub connect: Option<Duration>,
    /// From the request's head to the response's head.
    pub first_byte: Option<Duration>,
    /// Bytes of bodies, as the client sent and received them, without framing.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub tls: Option<&'a TlsFacts>,
}

/// What a handshake settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: &'static str,
    /// In lower case.
    pub server_name: Option<String>,
    /// Where the listener asks clients for certificates.
    pub(crate) asked: Option<Box<Asked>>,
}

/// What asking a client for its certificate came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Whose certificates counted when the connection was made.
    pub trust: Digest,
    pub certificate: Option<ClientCertificate>,
}

impl TlsFacts {
    /// That was found valid.
    pub fn client(&self) -> Option<&ClientCertificate> {
        self.asked.as_ref()?.certificate.as_ref()
    }
}

/// Takes records on the worker's own thread: it must neither block nor take long.
pub trait Recorder: Send {
    fn record(&mut self, record: &AccessRecord<'_>);
}

/// What is gathered while a request runs.
pub(crate) struct Trace {
    pub started: Instant,
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub endpoint: Option<SocketAddr>,
    pub attempts: u32,
    pub status: u16,
    pub refusal: Option<&'static str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Trace {
    pub fn new(started: Instant) -> Trace {
        Trace {
            started,
            connect: None,
            first_byte: None,
            endpoint: None,
            attempts: 0,
            status: 0,
            refusal: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// All but what the request's head says.
    pub fn record<'a>(
        &'a self,
        connection: &'a Connection,
        protocol: &'static str,
        request_id: &'a str,
        total: Duration,
    ) -> AccessRecord<'a> {
        AccessRecord {
            request_id,
            started: SystemTime::now() - total,
            client: connection.peer,
            told: None,
            proxy: connection.proxy(),
            protocol,
            scheme: connection.scheme_name(),
            port: connection.port,
            method: b"",
            host: "",
            path: b"",
            status: self.status,
            rule: None,
            endpoint: self.endpoint,
            attempts: self.attempts,
            refusal: self.refusal,
            total,
            connect: self.connect,
            first_byte: self.first_byte,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            tls: connection.tls.as_ref(),
        }
    }
}
