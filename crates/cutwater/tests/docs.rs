//! The handbook: pages that are made from the program (`UPDATE_EXPECT=1 cargo test -p cutwater --test docs` writes them
//! anew), and the manifests of all pages, which the program takes.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

fn check(page: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, expected).expect("the page can be written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/{page} is not what the program says; write it anew with \
         `UPDATE_EXPECT=1 cargo test -p cutwater --test docs`"
    );
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cutwater"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("help is UTF-8");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_command_reference_is_what_help_says() {
    let mut page = String::from(
        "# Commands\n\n<!-- Made by `UPDATE_EXPECT=1 cargo test -p cutwater --test docs`; do not edit. -->\n\n\
         Messages to people go to standard error, data to standard output. Colour appears on a terminal only, and never \
         where `NO_COLOR` is set.\n",
    );
    let _ = write!(page, "\n```\n{}\n```\n", help(&["--help"]));
    for command in ["up", "check", "explain", "origin", "snapshot", "upgrade", "completions", "man"]
    {
        let _ =
            write!(page, "\n## cutwater {command}\n\n```\n{}\n```\n", help(&[command, "--help"]));
    }
    check("commands.md", &page);
}

#[test]
fn the_diagnostics_index_has_every_code() {
    let mut codes = instance::codes();
    codes.sort_by_key(|code| code.slug);
    let mut page = String::from(
        "# Diagnostics\n\n<!-- Made by `UPDATE_EXPECT=1 cargo test -p cutwater --test docs`; do not edit. -->\n\n\
         What `cutwater check` and `cutwater up` report. The code is stable. An error in a manifest itself holds a reload \
         back; an error of meaning damages its object alone.\n\n| code | severity | meaning |\n|---|---|---|\n",
    );
    for code in &codes {
        let _ = writeln!(page, "| `{}` | {} | {} |", code.slug, code.severity.name(), code.meaning);
    }
    let mut slugs: Vec<&str> = codes.iter().map(|code| code.slug).collect();
    slugs.dedup();
    assert_eq!(slugs.len(), codes.len(), "a slug stands for two codes");
    check("diagnostics.md", &page);
}

const EDGE_POLICY: &str = "\
An EdgePolicy says how backends are talked to and what is asked of clients, as far as no standard object says it. It is
attached by `targetRefs` to Gateways, HTTPRoutes, GRPCRoutes, TLSRoutes, TCPRoutes, UDPRoutes, Ingresses and Services of
its own namespace (GEP-713):

```yaml
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs:
  - {kind: Service, name: web}
  loadBalancing: {algorithm: PeakEwma}
  healthCheck: {path: /healthz, interval: 5s}
  retry: {attempts: 2, codes: [502, 503], backoff: 50ms}
```

Several levels are laid over each other field by field: what a policy of the Service says counts first, then one of the
route, of the listener (a Gateway with `sectionName`), of the Gateway. A field that no level says has its default.
An Ingress is reached by its own policies and those of its Services; what a Gateway's listener says of clients holds for
the Ingresses that share it. Of `peers` and `sources` every level holds ([close an origin](close-an-origin.md)). Of two policies for one target the older counts, then the first
by namespace and name; the other is reported. A policy whose target is not there is reported, and the rest serves.

Retries belong to a rule. Where a rule has several backends whose Services say different things about `retry`, what they
say does not count, and what the route and the Gateway say does.

Durations are written as in the Gateway API (GEP-2257): `500ms`, `10s`, `1m30s`.
";

/// A table of each section, then those of the sections in it.
fn sections(page: &mut String, path: &str, fields: &[manifest::section::FieldDoc]) {
    let _ =
        write!(page, "\n## {path}\n\n| field | value | default | meaning |\n|---|---|---|---|\n");
    for field in fields {
        assert!(!field.about.is_empty(), "{path}.{} says what it does", field.key);
        let default = field.default.as_ref().map(|text| format!("`{text}`")).unwrap_or_default();
        let _ =
            writeln!(page, "| `{}` | {} | {default} | {} |", field.key, field.words, field.about);
    }
    for field in fields.iter().filter(|field| !field.fields.is_empty()) {
        sections(page, &format!("{path}.{}", field.key), &field.fields);
    }
}

#[test]
fn the_reference_of_the_edge_policy_has_every_field() {
    let mut page = String::from(
        "# EdgePolicy\n\n<!-- Made by `UPDATE_EXPECT=1 cargo test -p cutwater --test docs`; do not edit. -->\n\n",
    );
    page.push_str(EDGE_POLICY);
    sections(&mut page, "spec", &manifest::kinds::edge_policy::fields());
    check("edge-policy.md", &page);
}

#[test]
fn the_metrics_page_has_every_metric() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    let instance =
        testkit::instance::Instance::start(&testkit::instance::Plan::new(shop)).expect("it starts");
    let (status, text) = instance.page("/metrics").expect("the admin address answers");
    instance.stop().expect("it ends well");
    assert_eq!(status, 200);
    let kind_of = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '));
        line.expect("each metric has a type").to_owned()
    };
    let mut page = String::from(
        "# Metrics\n\n<!-- Made by `UPDATE_EXPECT=1 cargo test -p cutwater --test docs`; do not edit. -->\n\n\
         `/metrics` on the admin address, in Prometheus' text format. Counters begin at 0. Series with a route's name are \
         bounded: beyond 300 routes the rest share the route `other`; requests that no route takes have `none`.\n\n\
         | metric | type | meaning |\n|---|---|---|\n",
    );
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').expect("a name and a text");
        assert!(name.starts_with("cutwater_"), "{name}");
        let _ = writeln!(page, "| `{name}` | {} | {help} |", kind_of(name));
    }
    check("metrics.md", &page);
}

/// Manifests of a page that begin with a whole object; the others are parts of one.
fn examples(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("\n```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.filter(|block| block.starts_with("apiVersion:"))
}

/// What `check` has against a manifest, but for objects that an example leaves to its reader.
fn mistakes(manifest: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("example.yaml"), manifest).expect("it is written");
    let output = Command::new(env!("CARGO_BIN_EXE_cutwater"))
        .args(["check", "--format", "json"])
        .arg(folder.path())
        .output()
        .expect("the binary runs");
    let found: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).expect("`check` writes a list");
    let errors = found.iter().filter(|diagnostic| diagnostic["severity"] == "error");
    let messages = errors.filter_map(|error| Some(error["message"].as_str()?.to_owned()));
    messages.filter(|message| !message.contains("does not exist")).collect()
}

#[test]
fn the_examples_of_the_handbook_are_taken_as_written() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut count = 0;
    for entry in std::fs::read_dir(docs).expect("the handbook is there") {
        let path = entry.expect("a page").path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let page = std::fs::read_to_string(&path).expect("a page is text");
        for example in examples(&page) {
            count += 1;
            let mistakes = mistakes(example);
            assert!(mistakes.is_empty(), "{}: {mistakes:?}\n{example}", path.display());
        }
    }
    assert!(count >= 20, "{count} examples found");
    let wrong =
        "apiVersion: v1\nkind: Service\nmetadata: {name: Web}\nspec: {ports: [{port: 80}]}\n";
    assert_eq!(mistakes(wrong).len(), 1, "a mistake would be seen");
}
