//! Ingress: each host becomes an entry on port 80, and with `tls` on port 443, with the rules of all Ingresses that
//! name it. There is no forced redirect to HTTPS.
//!
//! Path types: Exact, Prefix by path element, ImplementationSpecific as Prefix. A rule without host is for every host,
//! and the default backend takes what no rule takes, of this Ingress's hosts and of others' (`entries`).

use crate::backends::References;
use crate::certificates;
use crate::codes;
use crate::entries::Entries;
use crate::matches;
use crate::policies::{Layer, Scope};
use crate::report::{Problem, Report};
use crate::reuse::Earlier;
use crate::settings;
use manifest::kinds::kubernetes::{Ingress, IngressBackend, IngressTls};
use manifest::{Inputs, Object};
use model::edge::{Action, Attachment, FrontEnd, Match, Protocol, Route, Rule};
use model::front::RulePolicy;
use model::id::RuleId;
use model::traffic::Retry;
use model::{HostPattern, Kind, Node, ObjectId, Text};
use std::collections::{BTreeMap, BTreeSet};

/// Rules without host stand behind those of each host.
fn share_with_hosts(rules: &mut BTreeMap<HostPattern, Vec<Rule>>) {
    let common = rules.get(&HostPattern::Any).cloned().unwrap_or_default();
    for (_, of_host) in rules.iter_mut().filter(|(host, _)| **host != HostPattern::Any) {
        of_host.extend(common.iter().cloned());
    }
}

/// What is the same for every Ingress.
pub(crate) struct Front<'a> {
    pub references: References<'a>,
    pub earlier: &'a Earlier<'a>,
}

impl Front<'_> {
    pub fn add(
        &self,
        object: &Object,
        ingress: &Ingress,
        entries: &mut Entries,
        report: &mut Report,
    ) {
        let mut rules = self.rules_by_host(&object.id, ingress, report);
        if let Some(default) = &ingress.default_backend {
            let last = self.default_rule(&object.id, ingress, default, report);
            rules.entry(HostPattern::Any).or_default().push(last);
        }
        share_with_hosts(&mut rules);
        if rules.is_empty() {
            let message = format!("{} has neither rules nor a default backend", object.id);
            report.add(&codes::INGRESS_EMPTY, &object.id, "spec", message);
        }
        let secrets = secrets_by_host(&object.id, ingress, &rules, self.references.inputs, report);
        let mut refused = BTreeSet::new();
        for (host, rules) in rules {
            let secrets = secrets.get(&host).map_or(&[][..], Vec::as_slice);
            let route = self.earlier.routes.node(Route {
                id: object.id.clone(),
                front_end: FrontEnd::Ingress,
                rules,
            });
            for protocol in [Protocol::Http, Protocol::Https] {
                if protocol == Protocol::Https && secrets.is_empty() {
                    continue;
                }
                let Ok(listener) = entries.for_ingress(&object.id, protocol, &host) else {
                    refused.insert(protocol);
                    continue;
                };
                listener.attachments.push(Attachment {
                    host: host.clone(),
                    original: host.clone(),
                    route: route.clone(),
                });
                for secret in secrets.iter().filter(|_| protocol == Protocol::Https) {
                    if !listener.certificates.contains(secret) {
                        listener.certificates.push(secret.clone());
                    }
                }
            }
        }
        refused.into_iter().for_each(|protocol| report_port(&object.id, protocol, report));
    }

    fn rules_by_host(
        &self,
        id: &ObjectId,
        ingress: &Ingress,
        report: &mut Report,
    ) -> BTreeMap<HostPattern, Vec<Rule>> {
        let mut hosts: BTreeMap<HostPattern, Vec<Rule>> = BTreeMap::new();
        let mut number = 0;
        for (index, rule) in ingress.rules.iter().enumerate() {
            let host = rule.host.as_ref().map_or(HostPattern::Any, |host| host.0.clone());
            let rules = hosts.entry(host).or_default();
            let paths = rule.http.as_ref().map_or(&[][..], |http| &http.paths);
            for (position, path) in paths.iter().enumerate() {
                let field = format!("spec.rules[{index}].http.paths[{position}]");
                let led = self.led(id, &path.backend, &format!("{field}.backend"), report);
                match matches::of_ingress(path) {
                    Ok(found) => rules.push(plain_rule(id, number, found, led)),
                    Err(problem) => {
                        report.problem(id, &problem.within(&field));
                    }
                }
                number += 1;
            }
        }
        hosts
    }

    fn default_rule(
        &self,
        id: &ObjectId,
        ingress: &Ingress,
        backend: &IngressBackend,
        report: &mut Report,
    ) -> Rule {
        let paths = |rule: &manifest::kinds::kubernetes::IngressRule| {
            rule.http.as_ref().map_or(0, |http| http.paths.len())
        };
        let number = ingress.rules.iter().map(paths).sum::<usize>() as u32;
        let led = self.led(id, backend, "spec.defaultBackend", report);
        plain_rule(id, number, matches::last_resort(), led)
    }

    fn led(
        &self,
        id: &ObjectId,
        backend: &IngressBackend,
        field: &str,
        report: &mut Report,
    ) -> Led {
        let resolved = match &backend.service {
            Some(service) => self
                .references
                .of_ingress(id, service)
                .map_err(|problem| problem.within(&format!("{field}.service"))),
            None => Err(Problem::new(
                &codes::BACKEND_KIND,
                "InvalidKind",
                field,
                "a backend that is no Service is not served",
            )),
        };
        let References { policies, .. } = self.references;
        let said = match &resolved {
            Ok(reached) => {
                let remark = self.references.remark(reached);
                remark.map(|remark| remark.within(&format!("{field}.service")))
            }
            Err(problem) => Some(problem.clone()),
        };
        if let Some(problem) = said {
            report.problem(id, &problem);
        }
        let scope = self.scope(id);
        let retry = policies.retry(scope, resolved.iter());
        Led {
            action: Action::Forward(vec![self.references.backend(1, &resolved, scope)]),
            retry: settings::retry(None, retry.as_ref(), None),
            policy: policies.of_rule(scope, self.references),
        }
    }

    /// Policies of Gateways and routes do not reach an Ingress; one for the Ingress does.
    fn scope(&self, id: &ObjectId) -> Scope {
        self.references.policies.scope(id, Layer::default())
    }
}

