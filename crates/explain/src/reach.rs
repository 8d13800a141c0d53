//! What came of trying endpoints without a request: which object a fault is about, and how it is mended.

use crate::gateway::Taken;
use crate::spread::Tier;
use crate::subject::Subject;
use crate::{Finding, State};
use model::reach::{Unreachable, Unreached};
use model::{Link, ObjectId};
use std::net::SocketAddr;

/// Every endpoint that was tried fails; this is the first.
pub fn finding(
    subject: &Subject<'_>,
    tier: &Tier<'_>,
    (address, slice): (SocketAddr, &ObjectId),
    unreached: &Unreached,
) -> Finding {
    let Unreached { cause, why } = unreached;
    let what = match cause {
        cause if cause.is_tls() => "can be talked to over TLS",
        Unreachable::NotConnected => "takes a connection",
        _ => "waits for a request",
    };
    let detail = format!("no ready endpoint of {} {what} ({address}: {why})", tier.port);
    let policy = tls_policy(subject, tier);
    let (object, field) = at_fault(subject, tier, (policy, slice), *cause);
    let help = help(tier, policy, address, *cause);
    Finding::new(Link::Pod, State::Broken, detail).help(help).about(subject, &object, field)
}

fn at_fault(
    subject: &Subject<'_>,
    tier: &Tier<'_>,
    (policy, slice): (Option<&ObjectId>, &ObjectId),
    cause: Unreachable,
) -> (ObjectId, &'static str) {
    let of_policy = |field| match policy {
        Some(policy) => (policy.clone(), field),
        None => (tier.port.service(), "spec.ports"),
    };
    match cause {
        Unreachable::TlsName => of_policy("spec.validation.hostname"),
        Unreachable::TlsAuthority => of_policy("spec.validation.caCertificateRefs"),
        Unreachable::TlsPolicy => of_policy("spec.validation"),
        Unreachable::Protocol => (tier.port.service(), "spec.ports"),
        Unreachable::TlsClient => match &subject.taken {
            Taken::Rule { matched } => (matched.listener.listener().id.object.clone(), "spec.tls"),
            Taken::Stream(stream) => (stream.listener.id.object.clone(), "spec.tls"),
            _ => (slice.clone(), "endpoints"),
        },
        Unreachable::NotConnected
        | Unreachable::Closes
        | Unreachable::TlsTime
        | Unreachable::Tls => (slice.clone(), "endpoints"),
    }
}

/// The one of those for the Service that says what the plan says.
fn tls_policy<'a>(subject: &Subject<'a>, tier: &Tier<'_>) -> Option<&'a ObjectId> {
    let hostname = &tier.policy?.tls.as_ref()?.hostname;
    let policies = subject.world.inputs.backend_tls_policies();
    let mut of_namespace = policies.filter(|(o, _)| o.id.namespace == tier.port.namespace);
    let found = of_namespace.find(|(_, policy)| {
        policy.targets.iter().any(|target| target.name == tier.port.name)
            && policy.validation.hostname.text() == *hostname
    });
    found.map(|(object, _)| &object.id)
}

fn help(
    tier: &Tier<'_>,
    policy: Option<&ObjectId>,
    address: SocketAddr,
    cause: Unreachable,
) -> String {
    let tls = tier.policy.and_then(|policy| policy.tls.as_ref());
    let name = tls.map_or("", |tls| &*tls.hostname);
    match cause {
        Unreachable::NotConnected => "is the process running, and on that port?".to_owned(),
        Unreachable::Closes if tls.is_some() => {
            "see the pod's own log; does it want the PROXY protocol first?".to_owned()
        }
        Unreachable::Closes => {
            "see the pod's own log; does it want TLS, or the PROXY protocol first?".to_owned()
        }
        Unreachable::Protocol => {
            "say in `appProtocol` of the Service's port what the pod speaks".to_owned()
        }
        Unreachable::TlsPolicy => "see what `cutwater check` says of it".to_owned(),
        Unreachable::TlsName => match policy {
            Some(policy) => format!(
                "correct `hostname` of {policy}, which is {name}, or list the names of the certificate in `subjectAltNames`"
            ),
            None => format!(
                "write a BackendTLSPolicy with the name that the certificate has; without one it has to have {name}"
            ),
        },
        Unreachable::TlsTime => {
            "renew the certificate of the pod; look at the clocks of both".to_owned()
        }
        Unreachable::TlsAuthority => {
            "put the authority that issued the pod's certificate in `ca.crt` of what a BackendTLSPolicy names in `caCertificateRefs`"
                .to_owned()
        }
        Unreachable::TlsClient => match tls.and_then(|tls| tls.client_certificate.as_ref()) {
            Some(secret) => format!(
                "it is shown the certificate of {secret}: have the pod trust its issuer, or name another in `clientCertificateRef`"
            ),
            None => "name the Secret of a client certificate in the Gateway's `spec.tls.backend.clientCertificateRef`"
                .to_owned(),
        },
        Unreachable::Tls => format!(
            "does the pod speak TLS there? compare with `openssl s_client -connect {address} -servername {name}`"
        ),
    }
}
