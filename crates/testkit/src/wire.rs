//! A client's connection: plain or TLS, every read and write bounded in time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use crate::failure::{Mismatch, shown};
use crate::message::{self, Kind, Message};
use crate::scenario::Tls;

/// The longest that a step waits for its peer.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    ended: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    pub fn connect(port: u16) -> Result<Self, Mismatch> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect_timeout(&address, PATIENCE)
            .and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok(socket)
            })
            .map_err(|error| Mismatch::new(format!("a connection to {address}"), said(&error)))?;
        Ok(Self { stream: Stream::Plain(socket), buffer: Vec::new(), ended: false })
    }

    /// Connects and shakes hands; trusts the CA of this file, unless the chain is not to be judged.
    pub fn connect_tls(port: u16, tls: &Tls, ca: &Path) -> Result<Self, Mismatch> {
        let Stream::Plain(mut socket) = Self::connect(port)?.stream else {
            return Err(Mismatch::new("a plain connection", "another one"));
        };
        let config = config(tls, ca).map_err(|error| Mismatch::new("a TLS client", error))?;
        let name = tls.sni.clone().unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
        let failed = |error: String| Mismatch::new("a TLS handshake", error);
        let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
        let mut session = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| failed(error.to_string()))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|error| failed(said(&error)))?;
        while session.is_handshaking() {
            session.complete_io(&mut socket).map_err(|error| failed(said(&error)))?;
        }
        let stream = Stream::Tls(Box::new(StreamOwned::new(session, socket)));
        Ok(Self { stream, buffer: Vec::new(), ended: false })
    }

    /// Sends bytes. That the peer has closed is no failure here: what it answered is judged next.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let sent = match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        match sent {
            Err(error) if timed_out(&error) => {
                Err(Mismatch::new("that the peer reads", "a full socket for 5 s"))
            }
            _ => Ok(()),
        }
    }

    /// The next message; `kind` is told whether the connection has ended.
    pub fn message(&mut self, kind: impl Fn(bool) -> Kind) -> Result<Message, Mismatch> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = message::parse(&self.buffer, kind(self.ended))
                .map_err(|error| Mismatch::new("a well-formed message", error))?;
            if let Some((message, length)) = found {
                self.buffer.drain(..length);
                return Ok(message);
            }
            if self.ended || !self.fill(deadline)? {
                return Err(Mismatch::new("a message", self.so_far()));
            }
        }
    }

    /// The next bytes must be these.
    pub fn exact(&mut self, expected: &[u8]) -> Result<(), Mismatch> {
        let deadline = Instant::now() + PATIENCE;
        while self.buffer.len() < expected.len()
            && expected.starts_with(&self.buffer)
            && !self.ended
            && self.fill(deadline)?
        {}
        if !self.buffer.starts_with(expected) {
            return Err(Mismatch::new(shown(expected), self.so_far()));
        }
        self.buffer.drain(..expected.len());
        Ok(())
    }

    /// So many bytes, whatever they are.
    pub fn take(&mut self, length: usize) -> Result<Vec<u8>, Mismatch> {
        let deadline = Instant::now() + PATIENCE;
        while self.buffer.len() < length {
            if self.ended || !self.fill(deadline)? {
                return Err(Mismatch::new(format!("{length} bytes"), self.so_far()));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// The connection must end, without further bytes.
    pub fn expect_close(&mut self, within: Duration) -> Result<(), Mismatch> {
        let deadline = Instant::now() + within;
        while self.buffer.is_empty() && !self.ended && self.fill(deadline)? {}
        match self.ended && self.buffer.is_empty() {
            true => Ok(()),
            false => Err(Mismatch::new("the end of the connection", self.so_far())),
        }
    }

    /// Neither bytes nor the end may come for so long.
    pub fn expect_silence(&mut self, duration: Duration) -> Result<(), Mismatch> {
        let deadline = Instant::now() + duration;
        while self.buffer.is_empty() && !self.ended && self.fill(deadline)? {}
        match self.ended || !self.buffer.is_empty() {
            false => Ok(()),
            true => Err(Mismatch::new("silence on an open connection", self.so_far())),
        }
    }

    pub fn half_close(&mut self) -> Result<(), Mismatch> {
        let closed = match &mut self.stream {
            Stream::Plain(socket) => socket.shutdown(Shutdown::Write),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        };
        closed.map_err(|error| Mismatch::new("to close one direction", said(&error)))
    }

    /// The names that the peer's certificate is for.
    pub fn certificate_names(&self) -> Option<String> {
        let Stream::Tls(stream) = &self.stream else { return None };
        let certificate = stream.conn.peer_certificates()?.first()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let names = names.value.general_names.iter().map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => (*name).to_owned(),
            other => other.to_string(),
        });
        Some(names.collect::<Vec<_>>().join(", "))
    }

    /// The TLS version and the protocol that ALPN chose.
    pub fn protocol(&self) -> Option<String> {
        let Stream::Tls(stream) = &self.stream else { return None };
        let version = stream.conn.protocol_version()?.as_str()?;
        let chosen = stream.conn.alpn_protocol().unwrap_or(b"none").escape_ascii();
        Some(format!("{version} {chosen}"))
    }

    /// Reads once; false at the deadline.
    fn fill(&mut self, deadline: Instant) -> Result<bool, Mismatch> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut piece = [0; 64 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(socket) => read(socket, left, |socket| socket, &mut piece),
            Stream::Tls(stream) => read(&mut **stream, left, |stream| &stream.sock, &mut piece),
        };
        match read {
            Ok(0) => self.ended = true,
            Ok(length) => self.buffer.extend_from_slice(&piece[..length]),
            Err(error) if timed_out(&error) => return Ok(false),
            // A reset ends a connection as well as a close does.
            Err(_) => self.ended = true,
        }
        Ok(true)
    }

    fn so_far(&self) -> String {
        let state =
            if self.ended { "the end of the connection" } else { "no more within the time" };
        format!("{}, then {state}", shown(&self.buffer))
    }
}

fn read<S: Read>(
    stream: &mut S,
    within: Duration,
    socket: impl Fn(&S) -> &TcpStream,
    piece: &mut [u8],
) -> io::Result<usize> {
    socket(stream).set_read_timeout(Some(within))?;
    stream.read(piece)
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn said(error: &io::Error) -> String {
    error.to_string()
}

/// How a client shakes hands.
pub fn config(tls: &Tls, ca: &Path) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match tls.untrusted {
        true => {
            let verifier = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        false => builder.with_root_certificates(roots(ca)?),
    };
    let mut config = builder.with_no_client_auth();
    config.enable_sni = tls.sni.is_some();
    config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

fn roots(ca: &Path) -> Result<RootCertStore, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| named(&error))? {
        let certificate = certificate.map_err(|error| named(&error))?;
        roots.add(certificate).map_err(|error| named(&error))?;
    }
    Ok(roots)
}

/// Takes every chain, for scenarios that look at something else.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