/// Where a path leads.
struct Led {
    action: Action,
    retry: Option<Box<Retry>>,
    policy: Option<Node<RulePolicy>>,
}

/// Path of a rule of the plan in its Ingress: rules are numbered over all paths, the default backend last.
pub(crate) fn field_of_rule(ingress: &Ingress, number: u32) -> String {
    let mut left = number as usize;
    for (index, rule) in ingress.rules.iter().enumerate() {
        let paths = rule.http.as_ref().map_or(0, |http| http.paths.len());
        if left < paths {
            return format!("spec.rules[{index}].http.paths[{left}]");
        }
        left -= paths;
    }
    "spec.defaultBackend".to_owned()
}

fn plain_rule(id: &ObjectId, index: u32, found: Match, led: Led) -> Rule {
    Rule {
        retry: led.retry,
        policy: led.policy,
        ..Rule::plain(RuleId { object: id.clone(), index, name: None }, vec![found], led.action)
    }
}

/// Secrets of each host, in the order written. An entry without hosts is for all of them.
fn secrets_by_host(
    id: &ObjectId,
    ingress: &Ingress,
    rules: &BTreeMap<HostPattern, Vec<Rule>>,
    inputs: &Inputs,
    report: &mut Report,
) -> BTreeMap<HostPattern, Vec<ObjectId>> {
    let mut secrets: BTreeMap<HostPattern, Vec<ObjectId>> = BTreeMap::new();
    for (index, tls) in ingress.tls.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        let Some(name) = &tls.secret_name else {
            report
                .add(&codes::INGRESS_TLS, id, &field, "the tls entry names no Secret")
                .help("add `secretName`; a Secret that does not exist is issued from the local CA");
            continue;
        };
        let secret = ObjectId::new(Kind::SECRET, id.namespace.clone(), Text::clone(name));
        let (secret, problem) = match certificates::look_up(secret, inputs) {
            Ok(found) => (Some(found.secret), found.missing),
            Err(problem) => (None, Some(problem)),
        };
        if let Some(problem) = problem {
            report.problem(id, &problem.within(&format!("{field}.secretName")));
        }
        let Some(secret) = secret else { continue };
        for host in rules.keys().filter(|host| is_for(tls, host)) {
            secrets.entry(host.clone()).or_default().push(secret.clone());
        }
        for (position, host) in tls.hosts.iter().enumerate() {
            if !rules.keys().any(|served| host.0.covers(served)) {
                report
                    .add(
                        &codes::INGRESS_TLS,
                        id,
                        format!("{field}.hosts[{position}]"),
                        format!("no rule of {id} is for {}", host.0),
                    )
                    .help("add a rule for the host, or remove it here");
            }
        }
    }
    secrets
}

fn is_for(tls: &IngressTls, host: &HostPattern) -> bool {
    tls.hosts.is_empty() || tls.hosts.iter().any(|wanted| wanted.0.covers(host))
}

fn report_port(id: &ObjectId, protocol: Protocol, report: &mut Report) {
    let (port, name) = match protocol {
        Protocol::Http => (80, "HTTP"),
        Protocol::Https => (443, "HTTPS"),
    };
    let message = format!("{id} needs {name} on port {port}, where a Gateway speaks otherwise");
    report
        .add(&codes::INGRESS_PORT, id, "spec", message)
        .help(format!("move the Gateway's listener away from port {port}"));
}
