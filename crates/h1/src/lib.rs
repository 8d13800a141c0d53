//! The HTTP/1.1 wire codec: heads, body framing, the normal form of a path, and the bytes to write. Beside it, what
//! proxies say of a client: the fields that carry its address, and the PROXY protocol ahead of a connection.
//!
//! Sans-I/O and pure: bytes in, spans and decisions out. What does not live here: sockets, buffers,
//! time, routing, and anything about HTTP/2 except recognising its preface.
//!
//! A head is parsed once, in one pass, without an allocation once the caller's [`HeaderList`] has
//! grown. Names, values and the target are [`Span`]s into the caller's buffer, so that a head can be
//! kept beside an owned buffer across awaits. The codec is strict wherever two parsers could
//! disagree about where a message ends; there is no lenient mode.
#![forbid(unsafe_code)]

mod body;
mod bytes;
pub mod encode;
mod fields;
pub mod forwarded;
mod framing;
mod headers;
pub mod host;
mod known;
mod limits;
mod preface;
pub mod proxy_header;
mod refusal;
mod request;
mod response;
pub mod target;

pub use body::{BodyDecoder, ChunkDecoder, Event, LengthDecoder, PassedOn, Step, Trailers};
pub use bytes::{Span, is_field_value, is_token};
pub use framing::{Framing, Version};
pub use headers::{Header, HeaderList};
pub use known::Known;
pub use limits::Limits;
pub use preface::{HTTP2_PREFACE, Preface, is_http2_preface};
pub use refusal::{Reason, Refusal};
pub use request::{Method, RequestHead, TargetForm, parse_request};
pub use response::{ResponseHead, parse_response};
