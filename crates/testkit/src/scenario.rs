//! A scenario file as data, and how it is read. The form is described in README.md; single lines are in
//! `lines`, the steps in `actions`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::actions::{
    ClientAction, CutwaterAction, DnsAction, OriginAction, client_action, cutwater_action,
    dns_action, number, origin_action,
};
use crate::failure::Failure;
use crate::lines::{Line, lines};
use crate::text::Text;

/// One file: manifests, and cases that are played against one running Cutwater.
#[derive(Debug, Default)]
pub struct Scenario {
    pub title: String,
    pub cites: Vec<String>,
    /// Further arguments of `cutwater up`.
    pub flags: Vec<String>,
    /// The folder has a mistake at the start: the instance is alive and not ready.
    pub unready: bool,
    /// Files of `common/` that become part of the folder.
    pub uses: Vec<String>,
    /// Relative path to content, before variables are filled in.
    pub files: BTreeMap<String, Text>,
    pub cases: Vec<Case>,
}

#[derive(Debug)]
pub struct Case {
    pub line: usize,
    pub title: String,
    pub cites: Vec<String>,
    pub sections: Vec<Section>,
}

#[derive(Debug)]
pub enum Section {
    /// What the origin of this number does during the case; without one it echoes.
    Origin {
        number: usize,
        steps: Vec<Step<OriginAction>>,
    },
    Client {
        connection: Connection,
        steps: Vec<Step<ClientAction>>,
    },
    Dns {
        connection: Connection,
        steps: Vec<Step<DnsAction>>,
    },
    Cutwater {
        steps: Vec<Step<CutwaterAction>>,
    },
}

#[derive(Debug)]
pub struct Step<T> {
    pub line: usize,
    pub text: String,
    pub action: T,
}

/// A client by its name; the endpoint is given where it connects.
#[derive(Clone, Debug)]
pub struct Connection {
    pub line: usize,
    pub name: String,
    pub endpoint: Option<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp {
        port: u16,
    },
    Tls {
        port: u16,
        options: Tls,
    },
    /// HTTP/2, with prior knowledge or over TLS.
    Http2 {
        port: u16,
        tls: Option<Tls>,
    },
    Udp {
        port: u16,
    },
    DnsTcp {
        port: u16,
    },
    Admin,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// None: no server name is sent.
    pub sni: Option<String>,
    pub alpn: Vec<String>,
    /// The chain is not judged.
    pub untrusted: bool,
    /// The handshake must not succeed.
    pub fails: bool,
}

impl Scenario {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut scenario = Self::default();
        for line in lines(text)? {
            scenario.take(&line).map_err(|message| Failure {
                line: line.number,
                step: line.text.clone(),
                expected: "a line as README.md describes it".to_owned(),
                got: message,
            })?;
        }
        scenario.complete().map_err(|(line, message)| Failure {
            line,
            step: "the scenario".to_owned(),
            expected: "a whole scenario".to_owned(),
            got: message,
        })?;
        Ok(scenario)
    }

    /// Adds the files of `common/` that it uses.
    pub fn with_common(mut self, folder: &Path) -> Result<Self, String> {
        for name in &self.uses {
            let file = format!("{name}.yaml");
            let path = folder.join(&file);
            let content = std::fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            self.files.insert(file, Text::of_block(&content, "\n"));
        }
        Ok(self)
    }

    /// How many origins the manifests and steps speak of.
    pub fn origins(&self) -> usize {
        let in_files = (1..=9).rev().find(|number| {
            let variable = format!("${{origin{number}}}");
            self.files.values().any(|file| file.mentions(&variable))
        });
        let in_cases = self.sections().filter_map(|section| match section {
            Section::Origin { number, .. } => Some(*number),
            _ => None,
        });
        in_cases.max().unwrap_or(0).max(in_files.unwrap_or(0))
    }

    /// The listener ports that clients connect to, before the offset.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .sections()
            .filter_map(|section| match section {
                Section::Client { connection, .. } | Section::Dns { connection, .. } => {
                    connection.endpoint.as_ref()?.port()
                }
                _ => None,
            })
            .chain([53, 80, 443])
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn sections(&self) -> impl Iterator<Item = &Section> {
        self.cases.iter().flat_map(|case| &case.sections)
    }

    fn take(&mut self, line: &Line) -> Result<(), String> {
        match (line.word.as_str(), self.cases.last_mut()) {
            ("title", None) => self.title = line.rest.clone(),
            ("flags", None) => self.flags.extend(line.rest.split_whitespace().map(str::to_owned)),
            ("unready", None) => self.unready = true,
            ("use", None) => self.uses.extend(line.rest.split_whitespace().map(str::to_owned)),
            ("manifests", None) => self.file("manifests.yaml", line)?,
            ("file", None) => self.file(&line.rest, line)?,
            ("cites", None) => self.cites.push(line.rest.clone()),
            ("cites", Some(case)) => case.cites.push(line.rest.clone()),
            ("case", _) => self.cases.push(Case {
                line: line.number,
                title: line.rest.clone(),
                cites: Vec::new(),
                sections: Vec::new(),
            }),
            (_, Some(case)) => case.take(line)?,
            (word, None) => return Err(format!("{word:?} before the first case")),
        }
        Ok(())
    }

    fn file(&mut self, path: &str, line: &Line) -> Result<(), String> {
        let content = Text::of_block(line.block()?, "\n");
        match self.files.insert(path.to_owned(), content) {
            None => Ok(()),
            Some(_) => Err(format!("{path} twice")),
        }
    }

    fn complete(&self) -> Result<(), (usize, String)> {
        let nothing_to_serve = self.files.is_empty() && self.uses.is_empty();
        if self.title.is_empty() || nothing_to_serve || self.cases.is_empty() {
            return Err((1, "a title, manifests and a case are needed".to_owned()));
        }
        let uncited = |case: &&Case| case.cites.is_empty() && self.cites.is_empty();
        match self.cases.iter().find(uncited) {
            Some(case) => Err((case.line, "the case cites no section of a specification".into())),
            None => Ok(()),
        }
    }
}

