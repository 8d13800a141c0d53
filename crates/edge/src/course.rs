//! The course of one attempt, whatever version of HTTP its origin speaks: how long it may rest, who is waited for, and
//! whose fault it is when the time is over.

use crate::access::Trace;
use crate::client::ClientFault;
use crate::deadline::{Deadline, Passed};
use crate::pump::{Fault, Terms};
use crate::worker::Worker;
use model::limits::{BODY_STALL_TIMEOUT_MS, TUNNEL_DRAIN_IDLE_MS};

pub(crate) struct Course<'a> {
    pub worker: &'a Worker,
    pub deadline: &'a Deadline,
    pub terms: Terms<'a>,
    pub trace: &'a mut Trace,
    tunnel: Tunnel,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    No,
    Open,
    /// Draining has begun: one that is not used ends early.
    Draining,
}

/// What an attempt that can do nothing now waits for of the client. The origin is waited for otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Waits {
    /// More of the request's body.
    pub sender: bool,
    /// That it takes what has come of the response.
    pub reader: bool,
}

impl<'a> Course<'a> {
    pub fn new(
        (worker, deadline): (&'a Worker, &'a Deadline),
        terms: Terms<'a>,
        trace: &'a mut Trace,
    ) -> Course<'a> {
        deadline.stall_after(BODY_STALL_TIMEOUT_MS);
        Course { worker, deadline, terms, trace, tunnel: Tunnel::No }
    }

    pub fn is_tunnel(&self) -> bool {
        self.tunnel != Tunnel::No
    }

    pub fn open_tunnel(&mut self) {
        self.tunnel = Tunnel::Open;
        // The route's time is for requests; a tunnel lasts while it is used.
        self.deadline.cap_at(self.trace.started, None);
    }

    pub fn notice_drain(&mut self) {
        if self.tunnel == Tunnel::Open && self.worker.deadlines.is_draining() {
            self.tunnel = Tunnel::Draining;
            self.progress(true);
        }
    }

    /// What a policy says is for a body that is under way. How long an origin thinks is another matter.
    pub fn progress(&self, is_body: bool) {
        let by_policy = self.terms.care.filter(|_| is_body && !self.is_tunnel());
        self.deadline.stall_after(match self.tunnel {
            Tunnel::Draining => TUNNEL_DRAIN_IDLE_MS,
            Tunnel::No | Tunnel::Open => {
                by_policy.and_then(|care| care.body_timeout_ms).unwrap_or(BODY_STALL_TIMEOUT_MS)
            }
        });
    }

    /// Where the client is to keep a rate, its deadline is when it is below.
    pub fn keep_pace(&self, waits: Waits) {
        let Some(care) = self.terms.care.filter(|_| !self.is_tunnel()) else { return };
        let upload = (self.trace.bytes_in, waits.sender);
        let download = (self.trace.bytes_out, waits.reader);
        if let Some(at_ms) = care.pace(self.worker.deadlines.now_ms(), upload, download) {
            self.deadline.hasten(at_ms);
        }
    }

    /// An origin that gives up when the client's time is over knew of it too, and may be ahead of our own look at the
    /// clock.
    pub fn blame(&self, fault: Fault) -> Fault {
        match fault {
            Fault::NoResponse | Fault::Malformed | Fault::Truncated
                if self.terms.is_clients_time && self.deadline.is_beyond_cap() =>
            {
                Fault::Overdue
            }
            other => other,
        }
    }

    /// An origin is not blamed for the time that the client took.
    pub fn timeout(&self, passed: Passed, waits: Waits) -> Fault {
        let slow = self.terms.care.filter(|_| passed == Passed::Stall);
        if let Some(slow) = slow.and_then(|care| care.slow(self.worker.deadlines.now_ms())) {
            return Fault::Slow(slow);
        }
        match passed {
            Passed::Stall if waits.reader => Fault::Client(ClientFault::Gone),
            Passed::Stall if waits.sender => Fault::ClientTimeout,
            Passed::Cap if waits.reader || waits.sender || self.terms.is_clients_time => {
                Fault::Overdue
            }
            Passed::Stall | Passed::Cap => Fault::Timeout(passed),
        }
    }
}
