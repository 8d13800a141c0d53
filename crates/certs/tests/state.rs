//! The state folder on a real disk, and certificates as a client judges them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{Claim, Error, Leaf, LocalCa, Serials, StateFolder};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Whether a client that trusts this CA takes the leaf for the name.
fn verifies(ca: &LocalCa, leaf: &Leaf, name: &str, when: SystemTime) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap();
    let when = UnixTime::since_unix_epoch(when.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&certificate, &[], &name, &[], when).is_ok()
}

#[test]
fn the_folder_is_made_for_us_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("new/.cutwater");
    let state = StateFolder::open(&path).unwrap();
    assert_eq!(state.path(), path);
    assert_eq!(mode(&path), 0o700);
    assert!(fs::read_to_string(path.join(".gitignore")).unwrap().lines().any(|line| line == "*"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    StateFolder::open(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
}

#[test]
fn one_instance_serves_from_a_folder_and_hands_it_on() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("state")).unwrap();
    let claim = state.claim().unwrap();
    let own = std::process::id();
    match state.claim() {
        Err(error @ Error::InUse { process, .. }) => {
            assert_eq!(process, Some(own));
            let text = error.to_string();
            assert!(text.contains(&format!("another instance (process {own})")), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // The one that follows holds the same open file, so it is held without a break.
    let inherited = Claim::inherited(claim.try_clone().unwrap());
    drop(claim);
    assert!(matches!(state.claim(), Err(Error::InUse { .. })));
    drop(inherited);
    state.claim().unwrap();
}

#[test]
fn what_is_not_ours_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    let (home, file) = (root.path().join("home"), root.path().join("file"));
    let repository = root.path().join("repository");
    fs::create_dir(&home).unwrap();
    fs::create_dir(&repository).unwrap();
    fs::write(home.join("letter.txt"), "dear").unwrap();
    fs::write(repository.join(".gitignore"), "target\n").unwrap();
    fs::write(&file, "").unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    for path in [&home, &file, &repository] {
        let error = StateFolder::open(path).unwrap_err();
        assert!(matches!(error, Error::NotOurs { .. }), "{error}");
        assert!(error.to_string().contains("--state"), "{error}");
    }
    assert_eq!(mode(&home), 0o755);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
}

#[test]
fn the_ca_is_made_once_and_recognisable() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("s")).unwrap();
    let first = LocalCa::open(&state, now()).unwrap();
    assert!(first.name().starts_with("Cutwater local CA "), "{}", first.name());
    assert!(first.name().ends_with(" 2027-01-15"), "{}", first.name());
    assert!(first.not_after() > now() + 3650 * DAY);
    assert_eq!(mode(&state.path().join("ca")), 0o700);
    assert_eq!(mode(&state.path().join("ca/ca.key")), 0o600);
    let second = LocalCa::open(&state, now() + 100 * DAY).unwrap();
    assert_eq!(first.certificate_pem(), second.certificate_pem());
    assert_eq!(first.name(), second.name());
    let printed = fs::read_to_string(first.certificate_path()).unwrap();
    assert_eq!(printed, first.certificate_pem());
}

#[test]
fn leaves_verify_for_their_names_and_no_others() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("s")).unwrap();
    let ca = LocalCa::open(&state, now()).unwrap();
    let leaf = ca.issue(&names(&["*.a.test", "Shop.test", "127.0.0.1", "::1"]), now()).unwrap();
    for (name, expected) in [
        ("shop.test", true),
        ("x.a.test", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("a.test", false),
        ("x.y.a.test", false),
        ("127.0.0.2", false),
    ] {
        assert_eq!(verifies(&ca, &leaf, name, now()), expected, "{name}");
    }
    assert!(!verifies(&ca, &leaf, "shop.test", now() + 91 * DAY));
    assert!(leaf.not_after > now() + 89 * DAY && leaf.not_after <= now() + 90 * DAY);
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certificate = CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap();
    rustls::sign::CertifiedKey::from_der(vec![certificate], key, &provider).unwrap();
    assert!(!format!("{leaf:?}").contains("PRIVATE KEY"));
}

