//! What the router sees of a request. Borrowed: the edge's HTTP/1.1 spans and HTTP/2 header maps both fit.

/// Header fields by name, in the order in which they arrived.
pub trait Headers {
    /// The values of one field, without the white space around them. `lower_name` is in lower case.
    fn values<'a>(&'a self, lower_name: &'a str) -> impl Iterator<Item = &'a [u8]>;
}

/// A request head in normal form (the host is a separate argument: it is needed before the rest).
pub struct Request<'a, H> {
    /// Case-sensitive, RFC 9110 section 9.1.
    pub method: &'a [u8],
    /// Without the query.
    pub path: &'a [u8],
    /// Without the question mark; as the client wrote it.
    pub query: Option<&'a [u8]>,
    pub headers: &'a H,
}

impl<H> Clone for Request<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Request<'_, H> {}

/// A list of pairs is the simplest implementation: explain and tests use it.
impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for [(N, V)] {
    fn values<'a>(&'a self, lower_name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(name, _)| name.as_ref().eq_ignore_ascii_case(lower_name))
            .map(|(_, value)| value.as_ref())
    }
}

impl<T: Headers> Headers for &T {
    fn values<'a>(&'a self, lower_name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (**self).values(lower_name)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for Vec<(N, V)> {
    fn values<'a>(&'a self, lower_name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.as_slice().values(lower_name)
    }
}
