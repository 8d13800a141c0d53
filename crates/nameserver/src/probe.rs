//! Asking a server for addresses: what `explain` sees from outside. UDP first, TCP when the answer is cut short.

use model::hostname::DnsName;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use zone::client::{Inquiry, NotAnAnswer, Reply};
use zone::{Rcode, RecordType};

const MESSAGE_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    A,
    Aaaa,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    pub rcode: Rcode,
    pub addresses: Vec<IpAddr>,
    /// The lowest TTL on the way; none without records.
    pub ttl: Option<u32>,
    pub authoritative: bool,
    /// Targets of the CNAME records on the way, in order.
    pub chain: Vec<String>,
}

#[derive(Debug)]
pub enum ProbeError {
    /// Nothing that answers the question came within this time.
    Timeout {
        server: SocketAddr,
        after: Duration,
    },
    Io {
        server: SocketAddr,
        cause: io::Error,
    },
    /// Over TCP, where nobody else can have sent it.
    BadAnswer {
        server: SocketAddr,
        cause: NotAnAnswer,
    },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Timeout { server, after } => {
                write!(f, "the nameserver {server} did not answer within {} ms", after.as_millis())
            }
            ProbeError::Io { server, cause } => {
                write!(f, "the nameserver {server} cannot be reached: {cause}")
            }
            ProbeError::BadAnswer { server, cause } => {
                write!(f, "the nameserver {server} answered wrongly: {cause}")
            }
        }
    }
}

impl std::error::Error for ProbeError {}

/// Asks twice over UDP, as datagrams get lost; `limit` bounds the whole.
pub async fn query(
    server: SocketAddr,
    name: &DnsName,
    family: Family,
    limit: Duration,
) -> Result<ProbeAnswer, ProbeError> {
    let kind = match family {
        Family::A => RecordType::A,
        Family::Aaaa => RecordType::AAAA,
    };
    let inquiry = Inquiry::new(random_id(), name, kind);
    let asked = async {
        let reply = over_udp(server, &inquiry, limit / 2).await?;
        if reply.truncated { over_tcp(server, &inquiry).await } else { Ok(reply) }
    };
    match timeout(limit, asked).await {
        Ok(reply) => reply.map(ProbeAnswer::from),
        Err(_) => Err(ProbeError::Timeout { server, after: limit }),
    }
}

impl From<Reply> for ProbeAnswer {
    fn from(reply: Reply) -> Self {
        ProbeAnswer {
            rcode: reply.rcode,
            addresses: reply.addresses,
            ttl: reply.ttl,
            authoritative: reply.authoritative,
            chain: reply.chain,
        }
    }
}

/// Sends again after `resend_after`, then waits without end: the caller bounds it.
async fn over_udp(
    server: SocketAddr,
    inquiry: &Inquiry,
    resend_after: Duration,
) -> Result<Reply, ProbeError> {
    let fault = |cause| ProbeError::Io { server, cause };
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(fault)?;
    socket.connect(server).await.map_err(fault)?;
    socket.send(inquiry.bytes()).await.map_err(fault)?;
    if let Ok(reply) = timeout(resend_after, own_answer(&socket, inquiry)).await {
        return reply.map_err(fault);
    }
    socket.send(inquiry.bytes()).await.map_err(fault)?;
    own_answer(&socket, inquiry).await.map_err(fault)
}

/// The first datagram that answers this question; others may be forged and say nothing about the server.
async fn own_answer(socket: &UdpSocket, inquiry: &Inquiry) -> io::Result<Reply> {
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Ok(reply) = inquiry.read(buffer.get(..length).unwrap_or_default()) {
            return Ok(reply);
        }
    }
}

async fn over_tcp(server: SocketAddr, inquiry: &Inquiry) -> Result<Reply, ProbeError> {
    let answer =
        exchange(server, inquiry).await.map_err(|cause| ProbeError::Io { server, cause })?;
    inquiry.read(&answer).map_err(|cause| ProbeError::BadAnswer { server, cause })
}

async fn exchange(server: SocketAddr, inquiry: &Inquiry) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message =
        u16::try_from(inquiry.bytes().len()).unwrap_or_default().to_be_bytes().to_vec();
    message.extend_from_slice(inquiry.bytes());
    stream.write_all(&message).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Hard enough to guess for a probe: the keys of std's hasher are random.
fn random_id() -> u16 {
    let [high, low, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    u16::from_be_bytes([high, low])
}
