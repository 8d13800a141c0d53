//! Frames and heads that cost a server more than their sender: header blocks without end, references to one large
//! header, floods of frames that carry nothing. The connection is closed before it has taken 256 KiB.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::frames::{self, Connection, END_HEADERS, END_STREAM, frame};
use crate::origin::Origin;
use crate::program::Context;
use crate::report::Report;
use crate::subject::{ABUSED, Kind, Subject};

const LIMIT_BYTES: usize = 256 << 10;
/// What is sent beyond it, so that a server that never closes is told from one that closes late.
const MOST_BYTES: usize = 4 << 20;
/// At a time; small beside the limit, so that what is under way when the server closes weighs little.
const PIECE_BYTES: usize = 4 << 10;
const MOMENT: Duration = Duration::from_millis(10);

struct Bomb {
    name: &'static str,
    /// What comes first.
    begin: fn() -> Vec<u8>,
    /// What is repeated; the number counts up.
    again: fn(u32) -> Vec<u8>,
    pace: Pace,
}

/// How it is known that the server has taken what was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// It has answered a PING behind it.
    Ping,
    /// No other frame may stand here: a moment has to do.
    Moment,
    /// As before, and nothing is read.
    Deaf,
}

const BOMBS: &[Bomb] = &[
    bomb("CONTINUATION without end", open_block, continuation, Pace::Moment),
    bomb("empty CONTINUATION", open_block, empty_continuation, Pace::Moment),
    bomb("HPACK reference bomb", nothing, reference_bomb, Pace::Ping),
    bomb("fields of one letter", nothing, tiny_fields, Pace::Ping),
    bomb("SETTINGS", nothing, settings, Pace::Ping),
    bomb("SETTINGS, answers not read", nothing, settings, Pace::Deaf),
    bomb("SETTINGS of many entries", nothing, long_settings, Pace::Ping),
    bomb("PING", nothing, ping, Pace::Ping),
    bomb("PING, answers not read", nothing, ping, Pace::Deaf),
    bomb("empty DATA", open_stream, empty_data, Pace::Ping),
    bomb("DATA of padding", open_stream, padding, Pace::Ping),
    bomb("WINDOW_UPDATE", nothing, window_update, Pace::Ping),
    bomb("WINDOW_UPDATE of a stream", open_stream, stream_window, Pace::Ping),
    bomb("PRIORITY", nothing, priority, Pace::Ping),
    bomb("RST_STREAM of one stream", nothing, resets, Pace::Ping),
    bomb("unknown frames", nothing, unknown, Pace::Ping),
];

