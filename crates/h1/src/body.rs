//! Finds the end of a body: fixed length, chunked with trailers (RFC 9112 section 7), until close.
//! The body bytes themselves are never copied; events name them by range.
//!
//! ```text
//! chunked:  Size -> [Extension] -> SizeLf -> Data -> DataCr -> DataLf -> Size ...
//!                                    \ size 0 -> LastLine -> EndLf -> Done
//!                                                   \ Trailers -> Done
//! ```
//!
//! Chunks that are written as plainly as can be may be passed on as they stand ([`ChunkDecoder::pass`]).

use std::ops::Range;

use crate::bytes::{hex, is_tchar, is_text};
use crate::encode::LAST_CHUNK;
use crate::fields::{Bound, read_section};
use crate::framing::Framing;
use crate::headers::HeaderList;
use crate::limits::Limits;
use crate::refusal::Reason;

/// What the bytes given hold next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Body bytes, by their place in the input; never empty.
    Data(Range<usize>),
    /// All input is used and the body goes on.
    More,
    /// The body is over; what follows `consumed` belongs to the next message.
    End,
}

/// One step: an event, and how many bytes of the input are done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub consumed: usize,
    pub event: Event,
}

impl Step {
    fn data(range: Range<usize>) -> Step {
        Step { consumed: range.end, event: Event::Data(range) }
    }
}

/// The decoder for the [`Framing`] of a head.
///
/// Call [`BodyDecoder::decode`] with the bytes behind the head, drop `consumed` of them, and so on
/// until [`Event::End`], or until [`Event::More`] asks to read. A fault is a [`Reason`]: its
/// [`Reason::in_request`] or [`Reason::in_response`] says how to answer. Nothing may be decoded
/// after a fault.
#[derive(Debug)]
pub enum BodyDecoder {
    Length(LengthDecoder),
    Chunked(ChunkDecoder),
    UntilClose,
}

impl BodyDecoder {
    pub fn new(framing: Framing) -> BodyDecoder {
        match framing {
            Framing::None => BodyDecoder::Length(LengthDecoder::new(0)),
            Framing::Length(n) => BodyDecoder::Length(LengthDecoder::new(n)),
            Framing::Chunked => BodyDecoder::Chunked(ChunkDecoder::new()),
            Framing::UntilClose => BodyDecoder::UntilClose,
        }
    }

    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Reason> {
        match self {
            BodyDecoder::Length(decoder) => Ok(decoder.decode(input)),
            BodyDecoder::Chunked(decoder) => decoder.decode(input, limits),
            BodyDecoder::UntilClose if input.is_empty() => {
                Ok(Step { consumed: 0, event: Event::More })
            }
            BodyDecoder::UntilClose => Ok(Step::data(0..input.len())),
        }
    }

    /// Whether the end has been seen; never for a body that ends with the connection.
    pub fn is_done(&self) -> bool {
        match self {
            BodyDecoder::Length(decoder) => decoder.left == 0,
            BodyDecoder::Chunked(decoder) => decoder.state == State::Done,
            BodyDecoder::UntilClose => false,
        }
    }

    /// The connection ended here: sound for a body that is done or ends with the connection; any
    /// other is truncated and must not be passed off as whole (RFC 9112 section 8).
    pub fn end_of_input(&self) -> Result<(), Reason> {
        match self {
            BodyDecoder::UntilClose => Ok(()),
            _ if self.is_done() => Ok(()),
            _ => Err(Reason::BodyTruncated),
        }
    }

    /// The trailer fields of a chunked body, once it has ended; nothing when there were none.
    pub fn trailers(&self) -> Option<&Trailers> {
        match self {
            BodyDecoder::Chunked(decoder) => decoder.trailers(),
            _ => None,
        }
    }
}

/// A body of known length.
#[derive(Clone, Debug)]
pub struct LengthDecoder {
    left: u64,
}

impl LengthDecoder {
    pub fn new(length: u64) -> LengthDecoder {
        LengthDecoder { left: length }
    }

    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    pub fn decode(&mut self, input: &[u8]) -> Step {
        match take(&mut self.left, input.len()) {
            0 if self.left == 0 => Step { consumed: 0, event: Event::End },
            0 => Step { consumed: 0, event: Event::More },
            n => Step::data(0..n),
        }
    }
}

