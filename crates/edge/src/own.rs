//! Endpoints at which the edge listens itself. What is sent there comes back, and would be sent there again, until the edge
//! has no connection left. So a request is sent to none of its own listeners; bytes may be led to one that speaks HTTP, whose
//! requests go to none. What comes back by way of another machine is not found.

use crate::worker::Worker;
use model::reach::takes;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The ports that a worker listens on, as written in the plan.
#[derive(Default)]
pub(crate) struct OwnPorts {
    pub tcp: BTreeSet<u16>,
    pub udp: BTreeSet<u16>,
}

/// What an endpoint would be sent.
#[derive(Clone, Copy)]
pub(crate) enum Sent {
    Requests,
    Bytes,
    Datagrams,
}

impl Worker {
    /// Asked before a connection is made, never for a request on one that is kept: it costs a few system calls where an
    /// endpoint has the port of a listener on every address.
    pub fn leads_back(
        &self,
        sent: Sent,
        (address, alternate): (SocketAddr, Option<SocketAddr>),
    ) -> bool {
        self.is_own(sent, address) || alternate.is_some_and(|other| self.is_own(sent, other))
    }

    fn is_own(&self, sent: Sent, address: SocketAddr) -> bool {
        let Some(port) = address.port().checked_sub(self.config.port_offset) else { return false };
        let own = self.own_ports.borrow();
        let is_open = match sent {
            Sent::Requests => own.tcp.contains(&port),
            Sent::Bytes => own.tcp.contains(&port) && self.view().streams().has_tcp(port),
            Sent::Datagrams => own.udp.contains(&port),
        };
        let bound = SocketAddr::new(self.config.bind, address.port());
        is_open && takes(bound, address, is_of_this_machine)
    }
}

/// The system sends to its own addresses from the same. Connecting a socket of UDP asks for the route and sends nothing.
fn is_of_this_machine(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    /// The discard service; any port would do.
    const DISCARD: u16 = 9;
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, DISCARD))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_this_machine_where_it_is_sent_to_from_itself() {
        for (address, expected) in [
            ("127.0.0.1", true),
            // For documentation (RFC 5737, RFC 3849): nobody has them.
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(is_of_this_machine(address), expected, "{address}");
        }
    }
}
