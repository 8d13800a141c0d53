//! Connecting to an endpoint that has an address of each family (RFC 8305): when the first does not answer soon, the
//! second is tried beside it, and the first connection counts. An endpoint with one address is connected to as ever.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// RFC 8305 section 5, Connection Attempt Delay.
const HEAD_START: Duration = Duration::from_millis(250);

/// A connection to either address. `sleep` is asked for one wait at most, and only where there are two.
pub async fn connect_either(
    first: SocketAddr,
    second: Option<SocketAddr>,
    sleep: impl FnOnce(Duration) -> Sleep,
) -> io::Result<TcpStream> {
    match second {
        None => TcpStream::connect(first).await,
        // Boxed: few endpoints have two.
        Some(second) => Box::pin(race(first, second, sleep(HEAD_START))).await,
    }
}

async fn race(first: SocketAddr, second: SocketAddr, head_start: Sleep) -> io::Result<TcpStream> {
    let mut one = pin!(TcpStream::connect(first));
    tokio::select! {
        connected = &mut one => return match connected {
            Ok(io) => Ok(io),
            Err(_) => TcpStream::connect(second).await,
        },
        () = head_start => {}
    }
    let mut two = pin!(TcpStream::connect(second));
    tokio::select! {
        connected = &mut one => match connected {
            Ok(io) => Ok(io),
            Err(_) => two.await,
        },
        connected = &mut two => match connected {
            Ok(io) => Ok(io),
            Err(_) => one.await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    /// Nobody listens there.
    fn closed() -> SocketAddr {
        listener().1
    }

    /// A listener whose queue is full answers no SYN.
    fn silent() -> (socket2::Socket, SocketAddr, Vec<std::net::TcpStream>) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        socket.listen(0).expect("it listens");
        let address = socket.local_addr().expect("bound").as_socket().expect("an address");
        let patience = Duration::from_millis(200);
        let queued =
            (0..8).map_while(|_| std::net::TcpStream::connect_timeout(&address, patience).ok());
        let queued = queued.collect();
        (socket, address, queued)
    }

    #[test]
    fn whichever_takes_the_connection() {
        let (_held, open) = listener();
        let (_socket, silent, _queued) = silent();
        for (first, second, expected) in [
            (open, None, Some(open)),
            (closed(), None, None),
            (closed(), Some(open), Some(open)),
            (open, Some(closed()), Some(open)),
            (silent, Some(open), Some(open)),
            (closed(), Some(closed()), None),
        ] {
            let connected = run(connect_either(first, second, tokio::time::sleep));
            let peer = connected.ok().and_then(|io| io.peer_addr().ok());
            assert_eq!(peer, expected, "{first} {second:?}");
        }
    }
}
