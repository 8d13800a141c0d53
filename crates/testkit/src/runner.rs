//! Plays a scenario file against a running Cutwater: one instance a file, its cases one after another.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::actions::{CutwaterAction, OriginAction};
use crate::check::Comparison;
use crate::client::Client;
use crate::dns_client::DnsClient;
use crate::failure::{Failure, Mismatch, shown};
use crate::instance::{Finished, Instance, Plan};
use crate::ports::free_port;
use crate::scenario::{Case, Scenario, Section, Step};
use crate::scripted::{self, Control};
use crate::text::Variables;
use crate::wire::PATIENCE;

const PAUSE: Duration = Duration::from_millis(5);
/// For the proxy to see that the origins of the last case are gone.
const BETWEEN_CASES: Duration = Duration::from_millis(20);

/// What became of a file.
#[derive(Debug, Default)]
pub struct Outcome {
    pub title: String,
    pub passed: usize,
    /// Title of the case, or of what surrounds the cases, and what went wrong.
    pub failed: Vec<(String, String)>,
    /// What the instance printed, when something failed.
    pub printed: String,
}

/// Plays one file.
pub fn run_file(path: &Path) -> Outcome {
    let failed = |what: &str, error: String| Outcome {
        failed: vec![(what.to_owned(), error)],
        ..Outcome::default()
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return failed("the file", error.to_string()),
    };
    let scenario = match Scenario::parse(&text) {
        Ok(scenario) => scenario,
        Err(failure) => return failed("the file", failure.to_string()),
    };
    let common = path.parent().unwrap_or(path).join("common");
    let scenario = match scenario.with_common(&common) {
        Ok(scenario) => scenario,
        Err(error) => return failed("the common files", error),
    };
    match Stage::set(&scenario) {
        Ok(stage) => stage.play(&scenario),
        Err(error) => Outcome { title: scenario.title, ..failed("the start", error) },
    }
}

/// An instance with its folder and origins.
struct Stage {
    instance: Instance,
    folder: TempDir,
    origins: Vec<TcpListener>,
    variables: Variables,
    /// Bound but not listening: to connect to it is refused.
    _dead: Socket,
}

impl Stage {
    fn set(scenario: &Scenario) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut origins = Vec::new();
        let mut variables = Variables::default();
        for number in 1..=scenario.origins() {
            let origin = origin().map_err(|error| error.to_string())?;
            let port = origin.local_addr().map_err(|error| error.to_string())?.port();
            variables.values.insert(format!("origin{number}"), port.to_string());
            origins.push(origin);
        }
        let (dead, port) = dead_port().map_err(|error| error.to_string())?;
        variables.values.insert("dead".to_owned(), port.to_string());
        variables.values.insert("free".to_owned(), free_port()?.to_string());
        for (path, content) in &scenario.files {
            let content = content.expand(&variables).map_err(|mismatch| {
                format!("{path}: expected {}, got {}", mismatch.expected, mismatch.got)
            })?;
            write(folder.path(), path, &content)?;
        }
        let instance = Instance::start(&Plan {
            flags: scenario.flags.clone(),
            ports: scenario.ports(),
            until_ready: !scenario.unready,
            ..Plan::new(folder.path())
        })?;
        variables.port_offset = instance.entry().port_offset;
        variables.values.insert("admin".to_owned(), instance.admin().to_string());
        let path = folder.path().display().to_string();
        variables.values.insert("folder".to_owned(), path);
        Ok(Self { instance, folder, origins, variables, _dead: dead })
    }

    fn play(self, scenario: &Scenario) -> Outcome {
        let mut outcome = Outcome { title: scenario.title.clone(), ..Outcome::default() };
        for case in &scenario.cases {
            let failures = self.case(case);
            match failures.is_empty() {
                true => outcome.passed += 1,
                false => {
                    let lines: Vec<_> = failures.iter().map(Failure::to_string).collect();
                    outcome.failed.push((case.title.clone(), lines.join("\n  ")));
                }
            }
            thread::sleep(BETWEEN_CASES);
        }
        let printed = self.instance.printed();
        if let Err(error) = self.instance.stop() {
            outcome.failed.push(("the stop".to_owned(), error));
        }
        if !outcome.failed.is_empty() {
            outcome.printed = printed;
        }
        outcome
    }

    /// Plays the sections in their order, with the origins beside them.
    fn case(&self, case: &Case) -> Vec<Failure> {
        let controls: Vec<Control> = self.origins.iter().map(|_| Control::default()).collect();
        thread::scope(|scope| {
            let origins = self.origins.iter().zip(&controls).enumerate();
            let playing: Vec<_> = origins
                .map(|(index, (listener, control))| {
                    let steps = script(case, index + 1);
                    scope.spawn(move || match steps {
                        Some(steps) => scripted::play(listener, steps, &self.variables, control),
                        None => {
                            scripted::echo(listener, index + 1, control);
                            Ok(())
                        }
                    })
                })
                .collect();
            let played = Player::new(self, &controls).play(&case.sections);
            match &played {
                Ok(()) => controls.iter().for_each(Control::finish),
                // An origin's own failure often explains the client's; it is known at once.
                Err(_) => controls.iter().for_each(Control::abort),
            }
            let origins = playing.into_iter().map(|origin| {
                origin.join().unwrap_or_else(|_| {
                    Err(Mismatch::new("an origin", "a panic").at(case.line, &case.title))
                })
            });
            std::iter::once(played).chain(origins).filter_map(Result::err).collect()
        })
    }
}

