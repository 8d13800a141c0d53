//! The wire between a process and the one that replaces it: a socket of messages, made by the old process and given to
//! the new one as its standard input. Descriptors travel in the messages (SCM_RIGHTS), so neither process handles a
//! bare descriptor number, and nothing is inherited by accident.
//!
//! ```text
//! old                                  new
//!  ── sockets: kinds, descriptors ──>        (as many messages as are needed)
//!  ── end: how many there were ─────>
//!                                      binds, reads, compiles; accepts nothing
//!  <─ ready: its version ─────────────       or  failed: why
//!  ── go ───────────────────────────>  accepts
//! stops accepting, ends what runs
//! ```
//!
//! Not here: what either side does between the messages (`upgrade` is the old one, `predecessor` the new one).

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// In the environment of a new process; its value is the version of this protocol.
pub const VARIABLE: &str = "CUTWATER_HANDOVER";
pub const VERSION: &str = "1";

/// Linux takes 253 at most (SCM_MAX_FD).
const DESCRIPTORS: usize = 128;
const MESSAGE_BYTES: usize = 16 << 10;

/// Everything that the new process goes on with.
#[derive(Debug, Default)]
pub struct Handed {
    /// Of every port and worker.
    pub edge: Vec<TcpListener>,
    /// Of every port of UDPRoutes and worker.
    pub edge_udp: Vec<UdpSocket>,
    pub dns_udp: Vec<UdpSocket>,
    pub dns_tcp: Vec<TcpListener>,
    pub admin: Option<TcpListener>,
    /// Of the origins of `--echo`.
    pub echo: Vec<TcpListener>,
    /// The claim on the state folder.
    pub claim: Option<File>,
}

impl Handed {
    fn into_named(self) -> Vec<(&'static str, OwnedFd)> {
        let mut named: Vec<(&'static str, OwnedFd)> = Vec::new();
        named.extend(self.edge.into_iter().map(|socket| ("edge", socket.into())));
        named.extend(self.edge_udp.into_iter().map(|socket| ("edge-udp", socket.into())));
        named.extend(self.dns_udp.into_iter().map(|socket| ("dns-udp", socket.into())));
        named.extend(self.dns_tcp.into_iter().map(|socket| ("dns-tcp", socket.into())));
        named.extend(self.admin.into_iter().map(|socket| ("admin", socket.into())));
        named.extend(self.echo.into_iter().map(|socket| ("echo", socket.into())));
        named.extend(self.claim.into_iter().map(|file| ("claim", file.into())));
        named
    }

    fn add(&mut self, name: &str, descriptor: OwnedFd) -> io::Result<()> {
        match name {
            "edge" => self.edge.push(descriptor.into()),
            "edge-udp" => self.edge_udp.push(descriptor.into()),
            "dns-udp" => self.dns_udp.push(descriptor.into()),
            "dns-tcp" => self.dns_tcp.push(descriptor.into()),
            "admin" => self.admin = Some(descriptor.into()),
            "echo" => self.echo.push(descriptor.into()),
            "claim" => self.claim = Some(descriptor.into()),
            // To drop it would lose what waits in it.
            _ => return Err(fault(format!("a descriptor of kind `{name}`, which is not known"))),
        }
        Ok(())
    }
}

/// One end of the socket, which keeps messages apart (SOCK_SEQPACKET). The runtime's type is for a stream: only its
/// waiting is used, sending and receiving are done here.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// The first line says what it is; what follows belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub verb: String,
    pub text: String,
}

