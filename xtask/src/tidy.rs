//! The house's own checks: floors, purity, forbidden crates, file sizes. Each failure says what to do.

use crate::setup::{cargo, root};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Highest floor that must stay pure.
const LAST_PURE_FLOOR: u8 = 3;

/// Runtimes, sockets, watchers and clients: none may be reached from a pure crate.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "async-std",
    "smol",
    "hyper",
    "hyper-util",
    "h2",
    "axum",
    "reqwest",
    "kube",
    "inotify",
    "notify",
    "nix",
    "rustix",
    "redis",
    "quinn",
    "tokio-rustls",
];

/// Longest source file, tests included in it.
const MAX_FILE_LINES: usize = 800;

pub fn run_checks() -> Result<Vec<String>> {
    let floors = Floors::read(&root().join("xtask/floors.txt"))?;
    let graph = Graph::read()?;
    let mut faults = floors.check(&graph);
    faults.extend(purity(&floors, &graph));
    faults.extend(ring()?);
    faults.extend(sources(&floors)?);
    Ok(faults)
}

pub fn run() -> Result<()> {
    let faults = run_checks()?;
    if !faults.is_empty() {
        bail!("tidy found {} fault(s):\n  {}", faults.len(), faults.join("\n  "));
    }
    pure_clippy()?;
    eprintln!("tidy: floors, purity, forbidden crates and file sizes hold");
    Ok(())
}

/// What cargo would build with `ring` in it.
fn ring() -> Result<Option<String>> {
    let output = cargo().args(["tree", "--workspace", "--invert", "ring"]).output()?;
    let found = String::from_utf8_lossy(&output.stdout);
    judge_tree(output.status.success(), &found, &String::from_utf8_lossy(&output.stderr))
}

/// `cargo tree` prints nothing where the crate is only an unused option, and fails where the lock file has no such
/// crate; any other failure says nothing of the graph.
fn judge_tree(is_success: bool, found: &str, errors: &str) -> Result<Option<String>> {
    match (is_success, found.trim().is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Ok(Some(format!(
            "`ring` is in the dependency graph; every TLS crate must use aws-lc-rs:\n{found}"
        ))),
        (false, _) if errors.contains("did not match any packages") => Ok(None),
        (false, _) => bail!("cargo tree failed: {errors}"),
    }
}

/// Clocks, files, sockets and threads of the standard library, banned in pure crates by clippy/pure/clippy.toml.
fn pure_clippy() -> Result<()> {
    let floors = Floors::read(&root().join("xtask/floors.txt"))?;
    let mut command = cargo();
    command.env("CLIPPY_CONF_DIR", root().join("clippy/pure")).args(["clippy", "--lib"]);
    for name in floors.pure() {
        command.args(["-p", name]);
    }
    crate::setup::run(command.args(["--", "-D", "warnings"]))
}

/// What floors.txt says.
struct Floors {
    floor: BTreeMap<String, u8>,
    beside: BTreeSet<String>,
    edges: BTreeSet<(String, String)>,
}

impl Floors {
    fn read(path: &Path) -> Result<Floors> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Floors::parse(&text)
    }

    fn parse(text: &str) -> Result<Floors> {
        let mut floors =
            Floors { floor: BTreeMap::new(), beside: BTreeSet::new(), edges: BTreeSet::new() };
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let (head, tail) =
                line.split_once(':').with_context(|| format!("no colon in `{line}`"))?;
            let mut words = tail.split_whitespace();
            match head.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["floor", number] => {
                    let number: u8 = number.parse()?;
                    floors.floor.extend(words.map(|name| (name.to_owned(), number)));
                }
                ["beside"] => floors.beside.extend(words.map(str::to_owned)),
                ["edge"] => match (words.next(), words.next(), words.next()) {
                    (Some(from), Some("->"), Some(to)) => {
                        floors.edges.insert((from.to_owned(), to.to_owned()));
                    }
                    _ => bail!("an edge is written `edge: from -> to reason`, not `{line}`"),
                },
                _ => bail!("unknown line `{line}`"),
            }
        }
        Ok(floors)
    }

    fn pure(&self) -> impl Iterator<Item = &str> {
        self.floor
            .iter()
            .filter(|(_, floor)| **floor <= LAST_PURE_FLOOR)
            .map(|(name, _)| name.as_str())
    }

    fn check(&self, graph: &Graph) -> Vec<String> {
        let mut faults = Vec::new();
        let mut used = BTreeSet::new();
        for (name, dependencies) in graph.own_edges() {
            let Some(floor) = self.floor.get(&name) else {
                if !self.beside.contains(&name) {
                    faults.push(format!(
                        "crate `{name}` stands on no floor; add it to xtask/floors.txt"
                    ));
                }
                continue;
            };
            for dependency in dependencies {
                match self.floor.get(&dependency) {
                    Some(below) if below < floor => {}
                    Some(same) if same == floor => {
                        let edge = (name.clone(), dependency.clone());
                        if !self.edges.contains(&edge) {
                            faults.push(format!("`{name}` depends on `{dependency}` on its own floor; list the edge in xtask/floors.txt with its reason, or remove it"));
                        }
                        used.insert(edge);
                    }
                    _ => faults
                        .push(format!("`{name}` (floor {floor}) depends upward on `{dependency}`")),
                }
            }
        }
        let unused = self.edges.difference(&used);
        faults.extend(unused.map(|(from, to)| {
            format!("edge `{from} -> {to}` of xtask/floors.txt is not used; remove it")
        }));
        faults
    }
}

