//! What a request and its response are changed by on the way to one backend, made ready with the view: the header
//! edits and the rewrite of a rule, and of a rule with one of its backends.

use crate::edits::Edits;
use model::Text;
use model::edge::{BackendEdits, HeaderEdits, PathRewrite, Rewrite};

#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub request_edits: Option<Edits>,
    pub response_edits: Option<Edits>,
    pub rewrite_host: Option<Box<[u8]>>,
    pub rewrite_path: Option<PathRewrite>,
}

impl Changes {
    pub fn new(request: &HeaderEdits, response: &HeaderEdits, rewrite: &Rewrite) -> Changes {
        let host = rewrite.hostname.as_ref();
        let host = host.filter(|host| h1::host::parse(host.as_bytes()).is_some());
        Changes {
            request_edits: Edits::new(request),
            response_edits: Edits::new(response),
            rewrite_host: host.map(|host| Box::from(host.to_ascii_lowercase().as_bytes())),
            rewrite_path: rewrite.path.clone(),
        }
    }

    /// A field line of every response before what the rule itself says of responses, which has the last word.
    pub fn with_response_line(self, name: &[u8], value: &Text) -> Changes {
        let name = Text::from(String::from_utf8_lossy(name).as_ref());
        let line = HeaderEdits { set: vec![(name, value.clone())], ..HeaderEdits::default() };
        let response_edits = join(Edits::new(&line).as_ref(), self.response_edits);
        Changes { response_edits, ..self }
    }

    /// These of a rule, then those of a backend. Of two rewrites the backend's stands: both speak of the path that the
    /// rule matched.
    pub fn then(&self, backend: &BackendEdits) -> Changes {
        let BackendEdits { request_headers, response_headers, rewrite } = backend;
        let after = Changes::new(request_headers, response_headers, rewrite);
        Changes {
            request_edits: join(self.request_edits.as_ref(), after.request_edits),
            response_edits: join(self.response_edits.as_ref(), after.response_edits),
            rewrite_host: after.rewrite_host.or_else(|| self.rewrite_host.clone()),
            rewrite_path: after.rewrite_path.or_else(|| self.rewrite_path.clone()),
        }
    }
}

fn join(first: Option<&Edits>, then: Option<Edits>) -> Option<Edits> {
    match (first, then) {
        (Some(first), Some(then)) => Some(first.then(&then)),
        (first, then) => then.or_else(|| first.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_has_the_last_word() {
        let edits = |set: &str, remove: &str| HeaderEdits {
            set: vec![("x-set".into(), set.into())],
            add: vec![(format!("x-{set}").as_str().into(), "1".into())],
            remove: vec![remove.into()],
        };
        let rewrite = |host: Option<&str>, path: Option<&str>| Rewrite {
            hostname: host.map(Into::into),
            path: path.map(|path| PathRewrite::ReplaceFull(path.into())),
        };
        let rule = Changes::new(
            &edits("rule", "x-a"),
            &HeaderEdits::default(),
            &rewrite(Some("Rule.test"), Some("/rule")),
        );
        let both = rule.then(&BackendEdits {
            request_headers: edits("backend", "x-rule"),
            response_headers: edits("backend", "x-b"),
            rewrite: rewrite(None, Some("/backend")),
        });
        let request = both.request_edits.expect("some");
        assert!([b"x-a", b"x-b"].map(|name| request.drops(name)) == [true, false]);
        let added: Vec<_> = request.added().collect();
        assert_eq!(
            added,
            [(b"x-set".as_slice(), b"backend".as_slice()), (b"x-backend", b"1")],
            "what the rule adds, the backend may take away"
        );
        assert!(both.response_edits.expect("some").drops(b"x-b"));
        assert_eq!(both.rewrite_host.as_deref(), Some(b"rule.test".as_slice()));
        assert_eq!(both.rewrite_path, Some(PathRewrite::ReplaceFull("/backend".into())));
        let same = rule.then(&BackendEdits::default());
        assert_eq!(same.request_edits, rule.request_edits);
        assert_eq!(same.rewrite_path, rule.rewrite_path);
    }
}
