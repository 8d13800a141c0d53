//! The steps of a scenario as data, and how each is read. What they do is in `client`, `dns_client`,
//! `scripted` and `runner`.

use std::time::Duration;

use crate::check::{Check, Comparison};
use crate::dns::Question;
use crate::lines::Line;
use crate::text::Text;
use crate::wire::PATIENCE;

#[derive(Debug)]
pub enum OriginAction {
    ExpectRequest {
        start: Comparison,
    },
    ExpectHead {
        start: Comparison,
    },
    /// Reads the body that belongs to the head just read.
    ExpectBody,
    ExpectBytes(Text),
    Check(Check),
    Send(Text),
    Wait(Duration),
    Close,
    Reset,
    ExpectClose,
    Nothing,
}

#[derive(Debug)]
pub enum ClientAction {
    Send(Text),
    /// So many bytes at a time, with a pause between.
    SendSlowly {
        piece: usize,
        pause: Duration,
        text: Text,
    },
    Request {
        head: Text,
    },
    /// The body of the next request, over HTTP/2.
    Content(Text),
    Expect {
        status: u16,
        head_only: bool,
    },
    ExpectBytes(Text),
    ExpectClose(Duration),
    Silence(Duration),
    Check(Check),
    Capture {
        variable: String,
        header: String,
    },
    Certificate(Comparison),
    Protocol(String),
    HalfClose,
    Close,
    Wait(Duration),
    /// So many requests one after another, answers counted by the origin that gave them.
    Spread {
        times: usize,
        head: Text,
    },
    Share {
        key: String,
        least: usize,
        most: usize,
    },
}

#[derive(Debug)]
pub enum DnsAction {
    Query(Question),
    SendHex(Vec<u8>),
    /// The response code and exactly these of the flags aa, tc, ra, ad, cd.
    Reply {
        code: String,
        flags: Vec<String>,
    },
    Record {
        section: String,
        record: Text,
    },
    Count {
        section: String,
        number: usize,
    },
    Edns(bool),
    NoReply(Duration),
}

#[derive(Debug)]
pub enum CutwaterAction {
    Write {
        path: String,
        content: Text,
    },
    Remove {
        path: String,
    },
    /// The snapshot's digest differs from the one before the last write or removal.
    AwaitLive,
    /// `/readyz` answers 200.
    AwaitReady,
    /// The digest stays what it was, for so long.
    Stays(Duration),
    /// A line of the access log holds this.
    Log(Comparison),
    /// What `up` printed holds this.
    Printed(Comparison),
    Run {
        arguments: Text,
    },
    Exit(i32),
    Stdout(Comparison),
    Stderr(Comparison),
    /// How many requests an origin that echoes has answered in this case.
    Requests {
        origin: usize,
        number: usize,
    },
    Wait(Duration),
}

pub fn origin_action(line: &Line) -> Result<OriginAction, String> {
    let rest = line.rest.as_str();
    Ok(match line.word.as_str() {
        "expect-request" => OriginAction::ExpectRequest { start: Comparison::parse(rest)? },
        "expect-head" => OriginAction::ExpectHead { start: Comparison::parse(rest)? },
        "expect-body" => OriginAction::ExpectBody,
        "expect-bytes" => OriginAction::ExpectBytes(line.bytes()?),
        "send" => OriginAction::Send(line.bytes()?),
        "wait" => OriginAction::Wait(milliseconds(rest)?),
        "close" => OriginAction::Close,
        "reset" => OriginAction::Reset,
        "expect-close" => OriginAction::ExpectClose,
        "nothing" => OriginAction::Nothing,
        _ => OriginAction::Check(line.check("an origin")?),
    })
}

pub fn client_action(line: &Line) -> Result<ClientAction, String> {
    let rest = line.rest.as_str();
    Ok(match line.word.as_str() {
        "send" => ClientAction::Send(line.bytes()?),
        "send-slowly" => send_slowly(line)?,
        "request" => ClientAction::Request { head: request_head(rest, line.block.as_deref())? },
        "content" => ClientAction::Content(line.bytes()?),
        "expect" => expect(rest)?,
        "expect-bytes" => ClientAction::ExpectBytes(line.bytes()?),
        "expect-close" if rest.is_empty() => ClientAction::ExpectClose(PATIENCE),
        "expect-close" => ClientAction::ExpectClose(milliseconds(rest)?),
        "silence" => ClientAction::Silence(milliseconds(rest)?),
        "capture" => {
            let (variable, header) = pair(rest)?;
            ClientAction::Capture { variable: variable.to_owned(), header: header.to_owned() }
        }
        "certificate" => ClientAction::Certificate(Comparison::parse(rest)?),
        "protocol" => ClientAction::Protocol(rest.to_owned()),
        "half-close" => ClientAction::HalfClose,
        "close" => ClientAction::Close,
        "wait" => ClientAction::Wait(milliseconds(rest)?),
        "spread" => {
            let (times, request) = pair(rest)?;
            let head = request_head(request, line.block.as_deref())?;
            ClientAction::Spread { times: number(times)?, head }
        }
        "share" => share(rest)?,
        _ => ClientAction::Check(line.check("a client")?),
    })
}