fn purity(floors: &Floors, graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for name in floors.pure() {
        for found in
            graph.reachable(name).intersection(&IMPURE.iter().map(|n| (*n).to_owned()).collect())
        {
            faults.push(format!("pure crate `{name}` reaches `{found}`; move the I/O to a shell (cargo tree -p {name} -i {found})"));
        }
    }
    faults
}

struct Package {
    name: String,
    is_ours: bool,
    /// Ids of normal dependencies, features resolved.
    dependencies: Vec<String>,
}

/// The resolved graph of normal dependencies. Those of build scripts and of tests are free: they do not run in the
/// product.
struct Graph {
    packages: BTreeMap<String, Package>,
}

impl Graph {
    fn read() -> Result<Graph> {
        let output = cargo().args(["metadata", "--format-version", "1", "--locked"]).output()?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        Graph::from_metadata(&metadata).context("the shape of cargo metadata")
    }

    fn from_metadata(metadata: &Value) -> Option<Graph> {
        let members: BTreeSet<&str> =
            metadata["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
        let names: BTreeMap<&str, &str> = metadata["packages"]
            .as_array()?
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect();
        let mut packages = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let id = node["id"].as_str()?;
            let dependencies = node["deps"]
                .as_array()?
                .iter()
                .filter(|d| is_normal(d))
                .filter_map(|d| d["pkg"].as_str());
            packages.insert(
                id.to_owned(),
                Package {
                    name: (*names.get(id)?).to_owned(),
                    is_ours: members.contains(id),
                    dependencies: dependencies.map(str::to_owned).collect(),
                },
            );
        }
        Some(Graph { packages })
    }

    /// Our crates, each with those of our crates that it depends on.
    fn own_edges(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        self.packages.values().filter(|package| package.is_ours).map(|package| {
            let own = package
                .dependencies
                .iter()
                .filter_map(|id| self.packages.get(id))
                .filter(|p| p.is_ours);
            (package.name.clone(), own.map(|p| p.name.clone()).collect())
        })
    }

    /// Names of everything below a crate of ours.
    fn reachable(&self, name: &str) -> BTreeSet<String> {
        let mut stack: Vec<&Package> =
            self.packages.values().filter(|p| p.is_ours && p.name == name).collect();
        let mut seen = BTreeSet::new();
        while let Some(package) = stack.pop() {
            for dependency in package.dependencies.iter().filter_map(|id| self.packages.get(id)) {
                if seen.insert(dependency.name.clone()) {
                    stack.push(dependency);
                }
            }
        }
        seen
    }
}

fn is_normal(dependency: &Value) -> bool {
    dependency["dep_kinds"]
        .as_array()
        .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

/// Sizes of source files, and no unsafe code in any crate of ours.
fn sources(floors: &Floors) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for name in floors.floor.keys().chain(&floors.beside) {
        let inside = root().join("crates").join(name);
        let folder = if inside.is_dir() { inside } else { root().join(name) };
        let source = folder.join("src");
        for file in rust_files(&source)? {
            let text = std::fs::read_to_string(&file)?;
            let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
            let is_root = file.parent() == Some(&source)
                && matches!(file.file_name().and_then(|n| n.to_str()), Some("lib.rs" | "main.rs"));
            faults.extend(source_faults(&shown, &text, is_root));
        }
        if UNSAFE_MODULES.iter().any(|(owner, _)| owner == name) {
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))?;
            if !has_workspace_lints(&manifest) {
                faults.push(format!("`{name}` lacks `workspace = true` under [lints]"));
            }
        }
    }
    Ok(faults)
}

/// Crates that cannot forbid unsafe code, with the one module that allows it. The workspace's lint denies it elsewhere.
const UNSAFE_MODULES: &[(&str, &str)] = &[("bench", "bench/src/sys.rs")];

fn source_faults(shown: &str, text: &str, is_root: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        faults
            .push(format!("{shown} has {lines} lines; split it by idea (limit {MAX_FILE_LINES})"));
    }
    if !text.starts_with("//!") {
        faults.push(format!("{shown} does not open with a comment that says what lives here"));
    }
    let has = |attribute: &str| text.lines().any(|line| line.trim_start().starts_with(attribute));
    let may_deny = UNSAFE_MODULES.iter().any(|(owner, _)| shown.starts_with(&format!("{owner}/")));
    if is_root && !may_deny && !has("#![forbid(unsafe_code)]") {
        faults.push(format!("{shown} lacks #![forbid(unsafe_code)]"));
    }
    let is_exempt = UNSAFE_MODULES.iter().any(|(_, module)| *module == shown);
    if !is_exempt && (has("#![allow(unsafe_code)]") || has("#[allow(unsafe_code)]")) {
        faults.push(format!("{shown} allows unsafe code; only the modules of UNSAFE_MODULES may"));
    }
    faults
}