const fn bomb(
    name: &'static str,
    begin: fn() -> Vec<u8>,
    again: fn(u32) -> Vec<u8>,
    pace: Pace,
) -> Bomb {
    Bomb { name, begin, again, pace }
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

fn open_block() -> Vec<u8> {
    frame(frames::HEADERS, END_STREAM, 1, &frames::get(ABUSED, "/"))
}

/// A request whose body comes.
fn open_stream() -> Vec<u8> {
    frame(frames::HEADERS, END_HEADERS, 1, &frames::request("POST", ABUSED, "/"))
}

fn continuation(number: u32) -> Vec<u8> {
    let name = format!("x-{number}");
    let block = frames::block([(name.as_bytes(), &[b'a'; 200][..])]);
    frame(frames::CONTINUATION, 0, 1, &block)
}

fn empty_continuation(_: u32) -> Vec<u8> {
    frame(frames::CONTINUATION, 0, 1, &[])
}

fn stream_of(number: u32) -> u32 {
    number * 2 + 1
}

/// One header of almost the whole table, and thousands of references to it of a byte each.
fn reference_bomb(number: u32) -> Vec<u8> {
    let mut block = frames::get(ABUSED, "/");
    if number == 0 {
        // With indexing (RFC 7541 section 6.2.1); it becomes entry 62.
        block.push(0x40);
        frames::string(&mut block, b"x-bomb");
        frames::string(&mut block, &[b'a'; 3_900]);
    }
    block.resize(block.len() + 10_000, 0x80 | 62);
    frame(frames::HEADERS, END_STREAM | END_HEADERS, stream_of(number), &block)
}

fn tiny_fields(number: u32) -> Vec<u8> {
    let mut block = frames::get(ABUSED, "/");
    for _ in 0..2_500 {
        block.extend(frames::block([(&b"a"[..], &b""[..])]));
    }
    frame(frames::HEADERS, END_STREAM | END_HEADERS, stream_of(number), &block)
}

fn settings(_: u32) -> Vec<u8> {
    frame(frames::SETTINGS, 0, 0, &[])
}

fn long_settings(number: u32) -> Vec<u8> {
    let entry = [[0, 4].as_slice(), &(65_535 + number % 2).to_be_bytes()].concat();
    frame(frames::SETTINGS, 0, 0, &entry.repeat(600))
}

fn ping(number: u32) -> Vec<u8> {
    frame(frames::PING, 0, 0, &u64::from(number).to_be_bytes())
}

fn empty_data(_: u32) -> Vec<u8> {
    frame(frames::DATA, 0, 1, &[])
}

/// 255 bytes of padding and no content (RFC 9113 section 6.1).
fn padding(_: u32) -> Vec<u8> {
    let mut payload = vec![0; 256];
    payload[0] = 255;
    frame(frames::DATA, 8, 1, &payload)
}

fn window_update(_: u32) -> Vec<u8> {
    frame(frames::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
}

fn stream_window(_: u32) -> Vec<u8> {
    frame(frames::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())
}

fn priority(number: u32) -> Vec<u8> {
    frame(frames::PRIORITY, 0, stream_of(number % 1_000) + 2, &[0, 0, 0, 1, 16])
}

fn resets(number: u32) -> Vec<u8> {
    let head = match number {
        0 => frame(frames::HEADERS, END_STREAM | END_HEADERS, 1, &frames::get(ABUSED, "/")),
        _ => Vec::new(),
    };
    [head, frame(frames::RST_STREAM, 0, 1, &8_u32.to_be_bytes())].concat()
}

fn unknown(_: u32) -> Vec<u8> {
    frame(0xfa, 0, 0, &[0; 16])
}

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let abused = Origin::echo()?;
    context.beside_good_traffic(report, Kind::ALL, &abused, |subject, report| {
        for bomb in BOMBS {
            let patience = context.pick(Duration::from_millis(400), Duration::from_secs(3));
            let taken = drop_bomb(subject, bomb, patience)?;
            let figure = match taken {
                Taken::Closed(bytes) => format!("{:.1} KiB", bytes as f64 / 1024.0),
                Taken::Open(bytes) => format!("open after {:.1} KiB", bytes as f64 / 1024.0),
            };
            let held = matches!(taken, Taken::Closed(bytes) if bytes < LIMIT_BYTES);
            report.row(subject.name(), bomb.name, figure, "closed before 256 KiB", held);
        }
        Ok(())
    })
}

enum Taken {
    Closed(usize),
    Open(usize),
}

/// Bytes sent until the connection ended.
fn drop_bomb(subject: &Subject, bomb: &Bomb, patience: Duration) -> Result<Taken> {
    let mut connection = Connection::open(subject.ports.h2c)?;
    connection.send(&(bomb.begin)());
    let end = Instant::now() + patience;
    let mut number = 0;
    while connection.sent < MOST_BYTES && Instant::now() < end {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            piece.extend((bomb.again)(number));
            number += 1;
        }
        connection.send(&piece);
        let is_over = match bomb.pace {
            Pace::Ping => {
                connection.send(&ping(number));
                ended_or_answered(&mut connection, number, end)
            }
            Pace::Moment => connection.ends_within(MOMENT),
            Pace::Deaf => {
                std::thread::sleep(MOMENT);
                connection.is_closed
            }
        };
        if is_over {
            return Ok(Taken::Closed(connection.sent));
        }
    }
    // A GOAWAY that comes late is one of what was sent.
    match connection.ends_within(Duration::from_millis(50)) {
        true => Ok(Taken::Closed(connection.sent)),
        false => Ok(Taken::Open(connection.sent)),
    }
}

/// Reads on until the server answers a PING; true where the connection has ended instead.
fn ended_or_answered(connection: &mut Connection, number: u32, end: Instant) -> bool {
    let expected = u64::from(number).to_be_bytes();
    loop {
        match connection.next(end) {
            Some(frame) if frame.goaway().is_some_and(|(_, code)| code != 0) => return true,
            Some(frame) if frame.kind == frames::PING && frame.payload == expected => return false,
            Some(_) => {}
            None => return connection.is_closed,
        }
    }
}
