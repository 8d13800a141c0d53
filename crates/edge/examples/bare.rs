//! Serves one port to one origin, for measuring: `bare PORT ORIGIN [WORKERS [tls] [h2c]]`, for example
//! `bare 8080 127.0.0.1:9000 1`. With `tls` it makes a certificate of its own; with `h2c` the origin speaks HTTP/2. Ends with
//! its standard input.

use edge::{Config, Edge, EdgeView, KeyTable, Registry};
use model::certificates::CertificatePlan;
use model::dns::DnsPlan;
use model::edge::{
    Action, Attachment, Backend, EdgePlan, FrontEnd, Listener, Match, PathMatch, Protocol, Rank,
    Route, Rule, Target,
};
use model::facts::{Endpoint, EndpointSet};
use model::governance::GovernancePlan;
use model::id::{ListenerId, RuleId, ServicePort};
use model::traffic::{BackendPolicy, BackendProtocol};
use model::{Facts, HostPattern, Kind, Node, ObjectId, Snapshot};
use std::error::Error;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("the port is missing")?.parse()?;
    let origin: SocketAddr = arguments.next().ok_or("the origin is missing")?.parse()?;
    let workers = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let (mut protocol, mut policy) = (Protocol::Http, BackendPolicy::default());
    for word in arguments {
        match word.as_str() {
            "tls" => protocol = Protocol::Https,
            "h2c" => policy.protocol = BackendProtocol::Http2,
            other => return Err(format!("{other} is neither tls nor h2c").into()),
        }
    }
    let registry = Registry::new(workers);
    let view = EdgeView::build(
        &snapshot(port, protocol, policy),
        &facts(origin),
        &keys()?,
        &registry,
        None,
    );
    let views = publish::Cell::new(Arc::new(view));
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers };
    let edge = Edge::start(config, &views, &registry, |_| None)?;
    println!("serving 127.0.0.1:{port} from {origin} with {workers} workers");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    edge.drain(Duration::from_secs(5));
    print!("{}", edge::render_metrics(&registry));
    Ok(())
}

fn service() -> ServicePort {
    ServicePort { namespace: "bare".into(), name: "origin".into(), port: 80 }
}

fn secret() -> ObjectId {
    ObjectId::new(Kind::SECRET, "bare", "certificate")
}

fn keys() -> Result<KeyTable, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Ok(KeyTable::build([(secret(), chain.as_str(), key.as_str())], None).0)
}

fn snapshot(port: u16, protocol: Protocol, policy: BackendPolicy) -> Snapshot {
    let id = ObjectId::new(Kind::HTTP_ROUTE, "bare", "all");
    let path = PathMatch::Prefix("".into());
    let rule = Rule::plain(
        RuleId { object: id.clone(), index: 0, name: None },
        vec![Match { path, conditions: vec![], rank: Rank::default() }],
        Action::Forward(vec![Backend {
            policy: Some(Node::new(policy)),
            ..Backend::plain(1, Target::Service(service()))
        }]),
    );
    let route = Node::new(Route { id, front_end: FrontEnd::GatewayApi, rules: vec![rule] });
    let attachment = Attachment { host: HostPattern::Any, original: HostPattern::Any, route };
    let gateway = ObjectId::new(Kind::GATEWAY, "bare", "gateway");
    let listener = Listener {
        id: ListenerId { object: gateway, section: "http".into() },
        port,
        protocol,
        host: HostPattern::Any,
        certificates: vec![secret()],
        policy: None,
        unmatched: None,
        attachments: vec![attachment],
    };
    Snapshot::new(
        Node::new(EdgePlan { listeners: vec![Node::new(listener)], layer4: Vec::new() }),
        Node::new(DnsPlan::default()),
        Node::new(CertificatePlan::default()),
        Node::new(GovernancePlan::default()),
    )
}

fn facts(address: SocketAddr) -> Facts {
    let endpoint = Endpoint::ready(address, ObjectId::new(Kind::ENDPOINT_SLICE, "bare", "origin"));
    let mut facts = Facts::default();
    facts.endpoints.insert(service(), Arc::new(EndpointSet { endpoints: vec![endpoint] }));
    facts
}