impl Case {
    fn take(&mut self, line: &Line) -> Result<(), String> {
        if let Some(section) = Section::begun(line, &self.sections)? {
            self.sections.push(section);
            return Ok(());
        }
        match self.sections.last_mut() {
            None => Err("a step before `client`, `origin` or `cutwater`".to_owned()),
            Some(Section::Origin { steps, .. }) => add(steps, line, origin_action),
            Some(Section::Client { steps, .. }) => add(steps, line, client_action),
            Some(Section::Dns { steps, .. }) => add(steps, line, dns_action),
            Some(Section::Cutwater { steps }) => add(steps, line, cutwater_action),
        }
    }
}

fn add<T>(
    steps: &mut Vec<Step<T>>,
    line: &Line,
    parse: fn(&Line) -> Result<T, String>,
) -> Result<(), String> {
    let action = parse(line)?;
    steps.push(Step { line: line.number, text: line.text.clone(), action });
    Ok(())
}

impl Section {
    fn begun(line: &Line, before: &[Self]) -> Result<Option<Self>, String> {
        match line.word.as_str() {
            "cutwater" => Ok(Some(Self::Cutwater { steps: Vec::new() })),
            "origin" => Ok(Some(Self::Origin { number: number(&line.rest)?, steps: Vec::new() })),
            "client" => Self::client(line, before).map(Some),
            _ => Ok(None),
        }
    }

    fn client(line: &Line, before: &[Self]) -> Result<Self, String> {
        let (name, endpoint) = line.rest.split_once(' ').unwrap_or((&line.rest, ""));
        let name = name.to_owned();
        let steps_are_dns = |section: &Self| match section {
            Self::Client { connection, .. } if connection.name == name => Some(false),
            Self::Dns { connection, .. } if connection.name == name => Some(true),
            _ => None,
        };
        let known = before.iter().rev().find_map(steps_are_dns);
        let (endpoint, dns) = match (endpoint, known) {
            ("", Some(dns)) => (None, dns),
            ("", None) => return Err(format!("client {name} is new and needs an endpoint")),
            (text, _) => {
                let endpoint = Endpoint::parse(text)?;
                let dns = matches!(endpoint, Endpoint::Udp { .. } | Endpoint::DnsTcp { .. });
                (Some(endpoint), dns)
            }
        };
        let connection = Connection { line: line.number, name, endpoint };
        Ok(match dns {
            true => Self::Dns { connection, steps: Vec::new() },
            false => Self::Client { connection, steps: Vec::new() },
        })
    }
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let (first, options) = text.split_once(' ').unwrap_or((text, ""));
        match first.split_once(':') {
            None if first == "admin" => Ok(Self::Admin),
            Some(("http", port)) => Ok(Self::Tcp { port: number(port)? }),
            Some(("https", port)) => {
                Ok(Self::Tls { port: number(port)?, options: Tls::parse(options)? })
            }
            Some(("h2", port)) => Ok(Self::Http2 { port: number(port)?, tls: None }),
            Some(("h2s", port)) => {
                let mut tls = Tls::parse(options)?;
                tls.alpn = vec!["h2".to_owned()];
                Ok(Self::Http2 { port: number(port)?, tls: Some(tls) })
            }
            Some(("dns", port)) => match port.split_once('/') {
                Some((port, "udp")) => Ok(Self::Udp { port: number(port)? }),
                Some((port, "tcp")) => Ok(Self::DnsTcp { port: number(port)? }),
                _ => Err("dns:PORT/udp or dns:PORT/tcp".to_owned()),
            },
            _ => Err(format!("{first:?} is none of http:, https:, h2:, h2s:, dns:, admin")),
        }
    }

    fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port }
            | Self::Tls { port, .. }
            | Self::Http2 { port, .. }
            | Self::Udp { port }
            | Self::DnsTcp { port } => Some(*port),
            Self::Admin => None,
        }
    }
}

