//! HTTPRoutes become routes of the plan: rules with their matches, edits, timeouts and action.

use crate::backends::{Reference, References, Resolved};
use crate::codes;
use crate::filters;
use crate::grpc;
use crate::matches;
use crate::policies::{Layer, Scope};
use crate::report::{Problem, Report};
use crate::reuse::Earlier;
use crate::settings;
use crate::traffic;
use manifest::kinds::gateway::{HttpBackendRef, HttpRoute, HttpRouteRule, HttpRouteTimeouts};
use manifest::kinds::grpc::GrpcRouteMatch;
use manifest::kinds::traffic::{HttpRouteRetry, RequestMirror};
use manifest::{Object, Spec};
use model::edge::{Action, Backend, BackendEdits, FrontEnd, Match, Route, Rule, Target, Timeouts};
use model::id::RuleId;
use model::traffic::{BackendProtocol, Mirror, Retry};
use model::{Kind, Node, ObjectId};
use std::time::Duration;

/// What a route comes to by itself, before anybody asks where it attaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteDraft {
    /// By what policies say of the listeners that the route names; never empty.
    variants: Vec<(Layer, Node<Route>)>,
    pub verdict: RouteVerdict,
    pub report: Report,
}

impl RouteDraft {
    /// The route as a listener of this layer serves it.
    pub fn node(&self, layer: Layer) -> &Node<Route> {
        let found = self.variants.iter().find(|(of, _)| *of == layer);
        &found.unwrap_or(&self.variants[0]).1
    }
}

/// What a route without `rules` has (HTTPRouteSpec, rules).
const RULE_FOR_EVERYTHING: HttpRouteRule = HttpRouteRule {
    name: None,
    matches: Vec::new(),
    filters: Vec::new(),
    backend_refs: Vec::new(),
    timeouts: None,
    retry: None,
    session_persistence: None,
};

/// What the rules say about the route's conditions.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteVerdict {
    pub rules: usize,
    pub failed: usize,
    /// Why the first failed rule fails.
    pub unaccepted: Option<Problem>,
    pub unresolved: Option<Problem>,
}

pub(crate) fn draft(
    object: &Object,
    spec: &HttpRoute,
    references: References,
    earlier: &Earlier,
) -> RouteDraft {
    let layers = references.policies.layers(&object.id, &spec.parent_refs);
    let mut said = None;
    let mut variants: Vec<(Layer, Node<Route>)> = Vec::with_capacity(layers.len());
    for layer in layers {
        let scope = references.policies.scope(&object.id, layer);
        let (rules, verdict, report) = rules(object, spec, references, scope);
        // Findings are the same in every layer.
        said.get_or_insert((verdict, report));
        let id = object.id.clone();
        let node = earlier.routes.node(Route { id, front_end: FrontEnd::GatewayApi, rules });
        // Where policies of listeners make no difference, one node serves them all.
        let same = variants.iter().find(|(_, known)| known.digest() == node.digest());
        let node = same.map_or(node, |(_, known)| known.clone());
        variants.push((layer, node));
    }
    let (verdict, report) = said.unwrap_or_default();
    RouteDraft { variants, verdict, report }
}

fn rules(
    object: &Object,
    spec: &HttpRoute,
    references: References,
    scope: Scope,
) -> (Vec<Rule>, RouteVerdict, Report) {
    let (mut verdict, mut report) = (RouteVerdict::default(), Report::default());
    let mut rules = Vec::with_capacity(spec.rules.len());
    let default = [RULE_FOR_EVERYTHING];
    let specs = if spec.rules.is_empty() { &default } else { spec.rules.as_slice() };
    let route = &object.id;
    for (index, rule) in specs.iter().enumerate() {
        let (report, verdict) = (&mut report, &mut verdict);
        let mut draft = RuleDraft { route, index, references, scope, report, verdict };
        let matches = match &object.spec {
            Spec::GrpcRoute(grpc) => grpc::of_rule(grpc_matches(&grpc.matches, index)),
            _ => matches::of_rule(rule),
        };
        rules.extend(draft.rule(rule, matches));
    }
    (rules, verdict, report)
}

/// A route without rules has none.
fn grpc_matches(matches: &[Vec<GrpcRouteMatch>], rule: usize) -> &[GrpcRouteMatch] {
    matches.get(rule).map_or(&[], Vec::as_slice)
}

