//! What a fault of an attempt says: of the endpoint, to the client, and about another attempt. Nothing is counted or decided
//! here.

use crate::client::ClientFault;
use crate::deadline::Passed;
use crate::metrics::UpstreamFailure;
use crate::pump::Fault;
use crate::refusal::{Cause, Refusal};
use traffic::{Failure, Outcome};

/// What a client can bring about by itself must not: it could have a healthy endpoint taken out.
pub(super) fn blames_endpoint(fault: Fault) -> bool {
    use Fault::{Client, ClientTimeout, NoTunnel, NotProcessed, Overdue, Slow};
    !matches!(fault, Client(_) | ClientTimeout | Slow(_) | Overdue | NoTunnel | NotProcessed)
}

pub(super) fn outcome(fault: Fault) -> Outcome {
    match fault {
        Fault::Status(500..) | Fault::Replaced(500..) => Outcome::ServerError,
        Fault::Status(_) | Fault::Replaced(_) => Outcome::Success,
        _ => Outcome::Failure,
    }
}

/// Whose fault it is, and what to answer while that is possible.
pub(super) fn verdict(fault: Fault) -> (Option<UpstreamFailure>, Option<Refusal>) {
    let (failure, cause) = match fault {
        Fault::NoResponse => (UpstreamFailure::NoResponse, Cause::BadResponse),
        Fault::Tls => (UpstreamFailure::Tls, Cause::UpstreamTls),
        Fault::NotProcessed => (UpstreamFailure::NotProcessed, Cause::BadResponse),
        Fault::Malformed => (UpstreamFailure::Malformed, Cause::BadResponse),
        Fault::Truncated => (UpstreamFailure::Truncated, Cause::BadResponse),
        Fault::Timeout(Passed::Cap) | Fault::Overdue => {
            (UpstreamFailure::Timeout, Cause::RouteTimeout)
        }
        Fault::Timeout(Passed::Stall) => (UpstreamFailure::Timeout, Cause::BackendTimeout),
        Fault::Status(_) | Fault::NoTunnel => {
            return (None, Some(Refusal::Edge(Cause::BadResponse)));
        }
        Fault::Replaced(status) => return (None, Some(Refusal::Replaced { status })),
        Fault::Slow(slow) => return (None, Some(Refusal::Edge(slow.cause()))),
        Fault::ClientTimeout => return (None, Some(Refusal::Edge(Cause::RequestTimeout))),
        Fault::Client(ClientFault::Gone) => return (None, None),
        Fault::Client(ClientFault::TooLarge) => {
            return (None, Some(Refusal::Edge(Cause::BodyTooLarge)));
        }
        Fault::Client(ClientFault::Encoding) => {
            return (None, Some(Refusal::Edge(Cause::BodyEncoding)));
        }
        Fault::Client(ClientFault::Message(reason)) => {
            return (None, Some(Refusal::Message(reason)));
        }
    };
    (Some(failure), Some(Refusal::Edge(cause)))
}

/// How far the attempt came, where another one may be sound.
pub(super) fn failure_of(fault: Fault) -> Option<Failure> {
    match fault {
        Fault::NoResponse | Fault::Tls => Some(Failure::NoResponse),
        Fault::NotProcessed => Some(Failure::Declined),
        // Of the latter the head was taken back.
        Fault::Malformed | Fault::Truncated => Some(Failure::Malformed),
        Fault::Status(status) => Some(Failure::Status(status)),
        Fault::Timeout(_) => Some(Failure::TimedOut),
        Fault::Replaced(_)
        | Fault::NoTunnel
        | Fault::Overdue
        | Fault::ClientTimeout
        | Fault::Slow(_)
        | Fault::Client(_) => None,
    }
}
