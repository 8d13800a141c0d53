//! The explanation for people, from its JSON: an instance that is asked over the network prints the same.

use serde_json::Value;

/// `paint` may colour a link's state word.
pub fn to_text(explanation: &Value, paint: &dyn Fn(&str, &str) -> String) -> String {
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut out =
        format!("{}  (snapshot {})\n", word(explanation, "url"), word(explanation, "digest"));
    for link in explanation["links"].as_array().into_iter().flatten() {
        out.push_str(&link_text(link, paint));
    }
    match explanation["broken"].as_u64() {
        Some(number) => {
            let name = explanation["links"][number.saturating_sub(1) as usize]["name"]
                .as_str()
                .unwrap_or_default();
            out.push_str(&format!("broken: link {number}, {name}\n"));
        }
        None => out.push_str("no link is broken\n"),
    }
    if let Some(owner) = owner_text(&explanation["owner"]) {
        out.push_str(&format!("owner: {owner}\n"));
    }
    for note in explanation["notes"].as_array().into_iter().flatten() {
        out.push_str(&format!("note: {}\n", note.as_str().unwrap_or_default()));
    }
    out
}

fn link_text(link: &Value, paint: &dyn Fn(&str, &str) -> String) -> String {
    let word = |key: &str| link[key].as_str().unwrap_or_default();
    let state = word("state");
    let shown = if state == "broken" { "BROKEN" } else { state };
    let padded = format!("{shown:<11}");
    let mut out = format!(
        "{:>2} {:<13} {} {}\n",
        link["n"],
        word("name"),
        paint(state, &padded),
        word("detail")
    );
    if !matches!(state, "broken" | "consequence" | "unknown") {
        return out;
    }
    let indent = " ".repeat(29);
    if let Some(object) = object_text(&link["object"]) {
        let place = match (link["file"].as_str(), link["line"].as_u64()) {
            (Some(file), Some(line)) => format!("  {file}:{line}"),
            _ => String::new(),
        };
        out.push_str(&format!("{indent}{object}{place}\n"));
    }
    if let Some(owner) = owner_text(&link["owner"]) {
        out.push_str(&format!("{indent}owner: {owner}\n"));
    }
    if !word("help").is_empty() {
        out.push_str(&format!("{indent}help: {}\n", word("help")));
    }
    out
}

fn object_text(object: &Value) -> Option<String> {
    let kind = object["kind"].as_str()?;
    let name = object["name"].as_str()?;
    match object["namespace"].as_str() {
        Some(namespace) if !namespace.is_empty() => Some(format!("{kind} {namespace}/{name}")),
        _ => Some(format!("{kind} {name}")),
    }
}

fn owner_text(owner: &Value) -> Option<String> {
    let mut text = owner["team"].as_str()?.to_owned();
    if let Some(app) = owner["app"].as_str() {
        text.push_str(&format!(", application {app}"));
    }
    if let Some(contract) = owner["contract"].as_str() {
        text.push_str(&format!(" (contract {contract})"));
    }
    Some(text)
}