fn script(case: &Case, origin: usize) -> Option<&[Step<OriginAction>]> {
    case.sections.iter().find_map(|section| match section {
        Section::Origin { number, steps } if *number == origin => Some(steps.as_slice()),
        _ => None,
    })
}

/// What lasts from section to section of a case.
struct Player<'a> {
    stage: &'a Stage,
    controls: &'a [Control],
    variables: Variables,
    clients: BTreeMap<String, Client>,
    dns_clients: BTreeMap<String, DnsClient>,
    /// The digest before the last change of the folder.
    digest: Option<String>,
    finished: Finished,
}

impl<'a> Player<'a> {
    fn new(stage: &'a Stage, controls: &'a [Control]) -> Self {
        Self {
            stage,
            controls,
            variables: stage.variables.clone(),
            clients: BTreeMap::new(),
            dns_clients: BTreeMap::new(),
            digest: None,
            finished: Finished::default(),
        }
    }

    fn play(&mut self, sections: &[Section]) -> Result<(), Failure> {
        sections.iter().try_for_each(|section| match section {
            Section::Origin { .. } => Ok(()),
            Section::Client { connection, steps } => {
                let place = |mismatch: Mismatch| mismatch.at(connection.line, &connection.name);
                if let Some(endpoint) = &connection.endpoint {
                    let client =
                        Client::connect(endpoint, &self.stage.instance.entry()).map_err(place)?;
                    self.clients.insert(connection.name.clone(), client);
                }
                let client = self.clients.get_mut(&connection.name);
                client.ok_or_else(|| place(unconnected()))?.play(steps, &mut self.variables)
            }
            Section::Dns { connection, steps } => {
                let place = |mismatch: Mismatch| mismatch.at(connection.line, &connection.name);
                if let Some(endpoint) = &connection.endpoint {
                    let client = DnsClient::connect(endpoint, &self.stage.instance.entry())
                        .map_err(place)?;
                    self.dns_clients.insert(connection.name.clone(), client);
                }
                let client = self.dns_clients.get_mut(&connection.name);
                client.ok_or_else(|| place(unconnected()))?.play(steps, &self.variables)
            }
            Section::Cutwater { steps } => steps.iter().try_for_each(|step| {
                self.act(&step.action).map_err(|mismatch| mismatch.at(step.line, &step.text))
            }),
        })
    }

