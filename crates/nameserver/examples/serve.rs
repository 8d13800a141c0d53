//! Serves one small zone, `example.test`, on the address that is given: `serve 127.0.0.1:0 [UDP sockets]`. Prints the
//! address it got, and ends when its standard input ends.
#![forbid(unsafe_code)]

use model::dns::{DnsPlan, Mx, RecordData, RecordSet, Soa, Zone};
use model::hostname::{BadName, DnsName};
use model::{Hostname, Kind, Node, ObjectId};
use nameserver::{Counters, Service, Sockets};
use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use zone::Zones;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("usage: serve ADDRESS [SOCKETS]")?.parse()?;
    let sockets = Sockets::bind(&[address], arguments.next().map_or(Ok(1), |n| n.parse())?)?;
    for address in sockets.addresses() {
        println!("{address}");
    }
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        // An error of standard input ends us as its end does.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.send_replace(true);
    });
    let zones = Zones::build(&plan()?, &|_, _| 2026, &[], None);
    let cell = publish::Cell::new(Arc::new(zones));
    let service = Service::new(cell, Arc::new(Counters::default()), stopped);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        sockets.serve(&service)?.finished().await;
        Ok(())
    })
}

fn plan() -> Result<DnsPlan, BadName> {
    let name = DnsName::parse;
    let set = |owner: &str, data| Ok(RecordSet { name: name(owner)?, ttl: 300, data });
    let mx = Mx { preference: 10, exchange: name("mail.example.test")? };
    let text = vec![vec![b"a demo zone".to_vec()]];
    let sets = [
        set("example.test", RecordData::Ns(vec![name("ns.example.test")?])),
        set("example.test", RecordData::Mx(vec![mx])),
        set("example.test", RecordData::Txt(text)),
        set("ns.example.test", RecordData::A(vec![[192, 0, 2, 53].into()])),
        set("mail.example.test", RecordData::A(vec![[192, 0, 2, 25].into()])),
        set("www.example.test", RecordData::A(vec![[192, 0, 2, 80].into()])),
        set("*.apps.example.test", RecordData::Cname(name("www.example.test")?)),
    ];
    let zone = Zone {
        id: ObjectId::new(Kind::ZONE, "demo", "example"),
        name: Hostname::parse("example.test")?,
        soa: Soa {
            primary: name("ns.example.test")?,
            mailbox: name("hostmaster.example.test")?,
            refresh: 7200,
            retry: 900,
            expire: 1_209_600,
            negative_ttl: 60,
            ttl: 3600,
        },
        sets: sets.into_iter().collect::<Result<_, _>>()?,
    };
    Ok(DnsPlan { zones: vec![Node::new(zone)] })
}