pub fn dns_action(line: &Line) -> Result<DnsAction, String> {
    let rest = line.rest.as_str();
    Ok(match line.word.as_str() {
        "query" => DnsAction::Query(Question::parse(rest)?),
        "send-hex" => DnsAction::SendHex(hex(rest)?),
        "reply" => {
            let mut words = rest.split_whitespace().map(str::to_owned);
            let code = words.next().ok_or("a response code is needed")?;
            DnsAction::Reply { code, flags: words.collect() }
        }
        section @ ("answer" | "authority" | "additional") => {
            DnsAction::Record { section: section.to_owned(), record: Text::parse(rest)? }
        }
        "count" => {
            let (section, count) = pair(rest)?;
            DnsAction::Count { section: section.to_owned(), number: number(count)? }
        }
        "edns" => DnsAction::Edns(true),
        "no-edns" => DnsAction::Edns(false),
        "no-reply" => DnsAction::NoReply(milliseconds(rest)?),
        word => return Err(format!("{word:?} is no step of a DNS client")),
    })
}

pub fn cutwater_action(line: &Line) -> Result<CutwaterAction, String> {
    let rest = line.rest.as_str();
    Ok(match line.word.as_str() {
        "write" => CutwaterAction::Write {
            path: rest.to_owned(),
            content: Text::of_block(line.block()?, "\n"),
        },
        "remove" => CutwaterAction::Remove { path: rest.to_owned() },
        "await-live" => CutwaterAction::AwaitLive,
        "await-ready" => CutwaterAction::AwaitReady,
        "stays" => CutwaterAction::Stays(milliseconds(rest)?),
        "log" => CutwaterAction::Log(Comparison::parse(rest)?),
        "printed" => CutwaterAction::Printed(Comparison::parse(rest)?),
        "run" => CutwaterAction::Run { arguments: Text::parse(rest)? },
        "exit" => CutwaterAction::Exit(number(rest)?),
        "stdout" => CutwaterAction::Stdout(Comparison::parse(rest)?),
        "stderr" => CutwaterAction::Stderr(Comparison::parse(rest)?),
        "requests" => {
            let (origin, requests) = pair(rest)?;
            CutwaterAction::Requests { origin: number(origin)?, number: number(requests)? }
        }
        "wait" => CutwaterAction::Wait(milliseconds(rest)?),
        word => return Err(format!("{word:?} is no step of cutwater")),
    })
}

fn send_slowly(line: &Line) -> Result<ClientAction, String> {
    let (piece, rest) = pair(&line.rest)?;
    let (pause, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let text = match &line.block {
        Some(block) => Text::of_block(block, "\r\n"),
        None => Text::parse(text.trim())?,
    };
    Ok(ClientAction::SendSlowly { piece: number(piece)?, pause: milliseconds(pause)?, text })
}

/// `METHOD TARGET HOST`, with further field lines in the block.
fn request_head(rest: &str, block: Option<&str>) -> Result<Text, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [method, target, host] = words.as_slice() else {
        return Err("a method, a target and a host are needed".to_owned());
    };
    let fields = block.unwrap_or_default();
    Ok(Text::of_block(&format!("{method} {target} HTTP/1.1\nHost: {host}\n{fields}\n"), "\r\n"))
}

fn expect(rest: &str) -> Result<ClientAction, String> {
    let (status, head_only) = match rest.split_once(' ') {
        Some((status, "head")) => (status, true),
        _ => (rest, false),
    };
    Ok(ClientAction::Expect { status: number(status)?, head_only })
}

fn share(rest: &str) -> Result<ClientAction, String> {
    let (key, range) = pair(rest)?;
    let (least, most) = range.split_once("..").unwrap_or((range, range));
    Ok(ClientAction::Share { key: key.to_owned(), least: number(least)?, most: number(most)? })
}

fn pair(rest: &str) -> Result<(&str, &str), String> {
    let (first, second) = rest.split_once(' ').ok_or("two arguments are needed")?;
    Ok((first, second.trim()))
}

pub fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number in range"))
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let milliseconds: u32 = number(text)?;
    match milliseconds {
        0..=60_000 => Ok(Duration::from_millis(milliseconds.into())),
        _ => Err("a wait lasts a minute at most".to_owned()),
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| pair.iter().collect::<String>())
        .map(|pair| match pair.len() {
            2 => u8::from_str_radix(&pair, 16).map_err(|_| format!("{pair:?} is not a byte")),
            _ => Err("an odd number of digits".to_owned()),
        })
        .collect()
}
