//! Plays the steps of an HTTP client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::sleep;

use crate::actions::ClientAction;
use crate::failure::{Failure, Mismatch};
use crate::http2::Http2;
use crate::message::{Kind, Message};
use crate::scenario::{Endpoint, Step, Tls};
use crate::text::Variables;
use crate::wire::Wire;

/// Where the listeners of the Cutwater under test are.
#[derive(Clone, Debug)]
pub struct Entry {
    pub port_offset: u16,
    pub admin_port: u16,
    /// The CA that clients trust.
    pub ca: PathBuf,
}

impl Entry {
    pub fn bound(&self, port: u16) -> u16 {
        port.saturating_add(self.port_offset)
    }
}

/// A client over the whole case: its connection, and what it received last.
pub struct Client {
    transport: Transport,
    message: Message,
    shares: BTreeMap<String, usize>,
}

enum Transport {
    Closed,
    Http1(Wire),
    Http2(Box<Http2>),
}

impl Client {
    pub fn connect(endpoint: &Endpoint, entry: &Entry) -> Result<Self, Mismatch> {
        let transport = match endpoint {
            Endpoint::Tcp { port } => Transport::Http1(Wire::connect(entry.bound(*port))?),
            Endpoint::Admin => Transport::Http1(Wire::connect(entry.admin_port)?),
            Endpoint::Tls { port, options } => tls(entry.bound(*port), options, entry)?,
            Endpoint::Http2 { port, tls } => {
                let connection = Http2::connect(entry.bound(*port), tls.as_ref(), &entry.ca)?;
                Transport::Http2(Box::new(connection))
            }
            Endpoint::Udp { .. } | Endpoint::DnsTcp { .. } => {
                return Err(Mismatch::new("an HTTP endpoint", "a DNS endpoint"));
            }
        };
        Ok(Self { transport, message: Message::default(), shares: BTreeMap::new() })
    }

    pub fn play(
        &mut self,
        steps: &[Step<ClientAction>],
        variables: &mut Variables,
    ) -> Result<(), Failure> {
        for step in steps {
            self.act(&step.action, variables)
                .map_err(|mismatch| mismatch.at(step.line, &step.text))?;
        }
        Ok(())
    }

    fn act(&mut self, action: &ClientAction, variables: &mut Variables) -> Result<(), Mismatch> {
        match action {
            ClientAction::Send(text) => self.wire()?.send(&text.expand(variables)?),
            ClientAction::Request { head } => self.request(&head.expand(variables)?),
            ClientAction::Content(text) => {
                self.http2()?.content = Some(text.expand(variables)?);
                Ok(())
            }
            ClientAction::SendSlowly { piece, pause, text } => {
                for piece in text.expand(variables)?.chunks((*piece).max(1)) {
                    self.wire()?.send(piece)?;
                    sleep(*pause);
                }
                Ok(())
            }
            ClientAction::Expect { status, head_only } => self.expect(*status, *head_only),
            ClientAction::ExpectBytes(text) => self.wire()?.exact(&text.expand(variables)?),
            ClientAction::ExpectClose(within) => self.wire()?.expect_close(*within),
            ClientAction::Silence(duration) => self.wire()?.expect_silence(*duration),
            ClientAction::Check(check) => check.hold(&self.message, variables),
            ClientAction::Capture { variable, header } => self.capture(variable, header, variables),
            ClientAction::Certificate(comparison) => {
                let names = self.wire()?.certificate_names().unwrap_or_default();
                comparison.hold(&names, variables)
            }
            ClientAction::Protocol(expected) => {
                let got = self.wire()?.protocol().unwrap_or_default();
                match got == *expected {
                    true => Ok(()),
                    false => Err(Mismatch::new(expected, got)),
                }
            }
            ClientAction::HalfClose => self.wire()?.half_close(),
            ClientAction::Close => {
                self.transport = Transport::Closed;
                Ok(())
            }
            ClientAction::Wait(duration) => {
                sleep(*duration);
                Ok(())
            }
            ClientAction::Spread { times, head } => self.spread(*times, &head.expand(variables)?),
            ClientAction::Share { key, least, most } => self.share(key, *least, *most),
        }
    }

    fn wire(&mut self) -> Result<&mut Wire, Mismatch> {
        match &mut self.transport {
            Transport::Http1(wire) => Ok(wire),
            Transport::Http2(_) => Err(Mismatch::new("a step of HTTP/2", "one of HTTP/1")),
            Transport::Closed => Err(Mismatch::new("an open connection", "a closed one")),
        }
    }

    fn http2(&mut self) -> Result<&mut Http2, Mismatch> {
        match &mut self.transport {
            Transport::Http2(connection) => Ok(connection),
            _ => Err(Mismatch::new("an HTTP/2 connection", "another one")),
        }
    }

    fn request(&mut self, head: &[u8]) -> Result<(), Mismatch> {
        match &mut self.transport {
            Transport::Http2(connection) => connection.request(head),
            _ => self.wire()?.send(head),
        }
    }

    fn expect(&mut self, status: u16, head_only: bool) -> Result<(), Mismatch> {
        let kind = move |ended| match head_only {
            true => Kind::HeadOnly,
            false => Kind::Response { ended },
        };
        self.message = match &mut self.transport {
            Transport::Http2(connection) => connection.answer()?,
            _ => self.wire()?.message(kind)?,
        };
        match self.message.status() == Some(status) {
            true => Ok(()),
            false => {
                let body = crate::failure::shown(&self.message.body);
                let got = format!("{}{body}", self.message.head_text().escape_default());
                Err(Mismatch::new(status.to_string(), got))
            }
        }
    }

    fn capture(
        &self,
        variable: &str,
        header: &str,
        variables: &mut Variables,
    ) -> Result<(), Mismatch> {
        let value =
            self.message.values(header).next().map(str::to_owned).ok_or_else(|| {
                Mismatch::new(format!("a field {header}"), self.message.head_text())
            })?;
        variables.values.insert(variable.to_owned(), value);
        Ok(())
    }

    fn spread(&mut self, times: usize, head: &[u8]) -> Result<(), Mismatch> {
        self.shares.clear();
        for _ in 0..times {
            self.wire()?.send(head)?;
            let answer = self.wire()?.message(|ended| Kind::Response { ended })?;
            let status = || answer.status().unwrap_or_default().to_string();
            let key = answer.values("x-origin").next().map_or_else(status, str::to_owned);
            *self.shares.entry(key).or_default() += 1;
        }
        Ok(())
    }

    fn share(&self, key: &str, least: usize, most: usize) -> Result<(), Mismatch> {
        let got = self.shares.get(key).copied().unwrap_or(0);
        match (least..=most).contains(&got) {
            true => Ok(()),
            false => Err(Mismatch::new(
                format!("{least} to {most} answers of {key}"),
                format!("{got}, of {:?}", self.shares),
            )),
        }
    }
}

fn tls(port: u16, options: &Tls, entry: &Entry) -> Result<Transport, Mismatch> {
    match (Wire::connect_tls(port, options, &entry.ca), options.fails) {
        (Ok(wire), false) => Ok(Transport::Http1(wire)),
        (Err(_), true) => Ok(Transport::Closed),
        (Err(mismatch), false) => Err(mismatch),
        (Ok(_), true) => Err(Mismatch::new("a handshake that fails", "one that succeeded")),
    }
}