/// Takes what is there of what is left.
fn take(left: &mut u64, there: usize) -> usize {
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(there);
    *left -= n as u64;
    n
}

/// The trailer fields, beside the bytes that their spans lie in.
///
/// Whoever forwards or merges them keeps only those for which [`crate::Known::may_trail`] holds.
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    bytes: Vec<u8>,
    fields: HeaderList,
}

impl Trailers {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn fields(&self) -> &HeaderList {
        &self.fields
    }
}

/// The chunked coding. Allocates only when there are trailer fields.
#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    /// The size being read, then the data bytes still to come of the chunk.
    left: u64,
    digits: u8,
    /// Extension bytes of this chunk, and of all chunks before it.
    extension: usize,
    extensions: usize,
    /// The size line of this chunk was passed on as it stood.
    is_passed: bool,
    trailers: Option<Box<Trailers>>,
}

/// How much [`ChunkDecoder::pass`] passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOn {
    pub bytes: usize,
    /// Of them, those that are no framing.
    pub data: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Behind the last chunk: an empty line, or trailer fields.
    LastLine,
    EndLf,
    Trailers,
    Done,
}

/// What comes next in `;name=value;name="quoted"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    QuotedEnd,
}

/// The digits of `u64::MAX`.
const SIZE_DIGITS: u8 = 16;

impl Default for ChunkDecoder {
    fn default() -> Self {
        ChunkDecoder::new()
    }
}

impl ChunkDecoder {
    pub fn new() -> ChunkDecoder {
        ChunkDecoder {
            state: State::Size,
            left: 0,
            digits: 0,
            extension: 0,
            extensions: 0,
            is_passed: false,
            trailers: None,
        }
    }

    /// See [`BodyDecoder::trailers`].
    pub fn trailers(&self) -> Option<&Trailers> {
        self.trailers.as_deref().filter(|_| self.state == State::Done)
    }

    /// Passes over what of the input may be passed on as it stands, framing and all: chunks whose size has neither zeros
    /// before it nor an extension behind it, as far as they are there, and the end of a body without trailer fields. So
    /// what is passed on has one reading only. Where nothing is passed and input is left, [`ChunkDecoder::decode`] goes
    /// on, and what it finds is to be framed anew; whoever passes the beginning of a chunk passes the rest.
    pub fn pass(&mut self, input: &[u8], limits: &Limits) -> Result<PassedOn, Reason> {
        let mut passed = PassedOn::default();
        loop {
            let rest = &input[passed.bytes..];
            let count = match (self.state, rest) {
                (State::Size, _) if self.digits == 0 => self.pass_size(rest),
                (State::Data, _) if self.is_passed => {
                    let count = take(&mut self.left, rest.len());
                    passed.data += count;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    count
                }
                (State::DataCr | State::DataLf, [byte, ..]) if self.is_passed => {
                    match self.framing_byte(*byte, limits) {
                        Ok(count) => count,
                        // What came before it is sound, and goes first.
                        Err(_) if passed.bytes > 0 => 0,
                        Err(reason) => return Err(reason),
                    }
                }
                _ => 0,
            };
            if count == 0 {
                return Ok(passed);
            }
            passed.bytes += count;
        }
    }