/// One rule on its way into the plan.
struct RuleDraft<'a> {
    route: &'a ObjectId,
    index: usize,
    references: References<'a>,
    scope: Scope,
    report: &'a mut Report,
    verdict: &'a mut RouteVerdict,
}

impl<'a> RuleDraft<'a> {
    /// None when not one of its matches can be served.
    fn rule(
        &mut self,
        spec: &HttpRouteRule,
        (found, mut problems): (Vec<Match>, Vec<Problem>),
    ) -> Option<Rule> {
        self.verdict.rules += 1;
        let filters = match filters::of_rule(&spec.filters, &found) {
            Ok(filters) => filters,
            Err(problem) => {
                problems.push(problem);
                filters::Filters::default()
            }
        };
        let edits = backend_edits(&spec.backend_refs, &found, &mut problems);
        // Reported by the decoder of the route already.
        let unspoken = (filters.redirect.is_some() && !spec.backend_refs.is_empty()).then(|| {
            let message = "a rule with a RequestRedirect has no backends";
            Problem::new(&codes::INCOMPATIBLE_FILTERS, "IncompatibleFilters", "filters", message)
        });
        let resolved = self.resolve_all(&spec.backend_refs);
        let forward = self.forward(&spec.backend_refs, &resolved, edits);
        let mirrors = self.mirrors(&filters.mirrors);
        let action = match (self.refuse(problems, unspoken), filters.redirect) {
            (Some(fail), _) => fail,
            (None, Some(redirect)) => Action::Redirect(redirect),
            (None, None) => {
                self.say_if_empty(spec);
                forward
            }
        };
        let id = self.id(spec);
        let timeouts = timeouts(spec.timeouts.as_ref());
        let retry = self.retry(spec.retry.as_deref(), &resolved, &timeouts);
        self.say_if_not_hedged(spec, retry.as_deref());
        let persistence = spec.session_persistence.as_ref();
        (!found.is_empty()).then(|| Rule {
            matches: found,
            request_headers: filters.request_headers,
            response_headers: filters.response_headers,
            rewrite: filters.rewrite.unwrap_or_default(),
            timeouts,
            retry,
            cors: filters.cors,
            mirrors,
            persistence: persistence.map(|spec| Box::new(traffic::persistence(spec, &id))),
            policy: self.references.policies.of_rule(self.scope, self.references),
            action,
            id,
        })
    }

    fn id(&self, spec: &HttpRouteRule) -> RuleId {
        RuleId { object: self.route.clone(), index: self.index as u32, name: spec.name.clone() }
    }

    fn field(&self) -> String {
        format!("spec.rules[{}]", self.index)
    }

    /// What makes the rule unacceptable, as the answer it gives instead.
    fn refuse(&mut self, problems: Vec<Problem>, unspoken: Option<Problem>) -> Option<Action> {
        let field = self.field();
        let problems: Vec<Problem> = problems.into_iter().map(|p| p.within(&field)).collect();
        for problem in &problems {
            self.report.problem(self.route, problem);
        }
        let first = problems.into_iter().chain(unspoken.map(|p| p.within(&field))).next()?;
        let action = Action::Fail {
            status: 500,
            why: first.code.slug.into(),
            message: first.message.as_str().into(),
        };
        self.verdict.failed += 1;
        self.verdict.unaccepted.get_or_insert(first);
        Some(action)
    }

