//! What policies say of answers that the edge gives itself: pages with the Services that give them, maintenance, the
//! default backend of a listener; and whether the listeners of a port agree on what is asked of its connections.
//! Not here: what fields may hold (`manifest`), which policy is the nearest (`policies`).

use crate::backends::{Reference, References};
use crate::codes;
use crate::lint::listener_field;
use crate::listeners::{GatewayDraft, ListenerDraft};
use crate::matches;
use crate::policies::Scope;
use crate::report::Report;
use crate::reuse::Earlier;
use crate::settings;
use manifest::Inputs;
use manifest::kinds::edge_policy::EdgePolicy;
use manifest::kinds::edge_policy_answers::{ErrorPageSection, MaintenanceSection};
use manifest::kinds::edge_policy_limits::LimitsSection;
use model::answers::{
    Answers, ConnectionLimits, ErrorPage, Maintenance, PageBody, PageContent, PageService, Rates,
    RequestLimits,
};
use model::edge::{Action, Attachment, FrontEnd, Listener, Route, Rule};
use model::id::RuleId;
use model::{HostPattern, Node, ObjectId};
use std::num::NonZeroU32;

/// One level's policy and the object that holds it.
pub(crate) type Level<'a> = (&'a ObjectId, &'a EdgePolicy);

/// Of a rule, or of requests that no rule takes. `merged` is what the levels come to, the nearest of them first.
pub(crate) fn answers(
    merged: &EdgePolicy,
    levels: &[Level],
    references: References,
    scope: Scope,
) -> Option<Box<Answers>> {
    let said_by = |says: fn(&EdgePolicy) -> bool| {
        levels.iter().find(|(_, spec)| says(spec)).map(|(policy, _)| *policy)
    };
    let pages = merged.error_pages.as_ref().zip(said_by(|spec| spec.error_pages.is_some()));
    let pages = pages.map(|(pages, policy)| {
        pages.0.iter().filter_map(|page| self::page(page, policy, references, scope)).collect()
    });
    let switched = said_by(|spec| spec.maintenance.as_ref().is_some_and(|m| m.enabled.is_some()));
    let maintenance = merged.maintenance.as_ref().zip(switched);
    let answers = Answers {
        pages: pages.unwrap_or_default(),
        maintenance: maintenance.and_then(|(section, policy)| self::maintenance(section, policy)),
        limits: merged.limits.as_ref().map(request_limits).unwrap_or_default(),
    };
    (answers != Answers::default()).then(|| Box::new(answers))
}

fn page(
    section: &ErrorPageSection,
    policy: &ObjectId,
    references: References,
    scope: Scope,
) -> Option<ErrorPage> {
    let content = match (&section.body, &section.service) {
        (Some(text), _) => {
            PageContent::Body(PageBody { content_type: section.content_type(), text: text.clone() })
        }
        (None, Some(service)) => {
            let resolved = references.of_route(Some(scope), policy, service.into());
            PageContent::Service(Box::new(PageService {
                backend: references.backend(1, &resolved, scope),
                path: service.path.clone().unwrap_or_else(|| "/".into()),
                policy: policy.clone(),
            }))
        }
        (None, None) => return None,
    };
    let statuses = section.statuses.iter().flatten().map(|range| range.statuses()).collect();
    Some(ErrorPage { statuses, intercept: section.intercept().0, content })
}

fn maintenance(section: &MaintenanceSection, policy: &ObjectId) -> Option<Maintenance> {
    section.enabled().0.then(|| Maintenance {
        retry_after: section.retry_after.map(|period| period.0),
        allow: section.allow.iter().flatten().map(|cidr| cidr.0).collect(),
        body: section
            .body
            .clone()
            .map(|text| PageBody { content_type: section.content_type(), text }),
        policy: policy.clone(),
    })
}

/// What is said is kept where it equals the default, too: it may be what an upper level is overruled with.
fn request_limits(section: &LimitsSection) -> RequestLimits {
    let rate = |bytes: u64| NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX));
    let rates = Rates {
        request: section.request_rate.and_then(|written| rate(written.0)),
        response: section.response_rate.and_then(|written| rate(written.0)),
        grace: section.rate_grace().0,
    };
    RequestLimits {
        body_bytes: section.body_bytes.map(|bytes| bytes.0),
        body_timeout: section.body_timeout.map(|period| period.0),
        rates: (rates.request.is_some() || rates.response.is_some()).then_some(rates),
    }
}