    /// A whole line of a size, or the last chunk with the empty line behind it; 0 where it is written in any other way.
    fn pass_size(&mut self, input: &[u8]) -> usize {
        if input.starts_with(LAST_CHUNK) {
            self.state = State::Done;
            return LAST_CHUNK.len();
        }
        let digits = input.iter().take(usize::from(SIZE_DIGITS)).map_while(|byte| hex(*byte));
        let (count, size) =
            digits.fold((0, 0), |(count, size), digit| (count + 1, size << 4 | u64::from(digit)));
        if input.first() == Some(&b'0') || count == 0 || !input[count..].starts_with(b"\r\n") {
            return 0;
        }
        (self.left, self.state, self.is_passed) = (size, State::Data, true);
        count + 2
    }

    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Reason> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok(Step { consumed: at, event: Event::End }),
                State::Trailers => match self.trailer_line(&input[at..], limits)? {
                    0 => return Ok(Step { consumed: at, event: Event::More }),
                    n => at += n,
                },
                State::Data => match take(&mut self.left, input.len() - at) {
                    0 if self.left == 0 => self.state = State::DataCr,
                    0 => return Ok(Step { consumed: at, event: Event::More }),
                    n => return Ok(Step::data(at..at + n)),
                },
                _ => {
                    let Some(&b) = input.get(at) else {
                        return Ok(Step { consumed: at, event: Event::More });
                    };
                    at += self.framing_byte(b, limits)?;
                }
            }
        }
    }

    /// One byte of what is not data; gives how many bytes it used (none for the first byte of a
    /// trailer field, which is read again as part of its line).
    fn framing_byte(&mut self, b: u8, limits: &Limits) -> Result<usize, Reason> {
        self.state = match (self.state, b) {
            (State::Size, _) => self.size_byte(b)?,
            (State::Extension(part), _) => self.extension_byte(part, b, limits)?,
            (State::SizeLf, b'\n') => self.begin_data(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::DataCr | State::DataLf, _) => return Err(Reason::ChunkEnd),
            (State::LastLine, b'\r') => State::EndLf,
            (State::LastLine, _) => {
                self.state = State::Trailers;
                return Ok(0);
            }
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(Reason::BareCarriageReturn),
        };
        Ok(1)
    }

    fn size_byte(&mut self, b: u8) -> Result<State, Reason> {
        match (hex(b), b) {
            (Some(digit), _) if self.digits < SIZE_DIGITS => {
                self.left = self.left << 4 | u64::from(digit);
                self.digits += 1;
                Ok(State::Size)
            }
            (None, b'\r') if self.digits > 0 => Ok(State::SizeLf),
            (None, b';') if self.digits > 0 => {
                self.extension = 1;
                Ok(State::Extension(Extension::NameStart))
            }
            (None, b'\n') if self.digits > 0 => Err(Reason::BareLineFeed),
            _ => Err(Reason::ChunkSize),
        }
    }

    /// The grammar of RFC 9112 section 7.1.1 without its bad whitespace.
    fn extension_byte(&mut self, part: Extension, b: u8, limits: &Limits) -> Result<State, Reason> {
        use Extension::*;
        let next = match (part, b) {
            (Name | Value | QuotedEnd, b'\r') => return Ok(State::SizeLf),
            (Name | Value | QuotedEnd, b';') => NameStart,
            (Name, b'=') => ValueStart,
            (NameStart | Name, _) if is_tchar(b) => Name,
            (ValueStart | Value, _) if is_tchar(b) => Value,
            (ValueStart, b'"') => Quoted,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => QuotedPair,
            (Quoted | QuotedPair, _) if is_text(b) => Quoted,
            (_, b'\n') => return Err(Reason::BareLineFeed),
            _ => return Err(Reason::ChunkExtension),
        };
        self.extension += 1;
        if self.extension > limits.chunk_extension_bytes
            || self.extensions + self.extension > limits.body_extension_bytes
        {
            return Err(Reason::ChunkExtensionsTooLong);
        }
        Ok(State::Extension(next))
    }

    /// The line of the size is over.
    fn begin_data(&mut self) -> State {
        self.digits = 0;
        self.is_passed = false;
        self.extensions += std::mem::take(&mut self.extension);
        match self.left {
            0 => State::LastLine,
            _ => State::Data,
        }
    }

    /// Copies one line, or the part of it that is there, and reads the section as far as it goes.
    /// Gives how many bytes were used.
    fn trailer_line(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Reason> {
        let bound = Bound { max: limits.trailer_bytes, fault: Reason::TrailersTooLarge };
        let Trailers { bytes, fields } = &mut **self.trailers.get_or_insert_default();
        let line = memchr::memchr(b'\n', input).map_or(input.len(), |i| i + 1);
        bytes.extend_from_slice(&input[..line]);
        if read_section(bytes, fields, limits.headers, bound)?.is_some() {
            self.state = State::Done;
        }
        Ok(line)
    }
}
