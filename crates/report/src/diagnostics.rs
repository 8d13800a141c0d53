//! Diagnostics in three formats. The JSON's field names are a contract of the command line.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use model::{Code, Diagnostic, Origins, Place, Severity};
use serde_json::{Value, json};
use std::borrow::Cow;

/// With the offending text underlined where the source is at hand.
pub fn to_text(diagnostics: &[Diagnostic], origins: &Origins, is_coloured: bool) -> String {
    let renderer = if is_coloured { Renderer::styled() } else { Renderer::plain() };
    diagnostics.iter().map(|diagnostic| one(diagnostic, origins, &renderer) + "\n\n").collect()
}

/// `3 errors, 1 warning`
pub fn count(diagnostics: &[Diagnostic]) -> String {
    let count = |severity: Severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let some = |n: usize, noun: &str| match n {
        0 => None,
        1 => Some(format!("1 {noun}")),
        n => Some(format!("{n} {noun}s")),
    };
    let parts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| some(count(severity), severity.name()))
        .collect();
    if parts.is_empty() { "no finding".to_owned() } else { parts.join(", ") }
}

/// Names and messages may hold whatever somebody wrote: a terminal must not obey it.
fn harmless(text: &str) -> Cow<'_, str> {
    match text.chars().any(char::is_control) {
        false => Cow::Borrowed(text),
        true => text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect::<String>()
            .into(),
    }
}

fn one(diagnostic: &Diagnostic, origins: &Origins, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group =
        level.primary_title(harmless(&diagnostic.message)).id(diagnostic.code).elements(
            diagnostic
                .place
                .iter()
                .filter_map(|place| snippet(place, origins, AnnotationKind::Primary, "")),
        );
    for (label, place) in &diagnostic.related {
        if let Some(snippet) = snippet(place, origins, AnnotationKind::Context, label) {
            group = group.element(snippet);
        }
    }
    if let Some(object) = &diagnostic.object {
        group = group.element(Level::NOTE.message(about(diagnostic, object)));
    }
    if !diagnostic.help.is_empty() {
        group = group.element(Level::HELP.message(harmless(&diagnostic.help)));
    }
    renderer.render(&[group])
}

fn about(diagnostic: &Diagnostic, object: &model::ObjectId) -> String {
    let field =
        if diagnostic.field.is_empty() { String::new() } else { format!(", {}", diagnostic.field) };
    let owner = diagnostic
        .owner
        .as_ref()
        .map(|owner| format!(", owner {}", owner.team))
        .unwrap_or_default();
    harmless(&format!("{object}{field}{owner}")).into_owned()
}

/// The line or lines of a place. Only these are given to the renderer, so that a large file costs nothing.
fn snippet<'a>(
    place: &'a Place,
    origins: &'a Origins,
    kind: AnnotationKind,
    label: &'a str,
) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let Some(source) = origins.source(&place.file) else {
        return Some(
            Snippet::source("")
                .line_start(place.line as usize)
                .path(harmless(&place.file))
                .annotation(kind.span(0..0)),
        );
    };
    let text: &str = &source.text;
    let start = (place.start as usize).min(text.len());
    let first = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    // One line: a place may be a whole document.
    let end = (place.end as usize).clamp(start, line_end);
    let annotation = kind.span(start - first..end - first);
    let annotation = if label.is_empty() { annotation } else { annotation.label(label) };
    let line = text.get(first..line_end)?;
    let line = if is_secret(text, start) { masked(line) } else { Cow::Borrowed(line) };
    Some(
        Snippet::source(line)
            .line_start(place.line as usize)
            .path(harmless(&place.file))
            .annotation(annotation),
    )
}

/// Whether the document around a byte is a Secret, or a list with one in it: by its text, as it may be what cannot be
/// read.
fn is_secret(text: &str, at: usize) -> bool {
    let start = text[..at].rfind("\n---").unwrap_or(0);
    let end = text[at..].find("\n---").map_or(text.len(), |length| at + length);
    let words = text[start..end].split(|c: char| !c.is_ascii_alphanumeric());
    let words = || words.clone().filter(|word| !word.is_empty());
    words().any(|word| matches!(word, "data" | "stringData"))
        && words().zip(words().skip(1)).any(|pair| pair == ("kind", "Secret"))
}

/// What a line says, but not the value behind its first key. As long as it was, so that what is marked stays marked.
fn masked(line: &str) -> Cow<'_, str> {
    let shown = line.find(':').map_or(0, |colon| colon + 1);
    let hidden = line[shown..].chars().map(|c| match c {
        ' ' => " ".to_owned(),
        c => "*".repeat(c.len_utf8()),
    });
    (line[..shown].to_owned() + &hidden.collect::<String>()).into()
}

pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    Value::Array(diagnostics.iter().map(diagnostic_json).collect())
}

fn diagnostic_json(diagnostic: &Diagnostic) -> Value {
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity.name(),
        "message": diagnostic.message,
        "file": diagnostic.place.as_ref().map(|place| place.file.to_string()),
        "line": diagnostic.place.as_ref().map(|place| place.line),
        "column": diagnostic.place.as_ref().map(|place| place.column),
        "object": diagnostic.object.as_ref().map(object_json),
        "field": diagnostic.field,
        "owner": diagnostic.owner.as_ref().map(owner_json),
        "help": diagnostic.help,
    })
}

fn object_json(object: &model::ObjectId) -> Value {
    json!({"kind": object.kind.0, "namespace": &*object.namespace, "name": &*object.name})
}

fn owner_json(owner: &model::Owner) -> Value {
    json!({"team": &*owner.team, "app": owner.app.as_deref(), "contract": owner.contract.as_deref()})
}

