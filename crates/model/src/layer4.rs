//! What the edge serves below HTTP: listeners of TLS that is passed through or ended, of TCP and of UDP, with the routes
//! that lead connections and datagrams on. Pure data of the plan; `routing` chooses by it, `edge` carries it out.

use crate::edge::{Backend, Target};
use crate::front::ListenerPolicy;
use crate::id::{ListenerId, RuleId, ServicePort};
use crate::{HostPattern, Node, ObjectId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// The server's name decides, and the handshake is the backend's.
    TlsPassthrough,
    /// TLS ends here, and the backend gets what was inside.
    TlsTerminate,
    Tcp,
    Udp,
}

impl Transport {
    pub const fn is_tls(self) -> bool {
        matches!(self, Transport::TlsPassthrough | Transport::TlsTerminate)
    }

    /// As manifests write the protocol of a listener.
    pub const fn protocol(self) -> &'static str {
        match self {
            Transport::TlsPassthrough | Transport::TlsTerminate => "TLS",
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        }
    }
}

/// One host pattern on one port; any host for TCP and UDP, where nobody names one. Listeners of TLS share their port
/// with those of HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    pub id: ListenerId,
    /// As written (5432); the shell adds the port offset.
    pub port: u16,
    pub transport: Transport,
    pub host: HostPattern,
    /// Secrets in order of preference; empty unless TLS ends here.
    pub certificates: Vec<ObjectId>,
    /// Who may connect, what comes first on a connection, and what its handshake may come to. The rest is for requests.
    pub policy: Option<Box<ListenerPolicy>>,
    /// In order of precedence: the first whose host matches takes the connection, and no other does.
    pub attachments: Vec<Attachment>,
}

/// A route attached to a listener for one of its hostnames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// What both the listener and the route want.
    pub host: HostPattern,
    pub route: Node<Route>,
}

/// The one rule of a TLSRoute, TCPRoute or UDPRoute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub rule: RuleId,
    /// By weight. The share of an invalid one is refused.
    pub backends: Vec<Backend>,
}

impl Route {
    pub fn id(&self) -> &ObjectId {
        &self.rule.object
    }

    /// The Service ports that it leads to.
    pub fn ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.backends.iter().filter_map(|backend| match &backend.target {
            Target::Service(port) => Some(port),
            Target::Invalid { .. } => None,
        })
    }
}
