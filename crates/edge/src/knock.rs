//! Trying an endpoint as a request would reach it, for whoever explains: the connection, the PROXY header and the
//! handshake of its backend, by the same dial, and no request. Then it is listened to for a moment: TLS 1.3 refuses a
//! client's certificate only after the handshake (RFC 8446 section 4.4.2.4), and some programs close at once or begin to
//! speak where an origin waits to be asked.

use crate::dial::{Dial, Security};
use crate::eyeballs::connect_either;
use crate::proxy_protocol;
use crate::tls_client::TlsFault;
use crate::view::Registry;
use model::id::ServicePort;
use model::reach::{Unreachable, Unreached};
use model::traffic::{BackendPolicy, BackendProtocol};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

/// For how long it is listened to.
const LISTENED: Duration = Duration::from_millis(200);
/// The client's connection preface: the line and empty SETTINGS (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Length, type and flags of a frame, and its stream (RFC 9113 section 4.1).
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;

/// An endpoint, and how its backend is connected to.
pub struct Door {
    dial: Arc<Dial>,
    address: SocketAddr,
    alternate: Option<SocketAddr>,
    /// Bytes are led there as they come: what it says, or when it ends, is its own affair.
    is_stream: bool,
}

impl Registry {
    /// The endpoint at an address, which may have another one, as a view connects to it that has this backend.
    pub fn door(
        &self,
        (port, policy): (&ServicePort, Option<&BackendPolicy>),
        (address, alternate): (SocketAddr, Option<SocketAddr>),
        is_stream: bool,
    ) -> Door {
        Door { dial: self.dial(port, policy), address, alternate, is_stream }
    }
}

impl Door {
    /// Connection and handshake together get `patience`.
    pub async fn knock(self, patience: Duration) -> Result<(), Unreached> {
        let end = Instant::now() + patience;
        let too_late = |cause: Unreachable, what: &'static str| {
            move |_: Elapsed| cause.because(format!("{what} within {} s", patience.as_secs_f32()))
        };
        let io = timeout_at(end, self.connect())
            .await
            .map_err(too_late(Unreachable::NotConnected, "nothing came of it"))?
            .map_err(|error| Unreachable::NotConnected.because(error))?;
        match &self.dial.security {
            Security::Plain => listen(io, self.dial.protocol, self.is_stream).await,
            Security::Unusable => {
                let why = "its policy names nobody who could be verified";
                Err(Unreachable::TlsPolicy.because(why))
            }
            Security::Tls(tls) => {
                let silent = "it took the connection and did not complete the handshake";
                let session = timeout_at(end, tls.connect(io))
                    .await
                    .map_err(too_late(Unreachable::TlsSilent, silent))?
                    .map_err(|error| of_tls(&error))?;
                let agreed = match session.get_ref().1.alpn_protocol() {
                    Some(b"h2") => BackendProtocol::Http2,
                    _ => BackendProtocol::Http1,
                };
                listen(session, agreed, self.is_stream).await
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let mut io = connect_either(self.address, self.alternate, tokio::time::sleep).await?;
        if let Some(version) = self.dial.proxy_protocol {
            let header = proxy_protocol::header(version, io.local_addr()?, io.peer_addr()?);
            io.write_all(&header).await?;
        }
        Ok(io)
    }
}

/// Silence is well: an origin of HTTP/1.1 waits, and one of HTTP/2 may be slow.
async fn listen(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    protocol: BackendProtocol,
    is_stream: bool,
) -> Result<(), Unreached> {
    let is_http2 = protocol == BackendProtocol::Http2 && !is_stream;
    let mut said = Vec::with_capacity(FRAME_HEAD);
    let heard = async {
        if is_http2 {
            io.write_all(PREFACE).await?;
            io.flush().await?;
        }
        while said.len() < FRAME_HEAD && io.read_buf(&mut said).await? > 0 {}
        io::Result::Ok(())
    };
    let heard = tokio::time::timeout(LISTENED, heard).await;
    match heard {
        Ok(Err(error)) if of_rustls(&error) => Err(of_tls(&error)),
        _ if is_stream => Ok(()),
        _ if is_http2 && said.len() >= FRAME_HEAD => match said[3] {
            SETTINGS => Ok(()),
            _ => Err(Unreachable::Protocol.because("it speaks no HTTP/2")),
        },
        _ if !is_http2 && !said.is_empty() => {
            Err(Unreachable::Protocol.because("it speaks before it is asked, as no HTTP/1.1 does"))
        }
        Ok(_) => Err(Unreachable::Closes.because("it closes the connection before it is asked")),
        Err(_) => Ok(()),
    }
}

/// Sockets give no such errors.
fn of_rustls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn of_tls(error: &io::Error) -> Unreached {
    let cause = match TlsFault::of(error) {
        TlsFault::Expired => Unreachable::TlsTime,
        TlsFault::Name => Unreachable::TlsName,
        TlsFault::Authority => Unreachable::TlsAuthority,
        TlsFault::Client => Unreachable::TlsClient,
        TlsFault::Refused => Unreachable::TlsRefused,
        TlsFault::Version => Unreachable::TlsVersion,
        TlsFault::Failed => Unreachable::Tls,
    };
    cause.because(error)
}