/// SARIF 2.1.0, as code review tools read it.
pub fn to_sarif(diagnostics: &[Diagnostic], codes: &[&Code], version: &str) -> Value {
    let rules: Vec<Value> = codes
        .iter()
        .map(|code| json!({"id": code.slug, "shortDescription": {"text": code.meaning}}))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "cutwater", "version": version, "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": diagnostics.iter().map(sarif_result).collect::<Vec<_>>(),
        }],
    })
}

fn sarif_result(diagnostic: &Diagnostic) -> Value {
    let help =
        if diagnostic.help.is_empty() { String::new() } else { format!(" ({})", diagnostic.help) };
    let mut result = json!({
        "ruleId": diagnostic.code,
        "level": diagnostic.severity.name(),
        "message": {"text": format!("{}{help}", diagnostic.message)},
    });
    if let Some(place) = &diagnostic.place {
        result["locations"] = json!([{"physicalLocation": {
            "artifactLocation": {"uri": relative_reference(&place.file)},
            "region": {"startLine": place.line, "startColumn": place.column},
        }}]);
    }
    result
}

/// A path as a URI reference: what is neither unreserved nor a slash is percent-encoded (RFC 3986 section 2.1), so
/// also a colon, which in a first segment would end a scheme (section 4.2).
fn relative_reference(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::origin::SourceFile;
    use model::{Kind, ObjectId};

    const CODE: Code =
        Code { slug: "unknown-field", severity: Severity::Error, meaning: "No such field." };

    fn sample() -> (Vec<Diagnostic>, Origins) {
        let text = "kind: Service\nspec:\n  prots: []\n";
        let start = text.find("prots").expect("in the text") as u32;
        let file: model::Text = "a.yaml".into();
        let mut origins = Origins::default();
        origins.files.push(SourceFile::new(file, text.into()));
        let diagnostic = Diagnostic::new(&CODE, "unknown field `prots`")
            .at(&ObjectId::new(Kind::SERVICE, "shop", "cart"), "spec.prots")
            .place(origins.place_of_span(0, start, start + 5))
            .help("did you mean `ports`?");
        (vec![diagnostic], origins)
    }

    #[test]
    fn text_underlines_the_place_and_says_how_to_mend_it() {
        let (diagnostics, origins) = sample();
        let text = to_text(&diagnostics, &origins, false);
        for part in [
            "error[unknown-field]: unknown field `prots`",
            "a.yaml:3:3",
            "^^^^^",
            "did you mean `ports`?",
            "Service shop/cart",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn what_a_secret_holds_is_not_shown() {
        for (text, shown) in [
            ("kind: Secret\nmetadata: {name: a}\ndata: {tls.key: PRIVATE, x: y}\n", false),
            ("data:\n  tls.key: PRIVATE\nkind: Secret\n", false),
            ("kind: Secret\nstringData:\n  tls.key: |\n    PRIVATE\n", false),
            ("{\"data\": {\"tls.key\": \"PRIVATE\"}, \"kind\": \"Secret\"}\n", false),
            ("kind: List\nitems:\n- kind: Secret\n  data:\n    tls.key: PRIVATE\n", false),
            ("kind: Service\n---\nkind: Secret\ndata: {a: PRIVATE}\n", false),
            ("kind: Secret\ndata: {a: b}\n---\nkind: Service\ndata: PRIVATE\n", true),
            ("kind: Gateway\nmetadata: {name: a}\nref: {kind: Secret, name: PRIVATE}\n", true),
            ("kind: ConfigMap\ndata: {a: PRIVATE}\n", true),
        ] {
            let mut origins = Origins::default();
            origins.files.push(SourceFile::new("a.yaml".into(), text.into()));
            let start = text.find("PRIVATE").expect("in the text") as u32;
            let place = origins.place_of_span(0, start, start + 7);
            let diagnostic = Diagnostic::new(&CODE, "wrong").place(place);
            let said = to_text(&[diagnostic], &origins, false);
            assert_eq!(said.contains("PRIVATE"), shown, "{said}");
            assert!(said.contains("^^^^^^^"), "{said}");
        }
    }

    #[test]
    fn json_has_every_field_of_the_contract() {
        let (diagnostics, _) = sample();
        let value = to_json(&diagnostics);
        let expected = json!([{
            "code": "unknown-field", "severity": "error", "message": "unknown field `prots`", "file": "a.yaml",
            "line": 3, "column": 3, "object": {"kind": "Service", "namespace": "shop", "name": "cart"},
            "field": "spec.prots", "owner": null, "help": "did you mean `ports`?",
        }]);
        assert_eq!(value, expected);
    }

    #[test]
    fn sarif_names_rule_and_region() {
        let (diagnostics, _) = sample();
        let value = to_sarif(&diagnostics, &[&CODE], "0.1.0");
        let result = &value["runs"][0]["results"][0];
        assert_eq!(result["ruleId"], "unknown-field");
        assert_eq!(result["locations"][0]["physicalLocation"]["region"]["startLine"], 3);
    }

    #[test]
    fn a_path_becomes_a_uri_reference() {
        let check = |path: &str, expected: &str| assert_eq!(relative_reference(path), expected);
        check("shop/cart-1_a~.yaml", "shop/cart-1_a~.yaml");
        check("a b/100%.yaml", "a%20b/100%25.yaml");
        check("c:d?e#f.yaml", "c%3Ad%3Fe%23f.yaml");
        check("\u{fc}ber.yaml", "%C3%BCber.yaml");
    }

    #[test]
    fn counts() {
        assert_eq!(count(&sample().0), "1 error");
        assert_eq!(count(&[]), "no finding");
    }
}
