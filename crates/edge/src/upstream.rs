//! Connections of one worker to endpoints: made, kept idle, checked before they are used again.

use crate::deadline::{Deadline, Deadlines, Passed};
use model::limits;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::net::TcpStream;

pub(crate) struct Pool {
    deadlines: Rc<Deadlines>,
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
}

struct Idle {
    io: TcpStream,
    since_ms: u64,
}

/// Why no connection came about.
#[derive(Debug)]
pub(crate) enum ConnectFault {
    Refused,
    TimedOut,
    /// The time that the route allows is over.
    Passed,
}

impl Pool {
    pub fn new(deadlines: Rc<Deadlines>) -> Pool {
        Pool { deadlines, idle: RefCell::default() }
    }

    /// The connection that was used last, so that the others may go idle for good.
    pub fn take(&self, address: SocketAddr) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&address)?;
        while let Some(Idle { io, .. }) = connections.pop() {
            if is_alive(&io) {
                return Some(io);
            }
        }
        None
    }

    pub fn put(&self, address: SocketAddr, io: TcpStream) {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(address).or_default();
        if connections.len() < limits::UPSTREAM_IDLE_CONNECTIONS && !self.deadlines.is_draining() {
            connections.push(Idle { io, since_ms: self.deadlines.now_ms() });
        }
    }

    /// Closes what nobody used for long, and what the origin has closed.
    pub fn evict(&self) {
        let now_ms = self.deadlines.now_ms();
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain(|idle| {
                now_ms.saturating_sub(idle.since_ms) < limits::UPSTREAM_IDLE_TIMEOUT_MS
                    && is_alive(&idle.io)
            });
            !connections.is_empty()
        });
    }

    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

/// An origin that closed, or that sends what nobody asked for, is not to be used. Costs no system call while the
/// runtime has seen no event on the socket.
fn is_alive(io: &TcpStream) -> bool {
    matches!(io.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// A new connection, within the limit for connecting and the request's own deadline.
pub(crate) async fn connect(
    address: SocketAddr,
    deadline: &Deadline,
) -> Result<TcpStream, ConnectFault> {
    deadline.stall_after(limits::CONNECT_TIMEOUT_MS);
    let mut connecting = pin!(TcpStream::connect(address));
    let io = poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(|_| ConnectFault::Refused)),
        Poll::Pending => deadline.poll(cx).map(|passed| {
            Err(match passed {
                Passed::Stall => ConnectFault::TimedOut,
                Passed::Cap => ConnectFault::Passed,
            })
        }),
    })
    .await?;
    // A socket that cannot be told to send at once still works.
    let _ = io.set_nodelay(true);
    Ok(io)
}
