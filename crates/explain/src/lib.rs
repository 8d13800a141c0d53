//! Floor 3: why a name works or does not. Walks the nine links for one request and names the first broken one, with
//! its object, place, owner and mend. A pure function over the plan, the facts and what probes saw.
//!
//! ```text
//! question ── wanted() ──> what to probe ── a shell probes ──> evidence ── explain() ──> nine links
//! ```
//!
//! Not here: probing (`instance`), colours (`cutwater`).
#![forbid(unsafe_code)]

mod entry;
mod evidence;
mod gateway;
mod json;
mod mistakes;
mod name;
mod own;
mod pods;
mod policy;
mod question;
mod reach;
mod resolution;
mod spread;
mod stream;
mod subject;
mod text;
mod tls;

pub use evidence::{
    DnsAnswer, Evidence, Failing, Handshake, Nowhere, PortState, Probed, TakenOut, Try, Wanted,
};
pub use json::to_json;
pub use question::{BadQuestion, Question};
pub use text::to_text;

use compile::Compiled;
use manifest::Inputs;
use model::facts::Locality;
use model::{Diagnostic, Facts, Link, ObjectId, Owner, Place};
use routing::Router;
use std::net::IpAddr;
use subject::Subject;

/// What is known without asking anybody.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub compiled: &'a Compiled,
    pub inputs: &'a Inputs,
    /// Of reading: an error among them holds the folder back, and what it is about was read in part or not at all.
    pub mistakes: &'a [Diagnostic],
    pub facts: &'a Facts,
    pub router: &'a Router,
    pub entry: &'a Entry,
}

/// This installation's own address: where served names should lead.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub advertised: Vec<IpAddr>,
    pub port_offset: u16,
    /// Where it runs, as it was told.
    pub here: Locality,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok,
    Broken,
    /// Broken only because another link is.
    Consequence,
    /// Nothing to judge, or not probed.
    Skipped,
    /// The probe itself failed.
    Unknown,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Broken => "broken",
            State::Consequence => "consequence",
            State::Skipped => "skipped",
            State::Unknown => "unknown",
        }
    }
}

/// What was found about one link.
#[derive(Clone, Debug)]
pub struct Finding {
    pub link: Link,
    pub state: State,
    pub detail: String,
    pub object: Option<ObjectId>,
    pub place: Option<Place>,
    pub owner: Option<Owner>,
    pub help: String,
}

#[derive(Clone, Debug)]
pub struct Explanation {
    pub host: String,
    pub url: String,
    pub digest: String,
    pub owner: Option<Owner>,
    /// Other broken rules of the host.
    pub notes: Vec<String>,
    /// Nine, in order.
    pub findings: Vec<Finding>,
}

impl Explanation {
    /// The lowest broken link.
    pub fn broken(&self) -> Option<Link> {
        self.findings
            .iter()
            .find(|finding| finding.state == State::Broken)
            .map(|finding| finding.link)
    }
}

/// What a shell should probe before it asks [`explain`].
pub fn wanted(world: &World<'_>, question: &Question) -> Wanted {
    let subject = Subject::new(world, question);
    Wanted {
        dns: subject.zone.map(|_| subject.host.to_owned()),
        tls: subject
            .tls_port()
            .filter(|_| !policy::is_guarded(&subject))
            .map(|port| (port, subject.host.to_owned())),
        endpoints: pods::tries(&subject),
        names: pods::names(&subject),
    }
}

/// Judges the nine links. `now` is seconds since 1970, for expiry.
pub fn explain(
    world: &World<'_>,
    question: &Question,
    evidence: &Evidence,
    now: i64,
) -> Explanation {
    let subject = Subject::new(world, question);
    let mut findings = vec![
        name::judge(&subject),
        resolution::judge(&subject, evidence),
        resolution::judge_address(&subject, evidence),
        tls::judge(&subject, evidence, now),
        policy::judge(&subject),
        entry::judge(&subject, evidence),
        gateway::judge(&subject),
        pods::judge_services(&subject),
        pods::judge(&subject, evidence),
    ];
    if subject.is_plain_record() {
        findings
            .iter_mut()
            .skip(usize::from(Link::Routing.number()))
            .for_each(Finding::skip_for_dns_alone);
    }
    // The lower number is not always the cause: a port that is not bound has no handshake.
    if entry::is_unbound(&subject, evidence) {
        findings[usize::from(Link::Tls.number()) - 1].follow(Link::LoadBalancer);
    }
    mark_consequences(&mut findings);
    let elsewhere = mistakes::apply(&subject, &mut findings);
    let broken_owner = findings
        .iter()
        .find(|finding| finding.state == State::Broken)
        .and_then(|f| f.owner.clone());
    Explanation {
        host: subject.host.to_owned(),
        url: subject.url(),
        digest: world.compiled.snapshot.digest.short(),
        owner: broken_owner.or_else(|| subject.owner()),
        notes: notes(&subject, &findings, elsewhere),
        findings,
    }
}

/// Without what a link says already.
fn notes(subject: &Subject<'_>, findings: &[Finding], elsewhere: Vec<String>) -> Vec<String> {
    let mut notes = gateway::notes(subject);
    notes.extend(elsewhere);
    let is_said =
        |note: &str| findings.iter().any(|f| f.state == State::Broken && note.ends_with(&f.detail));
    notes.retain(|note| !is_said(note));
    notes
}

/// What a broken link takes with it.
const TAKES_WITH_IT: &[(Link, &[Link])] = &[
    (
        Link::Name,
        &[
            Link::Resolution,
            Link::Routing,
            Link::Tls,
            Link::LoadBalancer,
            Link::Gateway,
            Link::Service,
            Link::Pod,
        ],
    ),
    (Link::Resolution, &[Link::Routing]),
    (Link::Service, &[Link::Pod]),
];

fn mark_consequences(findings: &mut [Finding]) {
    let index = |link: &Link| usize::from(link.number()) - 1;
    // One fault that shows at two links is said once.
    let (tls, gateway) = (&findings[index(&Link::Tls)], &findings[index(&Link::Gateway)]);
    if tls.state == State::Broken && tls.detail == gateway.detail {
        findings[index(&Link::Gateway)].follow(Link::Tls);
    }
    for (cause, links) in TAKES_WITH_IT {
        if findings[index(cause)].state != State::Broken {
            continue;
        }
        for link in *links {
            findings[index(link)].follow(*cause);
        }
    }
}

impl Finding {
    fn new(link: Link, state: State, detail: impl Into<String>) -> Self {
        Finding {
            link,
            state,
            detail: detail.into(),
            object: None,
            place: None,
            owner: None,
            help: String::new(),
        }
    }

    /// Turns broken into a consequence of `cause`.
    fn follow(&mut self, cause: Link) {
        if self.state == State::Broken {
            self.state = State::Consequence;
            self.help = format!("mend link {} ({cause}) first", cause.number());
        }
    }

    fn skip_for_dns_alone(&mut self) {
        *self = Finding::new(self.link, State::Skipped, "DNS alone answers for the name");
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// The object at fault or in charge, its place and its owner.
    fn about(mut self, subject: &Subject<'_>, object: &ObjectId, field: &str) -> Self {
        self.place = subject.world.inputs.origins.place(object, field);
        self.owner = subject.owner_of(object);
        self.object = Some(object.clone());
        self
    }
}
