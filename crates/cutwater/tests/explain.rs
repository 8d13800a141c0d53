//! Faults are put into a running instance, through files and processes, one after the other; each must be explained by
//! link, object and owner.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::instance::{Instance, Plan};

/// An edit of one file: what is replaced by what.
type Edit = (&'static str, &'static str, &'static str);

struct Fault {
    name: &'static str,
    edits: &'static [Edit],
    url: &'static str,
    link: u64,
    /// Kind, namespace and name; empty where no object is at fault.
    object: &'static str,
    team: Option<&'static str>,
}

const PAY: &str = "https://pay.example.test/";

const FAULTS: &[Fault] = &[
    Fault {
        name: "a name that nobody declares",
        edits: &[],
        url: "https://pay.exampel.test/",
        link: 1,
        object: "",
        team: None,
    },
    Fault {
        name: "no zone holds the name",
        edits: &[("edge/zone.yaml", "name: example.test", "name: other.test")],
        url: PAY,
        link: 2,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "a record leads elsewhere",
        edits: &[(
            "edge/zone.yaml",
            "  records:",
            "  records:\n  - {name: pay, type: A, values: [192.0.2.9]}",
        )],
        url: PAY,
        link: 3,
        object: "Zone platform-edge/example-test",
        team: Some("platform-edge"),
    },
    Fault {
        name: "an alias leads out of the zone",
        edits: &[(
            "edge/zone.yaml",
            "  records:",
            "  records:\n  - {name: pay, type: CNAME, values: [elsewhere.example.net.]}",
        )],
        url: PAY,
        link: 2,
        object: "Zone platform-edge/example-test",
        team: Some("platform-edge"),
    },
    Fault {
        name: "the HTTPS side is broken and HTTP redirects: the default URL is HTTPS still",
        edits: &[("shop/route.yaml", "sectionName: https", "sectionName: htps")],
        url: "shop.example.test",
        link: 7,
        object: "HTTPRoute shop/shop",
        team: Some("platform-edge"),
    },
    Fault {
        name: "every weight is zero",
        edits: &[(
            "pay/route.yaml",
            "{name: checkout, port: 80}",
            "{name: checkout, port: 80, weight: 0}",
        )],
        url: PAY,
        link: 6,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "the namespace may not attach",
        edits: &[("pay/route.yaml", "    edge-access: public\n", "")],
        url: PAY,
        link: 7,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "the parent does not exist",
        edits: &[("pay/route.yaml", "- name: public", "- name: pubic")],
        url: PAY,
        link: 7,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "the section does not exist",
        edits: &[(
            "pay/route.yaml",
            "    namespace: platform-edge\n",
            "    namespace: platform-edge\n    sectionName: htps\n",
        )],
        url: PAY,
        link: 7,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "no listener is for the host",
        edits: &[("edge/gateway.yaml", "*.example.test", "*.other.test")],
        url: PAY,
        link: 7,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "the class belongs to another controller",
        edits: &[("edge/gateway.yaml", "cutwater.dev/gateway", "example.org/other")],
        url: PAY,
        link: 7,
        object: "Gateway platform-edge/public",
        team: Some("platform-edge"),
    },
    Fault {
        name: "no rule takes the path",
        edits: &[(
            "pay/route.yaml",
            "  - backendRefs:\n    - {name: checkout",
            "  - matches:\n    - path: {value: /pay}\n    backendRefs:\n    - {name: checkout",
        )],
        url: PAY,
        link: 7,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "a filter that is not served",
        edits: &[(
            "pay/route.yaml",
            "  - backendRefs:\n    - {name: checkout",
            "  - filters:\n    - type: ExtensionRef\n      extensionRef: {group: example.test, kind: Signature, name: sign}\n    backendRefs:\n    - {name: checkout",
        )],
        url: PAY,
        link: 7,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "a regular expression that does not compile",
        edits: &[(
            "pay/route.yaml",
            "  - backendRefs:\n    - {name: checkout",
            "  - matches:\n    - path: {type: RegularExpression, value: \"/(\"}\n    backendRefs:\n    - {name: checkout",
        )],
        url: PAY,
        link: 7,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "the Service does not exist",
        edits: &[("pay/route.yaml", "{name: checkout, port: 80}", "{name: chekout, port: 80}")],
        url: PAY,
        link: 8,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "the Service has no such port",
        edits: &[("pay/route.yaml", "{name: checkout, port: 80}", "{name: checkout, port: 81}")],
        url: PAY,
        link: 8,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "the other namespace does not allow it",
        edits: &[("shop/grant.yaml", "namespace: pay}", "namespace: elsewhere}")],
        url: "https://pay.example.test/basket",
        link: 8,
        object: "HTTPRoute pay/pay",
        team: Some("payments"),
    },
    Fault {
        name: "an Ingress names a Service that does not exist",
        edits: &[("docs/ingress.yaml", "            name: docs\n", "            name: dogs\n")],
        url: "https://docs.example.test/",
        link: 8,
        object: "Ingress docs/docs",
        team: Some("platform-edge"),
    },
    Fault {
        name: "no endpoint is ready",
        edits: &[("pay/route.yaml", "conditions: {ready: true}", "conditions: {ready: false}")],
        url: PAY,
        link: 9,
        object: "EndpointSlice pay/checkout-a",
        team: Some("payments"),
    },
    Fault {
        name: "the Service has no endpoint",
        edits: &[("pay/route.yaml", "service-name: checkout", "service-name: nobody")],
        url: PAY,
        link: 9,
        object: "Service pay/checkout",
        team: Some("payments"),
    },
    Fault {
        name: "without a contract the namespace's team owns it",
        edits: &[
            (
                "edge/contracts.yaml",
                "hostname: pay.example.test",
                "hostname: elsewhere.example.test",
            ),
            ("pay/route.yaml", "conditions: {ready: true}", "conditions: {ready: false}"),
        ],
        url: PAY,
        link: 9,
        object: "EndpointSlice pay/checkout-a",
        team: Some("payments"),
    },
];

/// The example with ports that are free, and something that accepts connections on each.
struct Shop {
    root: tempfile::TempDir,
    pristine: BTreeMap<PathBuf, String>,
    origins: BTreeMap<u16, TcpListener>,
}

impl Shop {
    fn new() -> Self {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let mut shop = Shop { root, pristine: BTreeMap::new(), origins: BTreeMap::new() };
        let ports: Vec<(String, TcpListener)> = (18_081..=18_085)
            .map(|port| {
                (port.to_string(), TcpListener::bind("127.0.0.1:0").expect("a port is free"))
            })
            .collect();
        for path in files(&example) {
            let mut text = fs::read_to_string(&path).expect("the example can be read");
            // Only the first address answers here.
            text = text.replace("- addresses: [127.0.0.2]\n  conditions: {ready: true}\n", "");
            for (port, listener) in &ports {
                text = text
                    .replace(port, &listener.local_addr().expect("it is bound").port().to_string());
            }
            let relative =
                path.strip_prefix(&example).expect("the file is below the example").to_path_buf();
            shop.pristine.insert(relative, text);
        }
        shop.origins = ports
            .into_iter()
            .map(|(port, listener)| (port.parse().expect("a number"), listener))
            .collect();
        shop.write(&[]);
        shop
    }

    /// The example with these edits and no others.
    fn write(&self, edits: &[Edit]) {
        for (relative, pristine) in &self.pristine {
            let mut text = pristine.clone();
            for (_, from, to) in edits.iter().filter(|(file, ..)| Path::new(file) == relative) {
                assert!(text.contains(from), "{} does not contain {from:?}", relative.display());
                text = text.replace(from, to);
            }
            let path = self.root.path().join(relative);
            if fs::read_to_string(&path).is_ok_and(|now| now == text) {
                continue;
            }
            fs::create_dir_all(path.parent().expect("the file has a folder"))
                .expect("the folder can be made");
            fs::write(&path, text).expect("the file can be written");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the entry can be read").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn explain(instance: &Instance, url: &str) -> Value {
    let encoded = url.replace(':', "%3A").replace('/', "%2F");
    let (status, body) =
        instance.page(&format!("/explain?host={encoded}")).expect("the admin address answers");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("an explanation is JSON")
}

fn object(link: &Value) -> String {
    let word = |key: &str| link["object"][key].as_str().unwrap_or_default();
    if link["object"].is_null() {
        String::new()
    } else {
        format!("{} {}/{}", word("kind"), word("namespace"), word("name"))
    }
}

/// Asks until the answer is as wanted, or gives the last one: a reload takes a few milliseconds.
fn eventually(instance: &Instance, url: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let explanation = explain(instance, url);
        if wanted(&explanation) || Instant::now() > end {
            return explanation;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn check(instance: &Instance, shop: &Shop, fault: &Fault) -> Result<(), String> {
    shop.write(fault.edits);
    // DNS, workers and explanations follow one after the other: what is found between is not the answer.
    let index = (fault.link - 1) as usize;
    let explanation = eventually(instance, fault.url, |e| {
        e["broken"] == fault.link && object(&e["links"][index]) == fault.object
    });
    let link = &explanation["links"][index];
    let team = link["owner"]["team"].as_str();
    let found = (explanation["broken"].as_u64(), object(link), team);
    let wanted = (Some(fault.link), fault.object.to_owned(), fault.team);
    shop.write(&[]);
    let healed = eventually(instance, PAY, |e| e["broken"].is_null());
    if found != wanted {
        return Err(format!(
            "{}: wanted {wanted:?}, found {found:?} in\n{explanation:#}",
            fault.name
        ));
    }
    if !fault.object.is_empty() && link["line"].as_u64().is_none() {
        return Err(format!("{}: no line in {link:#}", fault.name));
    }
    match healed["broken"].as_u64() {
        None => Ok(()),
        Some(_) => Err(format!("{}: not whole after the mend:\n{healed:#}", fault.name)),
    }
}

#[test]
fn faults_are_explained_by_link_object_and_owner() {
    let mut shop = Shop::new();
    let instance = Instance::start(&Plan::new(shop.root.path())).expect("the instance starts");
    let whole = explain(&instance, PAY);
    assert!(whole["broken"].is_null(), "the example is whole before any fault: {whole:#}");
    let mut failures: Vec<String> =
        FAULTS.iter().filter_map(|fault| check(&instance, &shop, fault).err()).collect();
    // A process that is gone.
    drop(shop.origins.remove(&18_084));
    let gone = eventually(&instance, PAY, |e| e["broken"] == 9);
    if (gone["broken"].as_u64(), object(&gone["links"][8]).as_str())
        != (Some(9), "EndpointSlice pay/checkout-a")
    {
        failures.push(format!("a process that is gone: {gone:#}"));
    }
    instance.stop().expect("the instance ends well");
    assert!(
        failures.is_empty(),
        "{} faults were not explained:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

#[test]
fn a_consequence_is_not_a_fault_of_its_own() {
    let shop = Shop::new();
    shop.write(&[("pay/route.yaml", "    edge-access: public\n", "")]);
    let instance = Instance::start(&Plan::new(shop.root.path())).expect("the instance starts");
    let explanation = explain(&instance, PAY);
    let states: Vec<&str> =
        (0..9).filter_map(|n| explanation["links"][n]["state"].as_str()).collect();
    assert_eq!(explanation["broken"], 7, "{explanation:#}");
    assert_eq!((states[1], states[2]), ("consequence", "consequence"), "{explanation:#}");
    instance.stop().expect("the instance ends well");
}
