//! The little of an HTTP/1 client that health checks and questions to responders need: the head of the response, and its
//! body by length or by the end. What is asked, and what an answer means, is theirs.

use h1::{Framing, HeaderList, Limits, Method, ResponseHead};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A response whose body may still come.
pub struct Response<S> {
    pub head: ResponseHead,
    stream: S,
    /// What came behind the head.
    bytes: Vec<u8>,
}

/// The response to a request with this method; interim ones are passed over.
pub async fn response<S: AsyncRead + Unpin>(
    mut stream: S,
    method: Method,
) -> Result<Response<S>, String> {
    let (mut bytes, mut list) = (Vec::with_capacity(1024), HeaderList::default());
    loop {
        let count = stream.read_buf(&mut bytes).await.map_err(|error| error.to_string())?;
        let head = h1::parse_response(&bytes, &mut list, method, &Limits::DEFAULT);
        match head.map_err(|refusal| format!("no HTTP response: {refusal:?}"))? {
            Some(head) if head.is_interim() => {
                bytes.drain(..head.len);
                list.clear();
            }
            Some(head) => {
                bytes.drain(..head.len);
                return Ok(Response { head, stream, bytes });
            }
            None if count == 0 => return Err("the response ended early".to_owned()),
            None => {}
        }
    }
}

impl<S: AsyncRead + Unpin> Response<S> {
    /// Where it is no longer than that.
    pub async fn body(mut self, limit: usize) -> Result<Vec<u8>, String> {
        let whole = match self.head.framing {
            Framing::Length(length) => Some(usize::try_from(length).unwrap_or(usize::MAX)),
            _ => None,
        };
        loop {
            if whole.unwrap_or(self.bytes.len()) > limit {
                return Err("the response is too long".to_owned());
            }
            if let Some(whole) = whole.filter(|whole| self.bytes.len() >= *whole) {
                self.bytes.truncate(whole);
                return Ok(self.bytes);
            }
            let read = self.stream.read_buf(&mut self.bytes).await;
            match (read.map_err(|error| error.to_string())?, whole) {
                (0, None) => return Ok(self.bytes),
                (0, Some(_)) => return Err("the response ended early".to_owned()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_by_length_and_by_the_end() {
        for (answer, expected) in [
            (&b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nabc"[..], Ok((200, "ab"))),
            (b"HTTP/1.0 200 OK\r\n\r\nabc", Ok((200, "abc"))),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n\r\nabc", Ok((404, "abc"))),
            (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nab", Err("the response ended early")),
            (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nab", Err("the response is too long")),
            (b"HTTP/1.0 200 OK\r\n\r\nabcde", Err("the response is too long")),
            (b"HTTP/1.0 2", Err("the response ended early")),
        ] {
            let got = async {
                let response = response(answer, Method::Post).await?;
                let status = response.head.status;
                Ok((status, String::from_utf8(response.body(4).await?).expect("text")))
            };
            let got: Result<(u16, String), String> = got.await;
            assert_eq!(got, expected.map(|(s, b)| (s, b.to_owned())).map_err(str::to_owned));
        }
    }
}