impl Tls {
    fn parse(options: &str) -> Result<Self, String> {
        let mut tls = Self::default();
        for option in options.split_whitespace() {
            match option.split_once('=') {
                Some(("sni", name)) => tls.sni = Some(name.to_owned()),
                Some(("alpn", names)) => tls.alpn = names.split(',').map(str::to_owned).collect(),
                None if option == "untrusted" => tls.untrusted = true,
                None if option == "fails" => tls.fails = true,
                _ => return Err(format!("{option:?} is none of sni=, alpn=, untrusted, fails")),
            }
        }
        Ok(tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Variables;

    const HEAD: &str = "title T\ncites RFC 9112 section 6\nmanifests <<<\n  a: 1\n    b: 2\n>>>\n";

    fn scenario(rest: &str) -> Result<Scenario, Failure> {
        Scenario::parse(&format!("{HEAD}case one\n{rest}"))
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = "\
# a comment
title Two cases
flags --workers 2
cites RFC 9112 section 7.1
file a/b.yaml <<<
    port: ${origin2}
>>>
case one
  origin 1
    expect-request POST /x HTTP/1.1
    header content-length: 5
    send \"HTTP/1.1 204 No Content\\r\\n\\r\\n\"
  client a http:8080
    send <<<
      POST /x HTTP/1.1
      Host: a

    >>>
    expect 204
  client d dns:53/udp
    query a.test A
    reply NOERROR aa
  client a
    expect-close
  cutwater
    write a.yaml <<<
    >>>
    await-live
case two
  cites RFC 9110 section 15
";
        let scenario = Scenario::parse(text).unwrap();
        assert_eq!(scenario.title, "Two cases");
        assert_eq!(scenario.flags, ["--workers", "2"]);
        assert_eq!((scenario.origins(), scenario.ports()), (2, vec![53, 80, 443, 8080]));
        let case = &scenario.cases[0];
        assert_eq!((case.title.as_str(), case.line, case.sections.len()), ("one", 8, 5));
        let Section::Client { connection, steps } = &case.sections[1] else { panic!("{case:?}") };
        assert_eq!(connection.endpoint, Some(Endpoint::Tcp { port: 8080 }));
        assert_eq!((steps[0].line, steps[1].line), (14, 19));
        let ClientAction::Send(text) = &steps[0].action else { panic!("{steps:?}") };
        let bytes = text.expand(&Variables::default()).unwrap();
        assert_eq!(bytes, b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(matches!(&case.sections[3], Section::Client { connection, .. }
            if connection.endpoint.is_none()));
    }

    #[test]
    fn blocks_lose_their_common_indentation() {
        let scenario = scenario("").unwrap();
        let content = scenario.files["manifests.yaml"].expand(&Variables::default()).unwrap();
        assert_eq!(content, b"a: 1\n  b: 2\n");
    }

    #[test]
    fn endpoints_are_read() {
        let tls = |options| Endpoint::Tls { port: 443, options };
        for (text, endpoint) in [
            ("admin", Endpoint::Admin),
            ("dns:53/tcp", Endpoint::DnsTcp { port: 53 }),
            ("https:443", tls(Tls::default())),
            (
                "https:443 sni=a.test alpn=h2,http/1.1 untrusted fails",
                tls(Tls {
                    sni: Some("a.test".to_owned()),
                    alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
                    untrusted: true,
                    fails: true,
                }),
            ),
        ] {
            assert_eq!(Endpoint::parse(text), Ok(endpoint));
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (steps, line, got) in [
            ("client a http:80\nfly", 9, "\"fly\" is no step of a client"),
            ("client a http:80\nexpect x", 9, "\"x\" is not a number in range"),
            ("client a http:99999", 8, "\"99999\" is not a number in range"),
            ("client a", 8, "client a is new and needs an endpoint"),
            ("client a ftp:1", 8, "\"ftp:1\" is none of http:, https:, h2:, h2s:, dns:, admin"),
            ("wait 1", 8, "a step before `client`, `origin` or `cutwater`"),
            ("cutwater\nwrite x", 9, "a block <<< … >>> is needed"),
            ("cutwater\nwait 99999", 9, "a wait lasts a minute at most"),
            ("origin 1\nsend <<<\nx", 9, "the end of the file"),
        ] {
            let failure = scenario(steps).unwrap_err();
            assert_eq!((failure.got.as_str(), failure.line), (got, line), "{failure}");
        }
    }

    #[test]
    fn a_case_must_cite_its_specification() {
        let text = "title T\nmanifests <<<\n>>>\ncase one\n";
        let failure = Scenario::parse(text).unwrap_err();
        assert_eq!(failure.got, "the case cites no section of a specification");
        assert_eq!(failure.line, 4);
    }
}