impl Channel {
    /// Ours, and the one for the new process.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Channel::new(ours)?, theirs))
    }

    pub fn new(socket: OwnedFd) -> io::Result<Channel> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Channel(UnixStream::from_std(socket)?))
    }

    pub async fn send(&self, verb: &str, text: &str) -> io::Result<()> {
        self.send_with(&format!("{verb}\n{text}"), &[]).await
    }

    /// None when the other process is gone.
    pub async fn receive(&self) -> io::Result<Option<Message>> {
        let (message, descriptors) = self.receive_with().await?;
        match descriptors.is_empty() {
            true => Ok(message),
            false => Err(fault("descriptors where none are expected".to_owned())),
        }
    }

    pub async fn send_sockets(&self, handed: Handed) -> io::Result<()> {
        let named = handed.into_named();
        for part in named.chunks(DESCRIPTORS) {
            let names: Vec<&str> = part.iter().map(|(name, _)| *name).collect();
            let descriptors: Vec<BorrowedFd<'_>> = part.iter().map(|(_, fd)| fd.as_fd()).collect();
            self.send_with(&format!("sockets\n{}", names.join("\n")), &descriptors).await?;
        }
        self.send("end", &named.len().to_string()).await
    }

    pub async fn receive_sockets(&self) -> io::Result<Handed> {
        let mut handed = Handed::default();
        let mut count = 0;
        loop {
            let (message, descriptors) = self.receive_with().await?;
            let message = message.ok_or_else(|| fault("its end too early".to_owned()))?;
            let names: Vec<&str> = message.text.lines().collect();
            match message.verb.as_str() {
                "sockets" if names.len() == descriptors.len() => {
                    count += names.len();
                    for (name, descriptor) in names.into_iter().zip(descriptors) {
                        handed.add(name, descriptor)?;
                    }
                }
                "end" if message.text == count.to_string() => return Ok(handed),
                _ => return Err(fault(format!("`{}` with a wrong number", message.verb))),
            }
        }
    }

    async fn send_with(&self, text: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty()
                && !control.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(fault("more descriptors than fit".to_owned()));
            }
            let bytes = [IoSlice::new(text.as_bytes())];
            rustix::net::sendmsg(&self.0, &bytes, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    async fn receive_with(&self) -> io::Result<(Option<Message>, Vec<OwnedFd>)> {
        self.0.async_io(Interest::READABLE, || receive_now(&self.0)).await
    }
}

fn receive_now(socket: &UnixStream) -> io::Result<(Option<Message>, Vec<OwnedFd>)> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received =
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received,
            // It died with a message of ours unread.
            Err(Errno::CONNRESET) => return Ok((None, Vec::new())),
            Err(error) => return Err(error.into()),
        };
    let descriptors = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        })
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(fault(
            "a message that does not fit, or this process may open too few files (ulimit -n)"
                .to_owned(),
        ));
    }
    let text = String::from_utf8_lossy(&bytes[..received.bytes]);
    let message = text
        .split_once('\n')
        .map(|(verb, text)| Message { verb: verb.to_owned(), text: text.to_owned() });
    Ok((message, descriptors))
}

fn fault(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the hand-over brought {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn sockets(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback")).collect()
    }

    fn addresses(sockets: &[TcpListener]) -> Vec<std::net::SocketAddr> {
        sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect()
    }

    #[test]
    fn all_descriptors_arrive_in_order_however_many() {
        runtime().block_on(async {
            for count in [0, 1, DESCRIPTORS - 2, DESCRIPTORS, 2 * DESCRIPTORS + 3] {
                let (ours, theirs) = Channel::pair().expect("a pair");
                let theirs = Channel::new(theirs).expect("a channel");
                let edge = sockets(count);
                let sent = addresses(&edge);
                let handed = Handed {
                    edge,
                    admin: sockets(1).pop(),
                    edge_udp: vec![UdpSocket::bind("127.0.0.1:0").expect("loopback")],
                    dns_udp: vec![UdpSocket::bind("127.0.0.1:0").expect("loopback")],
                    ..Handed::default()
                };
                let (sending, received) =
                    tokio::join!(ours.send_sockets(handed), theirs.receive_sockets());
                sending.expect("sent");
                let received = received.expect("received");
                assert_eq!(addresses(&received.edge), sent);
                assert!(received.admin.is_some() && received.dns_udp.len() == 1);
                assert_eq!(received.edge_udp.len(), 1);
                assert!(received.echo.is_empty() && received.claim.is_none());
            }
        });
    }

    #[test]
    fn messages_pass_both_ways_until_one_is_gone() {
        runtime().block_on(async {
            let (ours, theirs) = Channel::pair().expect("a pair");
            let theirs = Channel::new(theirs).expect("a channel");
            theirs.send("failed", "two\nlines").await.expect("sent");
            let message = ours.receive().await.expect("received").expect("a message");
            assert_eq!((message.verb.as_str(), message.text.as_str()), ("failed", "two\nlines"));
            ours.send("go", "").await.expect("sent");
            drop(theirs);
            assert_eq!(ours.receive().await.expect("no fault"), None);
            assert!(ours.send("go", "").await.is_err());
        });
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        runtime().block_on(async {
            for (verb, text) in [("end", "1"), ("sockets", "edge"), ("hello", "")] {
                let (ours, theirs) = Channel::pair().expect("a pair");
                let theirs = Channel::new(theirs).expect("a channel");
                ours.send(verb, text).await.expect("sent");
                let error = theirs.receive_sockets().await.expect_err("refused");
                assert!(error.to_string().contains("the hand-over brought"), "{error}");
            }
            let mut handed = Handed::default();
            let socket = sockets(1).pop().expect("one");
            assert!(handed.add("later", socket.into()).is_err());
        });
    }
}