    fn act(&mut self, action: &CutwaterAction) -> Result<(), Mismatch> {
        let instance = &self.stage.instance;
        match action {
            CutwaterAction::Write { path, content } => {
                self.digest = instance.digest().ok();
                let content = content.expand(&self.variables)?;
                write(self.stage.folder.path(), path, &content)
                    .map_err(|error| Mismatch::new("to write", error))
            }
            CutwaterAction::Remove { path } => {
                self.digest = instance.digest().ok();
                fs::remove_file(self.stage.folder.path().join(path))
                    .map_err(|error| Mismatch::new("to remove", error.to_string()))
            }
            CutwaterAction::AwaitLive => {
                let before = self.digest.clone();
                eventually("another digest", || {
                    let digest = self.current_digest()?;
                    match Some(&digest) == before.as_ref() {
                        true => Err(Mismatch::new("another digest", digest)),
                        false => Ok(()),
                    }
                })
            }
            CutwaterAction::AwaitReady => {
                eventually("readiness", || match instance.page("/readyz") {
                    Ok((200, _)) => Ok(()),
                    other => Err(Mismatch::new("200", format!("{other:?}"))),
                })
            }
            CutwaterAction::Stays(duration) => self.stays(*duration),
            CutwaterAction::Log(comparison) => self.some_line(comparison, || instance.access_log()),
            CutwaterAction::Printed(comparison) => self.held(comparison, || instance.printed()),
            CutwaterAction::Run { arguments } => {
                let arguments = arguments.expand_text(&self.variables)?;
                let arguments: Vec<&str> = arguments.split_whitespace().collect();
                let finished = instance.run(&arguments);
                self.finished = finished.map_err(|error| Mismatch::new("a command", error))?;
                Ok(())
            }
            CutwaterAction::Exit(code) => match self.finished.code == *code {
                true => Ok(()),
                false => Err(Mismatch::new(code.to_string(), format!("{:?}", self.finished))),
            },
            CutwaterAction::Stdout(comparison) => {
                comparison.hold(&self.finished.stdout, &self.variables)
            }
            CutwaterAction::Stderr(comparison) => {
                comparison.hold(&self.finished.stderr, &self.variables)
            }
            CutwaterAction::Requests { origin, number } => self.requests(*origin, *number),
            CutwaterAction::Wait(duration) => {
                thread::sleep(*duration);
                Ok(())
            }
        }
    }

    fn current_digest(&self) -> Result<String, Mismatch> {
        self.stage.instance.digest().map_err(|error| Mismatch::new("a digest", error))
    }

    fn stays(&self, duration: Duration) -> Result<(), Mismatch> {
        let before = self.digest.clone().map_or_else(|| self.current_digest(), Ok)?;
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            let digest = self.current_digest()?;
            if digest != before {
                return Err(Mismatch::new(format!("the digest {before}"), digest));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Some line of a file that grows must hold it before long.
    fn some_line(
        &self,
        comparison: &Comparison,
        text: impl Fn() -> String,
    ) -> Result<(), Mismatch> {
        eventually("a line", || {
            let text = text();
            let held = |line| comparison.hold(line, &self.variables);
            match text.lines().rev().any(|line| held(line).is_ok()) {
                true => Ok(()),
                false => held("").map_err(|mismatch| Mismatch {
                    got: shown(&text.as_bytes()[text.len().saturating_sub(1500)..]),
                    ..mismatch
                }),
            }
        })
    }

    fn held(&self, comparison: &Comparison, text: impl Fn() -> String) -> Result<(), Mismatch> {
        eventually("the text", || comparison.hold(&text(), &self.variables))
    }

    fn requests(&self, origin: usize, number: usize) -> Result<(), Mismatch> {
        let control = origin.checked_sub(1).and_then(|index| self.controls.get(index));
        match control.map(Control::requests) {
            Some(got) if got == number => Ok(()),
            Some(got) => Err(Mismatch::new(number.to_string(), got.to_string())),
            None => Err(Mismatch::new("an origin of the manifests", origin.to_string())),
        }
    }
}

fn unconnected() -> Mismatch {
    Mismatch::new("a client that is connected", "none of this name")
}

/// Tries again until it holds, within the usual patience.
fn eventually(what: &str, mut holds: impl FnMut() -> Result<(), Mismatch>) -> Result<(), Mismatch> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match holds() {
            Ok(()) => return Ok(()),
            Err(mismatch) if Instant::now() >= deadline => {
                let expected = format!("{what} within 5 s: {}", mismatch.expected);
                return Err(Mismatch { expected, ..mismatch });
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn write(folder: &Path, path: &str, content: &[u8]) -> Result<(), String> {
    let path = folder.join(path);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&path, content))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn origin() -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn dead_port() -> std::io::Result<(Socket, u16)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    let port = address.map(|address| address.port()).unwrap_or_default();
    Ok((socket, port))
}
