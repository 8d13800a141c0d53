//! The explanation as JSON: the command line's contract.

use crate::{Explanation, Finding};
use model::{Owner, Text};
use serde_json::{Value, json};

pub fn to_json(explanation: &Explanation) -> Value {
    json!({
        "host": explanation.host,
        "url": explanation.url,
        "digest": explanation.digest,
        "broken": explanation.broken().map(model::Link::number),
        "owner": owner(explanation.owner.as_ref()),
        "notes": explanation.notes,
        "links": explanation.findings.iter().map(link).collect::<Vec<_>>(),
    })
}

fn link(finding: &Finding) -> Value {
    json!({
        "n": finding.link.number(),
        "name": finding.link.name(),
        "state": finding.state.name(),
        "detail": finding.detail,
        "object": finding.object.as_ref().map(|object| json!({
            "kind": object.kind.0,
            "namespace": &*object.namespace,
            "name": &*object.name,
        })),
        "file": finding.place.as_ref().map(|place| place.file.to_string()),
        "line": finding.place.as_ref().map(|place| place.line),
        "owner": owner(finding.owner.as_ref()),
        "help": finding.help,
    })
}

fn owner(owner: Option<&Owner>) -> Value {
    let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
    match owner {
        Some(owner) => {
            json!({"team": &*owner.team, "app": text(&owner.app), "contract": text(&owner.contract)})
        }
        None => Value::Null,
    }
}