#[test]
fn leaves_are_kept_and_renewed_in_time() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("s")).unwrap();
    let ca = LocalCa::open(&state, now()).unwrap();
    let first = ca.issue(&names(&["b.test", "a.test"]), now()).unwrap();
    assert_eq!(ca.issue(&names(&["a.test", "b.test"]), now() + 59 * DAY).unwrap(), first);
    assert_ne!(ca.issue(&names(&["a.test"]), now()).unwrap(), first);
    let second = ca.issue(&names(&["a.test", "b.test"]), now() + 61 * DAY).unwrap();
    assert!(second != first && second.not_after > first.not_after);
    let files = fs::read_dir(state.path().join("leaf")).unwrap();
    for file in files.map(|file| file.unwrap().path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_new_ca_issues_anew() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("s")).unwrap();
    let old = LocalCa::open(&state, now()).unwrap().issue(&names(&["a.test"]), now()).unwrap();
    fs::remove_file(state.path().join("ca/ca.pem")).unwrap();
    let ca = LocalCa::open(&state, now()).unwrap();
    let new = ca.issue(&names(&["a.test"]), now()).unwrap();
    assert!(!verifies(&ca, &old, "a.test", now()));
    assert!(verifies(&ca, &new, "a.test", now()));
}

#[test]
fn a_leaf_does_not_outlive_the_ca() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("s")).unwrap();
    let ca = LocalCa::open(&state, now()).unwrap();
    let late = ca.not_after() - 10 * DAY;
    assert_eq!(ca.issue(&names(&["a.test"]), late).unwrap().not_after, ca.not_after());
    let error = LocalCa::open(&state, ca.not_after() + DAY).err().unwrap();
    assert!(error.to_string().contains("it has expired. Delete "), "{error}");
}

#[test]
fn names_that_no_certificate_can_hold_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("s")).unwrap();
    let ca = LocalCa::open(&state, now()).unwrap();
    for list in [&[][..], &["ünicode.test"]] {
        assert!(matches!(ca.issue(&names(list), now()), Err(Error::Names { .. })), "{list:?}");
    }
}

#[test]
fn damage_is_named_with_its_mend() {
    for (file, content) in [
        ("ca/ca.pem", &b"nonsense"[..]),
        ("ca/ca.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("ca/ca.key", b"\xff\xfe"),
        ("ca/ca.key", b""),
        ("leaf", b"cut off"),
        ("dns/serials", b"a.test many words here\n"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&root.path().join("s")).unwrap();
        let ca = LocalCa::open(&state, now()).unwrap();
        ca.issue(&names(&["a.test"]), now()).unwrap();
        Serials::open(&state).unwrap().next("a.test", b"1", now()).unwrap();
        let mut path = state.path().join(file);
        if file == "leaf" {
            path = fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
        }
        fs::write(&path, content).unwrap();
        let error = LocalCa::open(&state, now())
            .and_then(|ca| ca.issue(&names(&["a.test"]), now()))
            .and_then(|_| Serials::open(&state))
            .unwrap_err();
        let Error::Damaged { delete, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(delete.contains(&path), "{error}");
        for path in delete {
            fs::remove_file(path).unwrap();
        }
        let ca = LocalCa::open(&state, now()).unwrap();
        ca.issue(&names(&["a.test"]), now()).unwrap();
        Serials::open(&state).unwrap();
    }
}

#[test]
fn starts_at_the_same_moment_agree() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s");
    let start = || {
        let state = StateFolder::open(&path).unwrap();
        let ca = LocalCa::open(&state, now()).unwrap();
        let leaf = ca.issue(&names(&["a.test"]), now()).unwrap();
        assert!(verifies(&ca, &leaf, "a.test", now()));
        let serial = Serials::open(&state).unwrap().next("a.test", b"1", now()).unwrap();
        (ca.certificate_pem().to_owned(), leaf.chain_pem, serial)
    };
    let seen: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    let left: Vec<_> = fs::read_dir(path.join("ca")).unwrap().collect();
    assert_eq!(left.len(), 2, "no temporary files are left: {left:?}");
}

#[test]
fn serials_rise_with_the_content_only() {
    let root = tempfile::tempdir().unwrap();
    let state = StateFolder::open(&root.path().join("s")).unwrap();
    let serials = Serials::open(&state).unwrap();
    assert_eq!(serials.next("a.test", b"one", now()).unwrap(), 1_800_000_000);
    assert_eq!(serials.next("a.test", b"one", now() + DAY).unwrap(), 1_800_000_000);
    assert_eq!(serials.next("a.test", b"two", now() + DAY).unwrap(), 1_800_000_001);
    assert_eq!(serials.next("b.test", b"one", now() + DAY).unwrap(), 1_800_086_400);
    let again = Serials::open(&state).unwrap();
    assert_eq!(again.next("a.test", b"one", now()).unwrap(), 1_800_000_002);
    assert!(matches!(again.next("a test", b"one", now()), Err(Error::Zone { .. })));
}
