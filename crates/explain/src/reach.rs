//! What came of trying endpoints without a request: which object a fault is about, and how it is mended.

use crate::gateway::Taken;
use crate::spread::Tier;
use crate::subject::Subject;
use crate::{Finding, State};
use model::reach::{Unreachable, Unreached};
use model::traffic::BackendTls;
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
        | Unreachable::TlsRefused
        | Unreachable::TlsVersion
        | Unreachable::TlsSilent
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
    let words = match cause {
        Unreachable::NotConnected => "is the process running, and on that port?",
        Unreachable::Closes if tls.is_some() => {
            "see the pod's own log; does it want the PROXY protocol first?"
        }
        Unreachable::Closes => {
            "see the pod's own log; does it want TLS, or the PROXY protocol first?"
        }
        Unreachable::Protocol => "say in `appProtocol` of the Service's port what the pod speaks",
        Unreachable::TlsPolicy => "see what `cutwater check` says of it",
        Unreachable::TlsTime => "renew the certificate of the pod; look at the clocks of both",
        Unreachable::TlsVersion => "the pod has to speak TLS 1.2 or 1.3: nothing older is spoken",
        Unreachable::TlsAuthority if policy.is_some() => {
            "put the authority that issued the pod's certificate in `ca.crt` of what the policy names in `caCertificateRefs`"
        }
        Unreachable::TlsAuthority => {
            "write a BackendTLSPolicy for the Service that names the authority of the pod's certificate in `caCertificateRefs`; without one the system's authorities are trusted"
        }
        Unreachable::TlsName
        | Unreachable::TlsClient
        | Unreachable::TlsRefused
        | Unreachable::TlsSilent
        | Unreachable::Tls => return help_of_handshake(tls, policy, address, cause),
    };
    words.to_owned()
}

/// With what the plan says of it.
fn help_of_handshake(
    tls: Option<&BackendTls>,
    policy: Option<&ObjectId>,
    address: SocketAddr,
    cause: Unreachable,
) -> String {
    let name = tls.map_or("", |tls| &*tls.hostname);
    let compare = format!("compare with `openssl s_client -connect {address} -servername {name}`");
    let shown = tls.and_then(|tls| tls.client_certificate.as_ref());
    match (cause, policy, shown) {
        (Unreachable::TlsName, Some(policy), _) => format!(
            "correct `hostname` of {policy}, which is {name}, or list the names of the certificate in `subjectAltNames`"
        ),
        (Unreachable::TlsName, None, _) => format!(
            "write a BackendTLSPolicy with the name that the certificate has; without one it has to have {name}"
        ),
        (Unreachable::TlsClient, _, Some(secret)) => format!(
            "it is shown the certificate of {secret}: have the pod trust its issuer, or name another in `clientCertificateRef`"
        ),
        (Unreachable::TlsClient, _, None) => {
            "name the Secret of a client certificate in the Gateway's `spec.tls.backend.clientCertificateRef`"
                .to_owned()
        }
        (Unreachable::TlsRefused, _, Some(secret)) => format!(
            "does the pod trust the issuer of {secret}, whose certificate it is shown? else {compare}"
        ),
        (Unreachable::TlsRefused, _, None) => format!(
            "does the pod want a client certificate? name its Secret in the Gateway's `spec.tls.backend.clientCertificateRef`; else {compare}"
        ),
        (Unreachable::TlsSilent, ..) => {
            format!("does the pod speak TLS there, and is it not stuck? {compare}")
        }
        _ => format!("does the pod speak TLS there? {compare}"),
    }
}