/// Of a listener, as it says them itself.
pub(crate) fn connection_limits(section: &LimitsSection) -> ConnectionLimits {
    ConnectionLimits {
        headers: section.headers.map(|count| count.0),
        head_bytes: section.head_bytes.map(|bytes| bytes.0 as u32),
        target_bytes: section.target_bytes.map(|bytes| bytes.0 as u32),
        head_timeout: section.head_timeout.map(|period| period.0),
        idle_timeout: section.idle_timeout.map(|period| period.0),
        streams: section.streams.map(|streams| streams.0),
    }
}

/// A default backend is a route for every host of its listener, behind all others.
pub(crate) fn attach_defaults(
    gateways: &mut [GatewayDraft],
    references: References,
    earlier: &Earlier,
) {
    for listener in gateways.iter_mut().flat_map(|gateway| &mut gateway.listeners) {
        let scope = Scope::of_listener(listener.layer);
        let levels = references.policies.levels(scope);
        let said = levels.iter().find_map(|(id, spec)| Some((*id, spec.default_backend.as_ref()?)));
        let Some((policy, service)) = said else { continue };
        let resolved = references.of_route(Some(scope), policy, service.into());
        let retry = references.policies.retry(scope, resolved.iter());
        let action = Action::Forward(vec![references.backend(1, &resolved, scope)]);
        let retry = settings::retry(None, retry.as_ref(), None);
        let rule = Rule { retry, ..default_rule(policy, action, listener) };
        let route =
            Route { id: policy.clone(), front_end: FrontEnd::GatewayApi, rules: vec![rule] };
        listener.attachments.push(Attachment {
            host: listener.host.clone(),
            original: HostPattern::Any,
            route: earlier.routes.node(route),
        });
    }
}

fn default_rule(policy: &ObjectId, action: Action, listener: &ListenerDraft) -> Rule {
    Rule {
        policy: listener.unmatched.clone(),
        ..Rule::plain(
            RuleId { object: policy.clone(), index: 0, name: Some("default backend".into()) },
            vec![matches::last_resort()],
            action,
        )
    }
}

/// Reports Services that pages and default backends name and that cannot be used, and sections that are for targets
/// that have nothing to do with them.
pub(crate) fn judge(references: References, report: &mut Report) {
    for (object, spec) in references.inputs.edge_policies() {
        let mut resolve = |to: Reference, field: String| {
            let said = match references.of_route(None, &object.id, to) {
                Ok(reached) => references.remark(&reached),
                Err(problem) => Some(problem),
            };
            if let Some(problem) = said {
                report.problem(&object.id, &problem.within(&field));
            }
        };
        for (index, page) in spec.error_pages.iter().flat_map(|pages| &pages.0).enumerate() {
            if let Some(service) = &page.service {
                resolve(service.into(), format!("spec.errorPages[{index}].service"));
            }
        }
        if let Some(service) = &spec.default_backend {
            resolve(service.into(), "spec.defaultBackend".to_owned());
        }
    }
}

/// Listeners of a port share its connections, so the first that says a limit of them says it for all.
pub(crate) fn check_ports(listeners: &[Node<Listener>], inputs: &Inputs, report: &mut Report) {
    let limits = |listener: &Listener| {
        listener.policy.as_ref().map(|policy| policy.limits).unwrap_or_default()
    };
    for port in listeners.chunk_by(|a, b| a.port == b.port) {
        let mut counts = ConnectionLimits::default();
        for listener in port {
            let own = limits(listener);
            if own.or(counts) != counts.or(own) {
                let message = format!(
                    "{} limits connections of port {} otherwise than a listener before it, which counts",
                    listener.id, listener.port
                );
                report
                    .add(
                        &codes::PORT_LIMITS,
                        &listener.id.object,
                        listener_field(inputs, listener),
                        message,
                    )
                    .help("say these limits in one policy for the Gateway, or give the listener a port of its own");
            }
            counts = counts.or(own);
        }
    }
}