    fn resolve_all(&mut self, specs: &[HttpBackendRef]) -> Vec<Resolved<'a>> {
        let each = specs.iter().enumerate();
        each.map(|(index, spec)| self.resolve(spec.into(), &format!("backendRefs[{index}]")))
            .collect()
    }

    fn forward(
        &mut self,
        specs: &[HttpBackendRef],
        resolved: &[Resolved],
        edits: Vec<Option<Box<BackendEdits>>>,
    ) -> Action {
        if specs.is_empty() {
            return no_backends();
        }
        let each = specs.iter().zip(resolved).zip(edits).map(|((spec, resolved), edits)| Backend {
            edits,
            ..self.references.backend(spec.weight.0, resolved, self.scope)
        });
        let backends = each.collect();
        if specs.iter().all(|spec| spec.weight.0 == 0) {
            let field = format!("{}.backendRefs", self.field());
            self.report
                .add(
                    &codes::WEIGHT_ZERO,
                    self.route,
                    field,
                    "every backend has weight 0; the rule answers 500",
                )
                .help("give one of them a weight");
        }
        Action::Forward(backends)
    }

    fn resolve(&mut self, spec: Reference, field: &str) -> Resolved<'a> {
        let field = format!("{}.{field}", self.field());
        let resolved = self.references.of_route(Some(self.scope), self.route, spec);
        let mut resolved = resolved.map_err(|problem| problem.within(&field));
        if let (Kind::GRPC_ROUTE, Ok(reached)) = (self.route.kind, &mut resolved) {
            // gRPC is spoken over HTTP/2 alone: its Services need not say so.
            reached.protocol = BackendProtocol::Http2;
        }
        match &resolved {
            Ok(reached) => {
                if let Some(remark) = self.references.remark(reached) {
                    self.report.problem(self.route, &remark.within(&field));
                }
            }
            Err(problem) => {
                self.report.problem(self.route, problem);
                self.verdict.unresolved.get_or_insert_with(|| problem.clone());
            }
        }
        resolved
    }

    /// A mirror that leads nowhere is left out (HTTPRequestMirrorFilter, backendRef), and so is one of no requests.
    fn mirrors(&mut self, specs: &[(usize, &RequestMirror)]) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        for (index, spec) in specs {
            let field = format!("filters[{index}].requestMirror.backendRef");
            let resolved = self.resolve((&spec.backend).into(), &field);
            let (numerator, denominator) = traffic::share(spec);
            let backend = self.references.backend(1, &resolved, self.scope);
            if numerator > 0 && matches!(backend.target, Target::Service(_)) {
                mirrors.push(Mirror { backend, numerator, denominator });
            }
        }
        mirrors
    }

    fn retry(
        &self,
        spec: Option<&HttpRouteRetry>,
        resolved: &[Resolved],
        timeouts: &Timeouts,
    ) -> Option<Box<Retry>> {
        let reached = resolved.iter().filter_map(|resolved| resolved.as_ref().ok());
        let policies = self.references.policies.retry(self.scope, reached);
        settings::retry(spec, policies.as_ref(), timeouts.backend_request)
    }

    fn say_if_empty(&mut self, spec: &HttpRouteRule) {
        if spec.backend_refs.is_empty() {
            let field = self.field();
            self.report
                .add(
                    &codes::NO_BACKENDS,
                    self.route,
                    field,
                    "the rule has no backend and no redirect; it answers 500",
                )
                .help("add `backendRefs`");
        }
    }

    /// The edge sends no request of a session twice.
    fn say_if_not_hedged(&mut self, spec: &HttpRouteRule, retry: Option<&Retry>) {
        let is_asked = retry.is_some_and(|retry| retry.hedge_after.is_some());
        if is_asked && spec.session_persistence.is_some() {
            let field = format!("{}.sessionPersistence", self.field());
            let message = "`hedgeAfter` of an EdgePolicy has no effect here: a session stays at one endpoint, so none of its requests is sent to another";
            self.report
                .add(&codes::CONTRADICTION, self.route, field, message)
                .help("remove `sessionPersistence`, or `hedgeAfter`");
        }
    }
}

/// Zero switches a timeout off (GEP-1742). Which may be longer, the decoder says.
fn timeouts(spec: Option<&HttpRouteTimeouts>) -> Timeouts {
    let Some(spec) = spec else { return Timeouts::default() };
    let set = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
    Timeouts { request: set(spec.request), backend_request: set(spec.backend_request) }
}

/// What the filters at each backend come to. A filter that cannot be served there fails the rule.
fn backend_edits(
    specs: &[HttpBackendRef],
    matches: &[Match],
    problems: &mut Vec<Problem>,
) -> Vec<Option<Box<BackendEdits>>> {
    let each = specs.iter().enumerate().map(|(index, spec)| {
        filters::of_backend(&spec.filters, matches).unwrap_or_else(|problem| {
            problems.push(problem.within(&format!("backendRefs[{index}]")));
            None
        })
    });
    each.collect()
}

fn no_backends() -> Action {
    Action::Fail {
        status: 500,
        why: codes::NO_BACKENDS.slug.into(),
        message: "the rule has no backend".into(),
    }
}
