//! Plays the steps of a DNS client, over UDP or TCP (RFC 7766).

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::actions::DnsAction;
use crate::client::Entry;
use crate::dns::{Reply, record_matches};
use crate::failure::{Failure, Mismatch, shown};
use crate::scenario::{Endpoint, Step};
use crate::text::Variables;
use crate::wire::{PATIENCE, Wire};

pub struct DnsClient {
    transport: Transport,
    last_id: u16,
    reply: Reply,
}

enum Transport {
    Udp(UdpSocket),
    Tcp(Wire),
}

impl DnsClient {
    pub fn connect(endpoint: &Endpoint, entry: &Entry) -> Result<Self, Mismatch> {
        let transport = match endpoint {
            Endpoint::Udp { port } => Transport::Udp(udp(entry.bound(*port))?),
            Endpoint::DnsTcp { port } => Transport::Tcp(Wire::connect(entry.bound(*port))?),
            _ => return Err(Mismatch::new("a DNS endpoint", "another one")),
        };
        Ok(Self { transport, last_id: 0x1000, reply: Reply::default() })
    }

    pub fn play(
        &mut self,
        steps: &[Step<DnsAction>],
        variables: &Variables,
    ) -> Result<(), Failure> {
        for step in steps {
            self.act(&step.action, variables)
                .map_err(|mismatch| mismatch.at(step.line, &step.text))?;
        }
        Ok(())
    }

    fn act(&mut self, action: &DnsAction, variables: &Variables) -> Result<(), Mismatch> {
        match action {
            DnsAction::Query(question) => {
                self.last_id += 1;
                let query = question.encode(self.last_id);
                self.send(&query.map_err(|error| Mismatch::new("a query", error))?)
            }
            DnsAction::SendHex(bytes) => {
                if let [high, low, ..] = bytes.as_slice() {
                    self.last_id = u16::from_be_bytes([*high, *low]);
                }
                self.send(bytes)
            }
            DnsAction::Reply { code, flags } => self.expect(code, flags),
            DnsAction::Record { section, record } => {
                let expected = record.expand_text(variables)?;
                let records = self.reply.section(section);
                match records.iter().any(|record| record_matches(&expected, record)) {
                    true => Ok(()),
                    false => Err(Mismatch::new(expected, format!("{records:?}"))),
                }
            }
            DnsAction::Count { section, number } => {
                let records = self.reply.section(section);
                match records.len() == *number {
                    true => Ok(()),
                    false => Err(Mismatch::new(number.to_string(), format!("{records:?}"))),
                }
            }
            DnsAction::Edns(expected) => match self.reply.edns == *expected {
                true => Ok(()),
                false => Err(Mismatch::new(
                    format!("an OPT record: {expected}"),
                    self.reply.edns.to_string(),
                )),
            },
            DnsAction::NoReply(duration) => self.no_reply(*duration),
        }
    }

    fn send(&mut self, message: &[u8]) -> Result<(), Mismatch> {
        match &mut self.transport {
            Transport::Udp(socket) => socket
                .send(message)
                .map(|_| ())
                .map_err(|error| Mismatch::new("to send", error.to_string())),
            Transport::Tcp(wire) => {
                let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
                wire.send(&[&length.to_be_bytes()[..], message].concat())
            }
        }
    }

    fn expect(&mut self, code: &str, flags: &[String]) -> Result<(), Mismatch> {
        let bytes = self.receive()?;
        let reply = Reply::parse(&bytes).map_err(|error| {
            Mismatch::new("a DNS response", format!("{error}: {}", shown(&bytes)))
        })?;
        let same_flags = reply.flags.len() == flags.len()
            && reply.flags.iter().all(|flag| flags.iter().any(|expected| expected == flag));
        if reply.id != self.last_id || reply.code != code || !same_flags {
            return Err(Mismatch::new(
                format!("{code} {flags:?} with the id {:#x}", self.last_id),
                format!("{reply:?}"),
            ));
        }
        self.reply = reply;
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>, Mismatch> {
        match &mut self.transport {
            Transport::Udp(socket) => {
                let mut buffer = vec![0; 65_535];
                let length = socket
                    .recv(&mut buffer)
                    .map_err(|error| Mismatch::new("a response within 5 s", error.to_string()))?;
                buffer.truncate(length);
                Ok(buffer)
            }
            Transport::Tcp(wire) => {
                let length = wire.take(2)?;
                wire.take(u16::from_be_bytes([length[0], length[1]]).into())
            }
        }
    }

    fn no_reply(&mut self, duration: Duration) -> Result<(), Mismatch> {
        match &mut self.transport {
            Transport::Tcp(wire) => wire.expect_silence(duration),
            Transport::Udp(socket) => {
                let mut buffer = [0; 1024];
                let received =
                    socket.set_read_timeout(Some(duration)).and_then(|()| socket.recv(&mut buffer));
                let _ = socket.set_read_timeout(Some(PATIENCE));
                match received {
                    Ok(length) => Err(Mismatch::new("no response", shown(&buffer[..length]))),
                    Err(_) => Ok(()),
                }
            }
        }
    }
}

fn udp(port: u16) -> Result<UdpSocket, Mismatch> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    });
    socket.map_err(|error| Mismatch::new("a UDP socket", error.to_string()))
}