fn has_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.by_ref().take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true")
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut stack = vec![directory.to_path_buf()];
    while let Some(directory) = stack.pop() {
        for entry in
            std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?
        {
            let path = entry?.path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let packages = edges.iter().map(|(name, dependencies)| {
            let package = Package {
                name: (*name).to_owned(),
                is_ours: !IMPURE.contains(name),
                dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
            };
            ((*name).to_owned(), package)
        });
        Graph { packages: packages.collect() }
    }

    fn floors() -> Floors {
        Floors::parse("floor 0: model\nfloor 1: h1 zone\nfloor 4: edge publish\nbeside: xtask\nedge: edge -> publish reason\n")
            .expect("the table is well formed")
    }

    #[test]
    fn an_upward_edge_a_hidden_edge_and_a_stranger_are_faults() {
        let good = graph(&[
            ("model", &[]),
            ("h1", &["model"]),
            ("edge", &["h1", "publish"]),
            ("publish", &[]),
        ]);
        assert_eq!(floors().check(&good), Vec::<String>::new());
        let bad = graph(&[("model", &["h1"]), ("h1", &["zone"]), ("zone", &[]), ("stranger", &[])]);
        let faults = floors().check(&bad).join("\n");
        assert!(faults.contains("depends upward on `h1`"), "{faults}");
        assert!(faults.contains("`h1` depends on `zone` on its own floor"), "{faults}");
        assert!(faults.contains("`stranger` stands on no floor"), "{faults}");
        assert!(
            faults.contains("edge `edge -> publish` of xtask/floors.txt is not used"),
            "{faults}"
        );
    }

    #[test]
    fn a_pure_crate_that_reaches_a_runtime_is_a_fault() {
        let graph = graph(&[
            ("model", &[]),
            ("zone", &["model", "helper"]),
            ("helper", &["tokio"]),
            ("tokio", &[]),
        ]);
        let faults = purity(&floors(), &graph);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("`zone` reaches `tokio`"));
    }

    #[test]
    fn a_failure_of_cargo_tree_is_no_absence() {
        let absent = "error: package ID specification `ring` did not match any packages";
        let judge = |is_success, found, errors| judge_tree(is_success, found, errors).ok();
        assert_eq!(judge(true, "", ""), Some(None));
        assert_eq!(judge(false, "", absent), Some(None));
        assert_eq!(judge(false, "", "error: failed to parse Cargo.lock"), None);
        let found = judge(true, "ring v0.17.8\n", "").flatten().expect("a fault");
        assert!(found.contains("ring v0.17.8"), "{found}");
    }

    #[test]
    fn dependencies_of_build_scripts_and_tests_are_free() {
        let kinds = |kinds: Value| serde_json::json!({"pkg": "a", "dep_kinds": kinds});
        let check = |given: Value, expected: bool| assert_eq!(is_normal(&given), expected);
        check(kinds(serde_json::json!([{"kind": null}])), true);
        check(kinds(serde_json::json!([{"kind": "dev"}, {"kind": null}])), true);
        check(kinds(serde_json::json!([{"kind": "build"}])), false);
        check(kinds(serde_json::json!([{"kind": "dev"}])), false);
    }

    #[test]
    fn faults_of_source_files() {
        let forbids = "//! What.\n#![forbid(unsafe_code)]\n";
        let allows = "//! What.\n#![allow(unsafe_code)]\n";
        let check = |shown: &str, text: &str, is_root: bool, expected: &[&str]| {
            let faults = source_faults(shown, text, is_root);
            assert_eq!(faults.len(), expected.len(), "{faults:?}");
            for (fault, part) in faults.iter().zip(expected) {
                assert!(fault.contains(part), "{fault}");
            }
        };
        check("xtask/src/main.rs", forbids, true, &[]);
        check("xtask/src/main.rs", "//! What.\n", true, &["lacks #![forbid"]);
        check("xtask/src/tidy.rs", "fn x() {}\n", false, &["does not open with"]);
        check("xtask/src/tidy.rs", &"//!\n".repeat(801), false, &["has 801 lines"]);
        check("bench/src/main.rs", "//! What.\n", true, &[]);
        check("bench/src/sys.rs", allows, false, &[]);
        check("bench/src/http.rs", allows, false, &["allows unsafe code"]);
        check("crates/edge/src/lib.rs", "//! No #![forbid(unsafe_code)] here.\n", true, &["lacks"]);
        assert!(has_workspace_lints("[lints]\nworkspace = true\n"));
        assert!(!has_workspace_lints("[lints]\n[package]\nworkspace = true\n"));
    }
}
