//! The limits of the codec, with names and units. What to do when one is passed is the caller's.

/// How much a peer may send before it is refused. Every field counts bytes but `headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A whole head, from its first byte to the empty line; passed: 431.
    pub head_bytes: usize,
    /// Field lines in a head, and in a trailer section; passed: 431.
    pub headers: usize,
    /// The request target; passed: 414.
    pub target_bytes: usize,
    /// The extensions of one chunk (RFC 9112 section 7.1.1); passed: 400.
    pub chunk_extension_bytes: usize,
    /// The extensions of all chunks of one body; passed: 400.
    pub body_extension_bytes: usize,
    /// A trailer section (RFC 9112 section 7.1.2); passed: 431.
    pub trailer_bytes: usize,
}

impl Limits {
    pub const HEAD_BYTES: usize = 32 * 1024;
    pub const HEADERS: usize = 100;
    pub const TARGET_BYTES: usize = 8 * 1024;
    pub const CHUNK_EXTENSION_BYTES: usize = 256;
    pub const BODY_EXTENSION_BYTES: usize = 16 * 1024;
    pub const TRAILER_BYTES: usize = 8 * 1024;

    pub const DEFAULT: Limits = Limits {
        head_bytes: Self::HEAD_BYTES,
        headers: Self::HEADERS,
        target_bytes: Self::TARGET_BYTES,
        chunk_extension_bytes: Self::CHUNK_EXTENSION_BYTES,
        body_extension_bytes: Self::BODY_EXTENSION_BYTES,
        trailer_bytes: Self::TRAILER_BYTES,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
