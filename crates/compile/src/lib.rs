//! Floor 2: Inputs to Snapshot, Facts, diagnostics and desired status. Pure and total: nothing here fails, reads a
//! clock or depends on the order of files; a bad object damages itself alone, with a diagnostic.
//!
//! ```text
//! Inputs ─ policies ─ classes ─ listeners ─ routes ─ attach ─ ingress ─> listeners of the plan
//!                                                              ├ zones, certificates, contracts, claims ─> the other sections
//!                                                              └ lint, coverage ─> diagnostics
//! ```
//!
//! Not here: formats (`manifest`), match tables (`routing`), the wire form of records (`zone`).
#![forbid(unsafe_code)]

mod advise;
mod affected;
mod answers;
mod attach;
mod backend_client;
mod backend_tls;
mod backends;
mod certificates;
mod claims;
mod classes;
mod client_trust;
pub mod codes;
mod contracts;
mod contradictions;
mod difference;
mod drafts;
mod entries;
mod entry_settings;
mod expiry;
mod facts;
mod fallback;
mod filters;
mod front_settings;
mod grants;
mod grpc;
mod ingress;
mod layer4;
mod lint;
mod listeners;
mod matches;
mod merge;
mod namespaces;
mod policies;
mod policy_reach;
mod report;
mod reuse;
mod routes;
mod settings;
mod status;
mod traffic;
mod zones;

pub use advise::{advise, external_names};
pub use difference::{Change, Difference, difference};
pub use drafts::Drafts;
pub use expiry::certificate_findings;
pub use facts::facts;
pub use lint::field_of_rule;

use attach::{Drafted, Parents};
use backend_tls::Uses;
use backends::References;
use entries::Entries;
use grants::Grants;
use ingress::Front;
use manifest::Inputs;
use model::dns::DnsPlan;
use model::edge::{EdgePlan, Listener};
use model::governance::GovernancePlan;
use model::status::ObjectStatus;
use model::{Diagnostic, Node, Snapshot};
use policies::Policies;
use report::Report;
use reuse::Earlier;

/// What the inputs amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    pub snapshot: Snapshot,
    /// In order of print.
    pub diagnostics: Vec<Diagnostic>,
    /// Of our GatewayClasses, Gateways, the HTTPRoutes that name them and the policies, sorted by object.
    pub statuses: Vec<ObjectStatus>,
}

/// Compiles a snapshot. `previous` decides nothing: parts that are equal keep its nodes, so that readers skip them.
pub fn compile(inputs: &Inputs, previous: Option<&Snapshot>) -> Compiled {
    compile_with(inputs, previous, &mut Drafts::default())
}

/// The same result for less work, where `drafts` comes from the compile that made `previous`.
pub fn compile_with(inputs: &Inputs, previous: Option<&Snapshot>, drafts: &mut Drafts) -> Compiled {
    let mut report = Report::default();
    let earlier = Earlier::of(previous);
    let edge = edge(inputs, &earlier, drafts, &mut report);
    let plan = EdgePlan { listeners: edge.listeners, layer4: edge.layer4 };
    let listeners = &plan.listeners;
    let certificates = certificates::plan(&plan, inputs, &earlier, &mut report);
    let zones = zones::plan(inputs, &plan, &earlier, &mut report);
    let contracts = contracts::contracts(inputs, &earlier);
    let teams = contracts::teams(inputs);

    certificates::check_coverage(&plan, inputs, &mut report);
    contracts::check(&contracts, &plan, &mut report);
    lint::check(listeners, inputs, &mut report);
    layer4::check(&plan.layer4, inputs, &mut report);
    answers::check_ports(listeners, inputs, &mut report);
    lint::check_services(inputs, &mut report);
    let owners = contracts::Owners::of(&contracts, &teams);
    let diagnostics = report.finish(&inputs.origins, &owners);

    let visibilities = contracts::visibilities(&contracts);
    let claims = claims::claims(&plan, &zones, edge.lost, &visibilities, earlier.claims());
    let snapshot = Snapshot::new(
        earlier.edge.node(plan),
        earlier.dns.node(DnsPlan { zones }),
        certificates,
        earlier.governance.node(GovernancePlan { contracts, claims, teams }),
    );
    Compiled { snapshot, diagnostics, statuses: edge.statuses }
}

struct Edge {
    listeners: Vec<Node<Listener>>,
    layer4: Vec<Node<model::layer4::Listener>>,
    lost: Vec<claims::Lost>,
    statuses: Vec<ObjectStatus>,
}

/// Both front ends, in one table of listeners.
fn edge(inputs: &Inputs, earlier: &Earlier, drafts: &mut Drafts, report: &mut Report) -> Edge {
    let grants = Grants::of(inputs);
    let mut policies = Policies::of(inputs, &grants, earlier);
    policies.judge(report);
    let references = References { inputs, grants: &grants, policies: &policies };
    answers::judge(references, report);
    fallback::check(references, report);
    let gateways = classes::our_gateways(inputs, report);
    let ingresses = classes::our_ingresses(inputs, report);
    let mut gateways = listeners::drafts(gateways, references, report);
    let parents = Parents::of(inputs, &mut gateways);
    let mut statuses = attach_routes(parents, references, drafts, earlier, report);
    statuses.extend(status::classes(inputs));
    statuses.extend(gateways.iter().map(status::gateway));
    statuses.sort_by(|a, b| a.object.cmp(&b.object));

    answers::attach_defaults(&mut gateways, references, earlier);
    let lost = claims::lost(&gateways);
    let mut entries = Entries::of(&mut gateways);
    let layer4 = layer4::listeners(&mut gateways, earlier);
    let front = Front { references, earlier };
    for (object, spec) in ingresses {
        front.add(object, spec, &mut entries, report);
    }
    let listeners = entries.finish().into_iter().map(|l| earlier.listeners.node(l)).collect();
    Edge { listeners, layer4, lost, statuses }
}

/// The oldest route first: attachments are in order of precedence.
fn attach_routes(
    mut parents: Parents,
    references: References,
    drafts: &mut Drafts,
    earlier: &Earlier,
    report: &mut Report,
) -> Vec<ObjectStatus> {
    let mut routes: Vec<_> = references.inputs.routes().collect();
    routes.sort_by(|a, b| classes::age(a.0).cmp(&classes::age(b.0)));
    let policies = references.policies;
    let mut uses = Uses::default();
    let mut statuses: Vec<ObjectStatus> = drafts
        .of(&routes, references, earlier)
        .zip(&routes)
        .filter_map(|(draft, (object, spec))| {
            report.join(&draft.report);
            let route = Drafted::http(object, spec, draft);
            let parents = parents.attach(&route, report);
            policies.tls.note_use(&object.id, spec, &parents, &mut uses);
            (!parents.is_empty()).then(|| status::route(&object.id, parents))
        })
        .collect();
    for written in layer4::written(references.inputs) {
        let id = &written.object.id;
        let draft = written.draft(references, earlier);
        report.join(&draft.report);
        let parents = parents.attach(&Drafted::stream(&written, &draft), report);
        policies.tls.note_uses(id, written.services(), &parents, &mut uses);
        statuses.extend((!parents.is_empty()).then(|| status::route(id, parents)));
    }
    statuses.extend(policies.statuses(&uses));
    statuses
}
