//! Clients and origins against each other, with no Cutwater between: what a scenario says is played, and
//! what does not hold is found.

use std::net::TcpListener;
use std::thread;

use crate::actions::OriginAction;
use crate::client::{Client, Entry};
use crate::failure::Failure;
use crate::scenario::{Scenario, Section, Step};
use crate::scripted::{self, Control};
use crate::text::Variables;

const HEAD: &str = "title T\ncites RFC 9112\nmanifests <<<\n>>>\ncase one\n";

/// Plays a case whose clients speak to origin 1 directly; line numbers count from the case's first.
fn play(steps: &str) -> Result<(), Failure> {
    let scenario = Scenario::parse(&format!("{HEAD}{steps}")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port_offset = listener.local_addr().unwrap().port() - 80;
    let entry = Entry { port_offset, admin_port: 1, ca: "none".into() };
    let control = Control::default();
    let mut variables = Variables { port_offset, ..Variables::default() };
    let result = thread::scope(|scope| {
        let origin = scope.spawn(|| match script(&scenario) {
            Some(steps) => scripted::play(&listener, steps, &Variables::default(), &control),
            None => {
                scripted::echo(&listener, 1, &control);
                Ok(())
            }
        });
        let played = clients(&scenario, &entry, &mut variables);
        match played {
            Ok(()) => control.finish(),
            Err(_) => control.abort(),
        }
        played.and(origin.join().unwrap())
    });
    result.map_err(|failure| Failure { line: failure.line - HEAD.lines().count(), ..failure })
}

fn script(scenario: &Scenario) -> Option<&[Step<OriginAction>]> {
    scenario.cases[0].sections.iter().find_map(|section| match section {
        Section::Origin { steps, .. } => Some(steps.as_slice()),
        _ => None,
    })
}

fn clients(scenario: &Scenario, entry: &Entry, variables: &mut Variables) -> Result<(), Failure> {
    let mut client = None;
    for section in &scenario.cases[0].sections {
        if let Section::Client { connection, steps } = section {
            if let Some(endpoint) = &connection.endpoint {
                client = Some(Client::connect(endpoint, entry).unwrap());
            }
            client.as_mut().unwrap().play(steps, variables)?;
        }
    }
    Ok(())
}

#[test]
fn an_echo_shows_what_came() {
    play(
        r#"client a http:80
request POST /x?y a.test <<<
  X-One: 1
  Transfer-Encoding: chunked
>>>
send "2\r\nok\r\n0\r\n\r\n"
expect 200
header x-origin: 1
body "POST /x?y HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\nok"
send-slowly 7 1 "GET /slow HTTP/1.1\r\n\r\n"
expect 200
body contains "GET /slow"
send "HEAD / HTTP/1.1\r\n\r\n"
expect 200 head
silence 30
spread 3 GET / a.test
share 1 3
send "POST / HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
expect 100
send "ok"
expect 200
"#,
    )
    .unwrap();
}

#[test]
fn a_script_is_played() {
    play(
        r#"origin 1
expect-request GET /one HTTP/1.1
header x-a contains b
send "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
expect-head POST /two HTTP/1.1
send "HTTP/1.1 100 Continue\r\n\r\n"
expect-body
body "hello"
send "HTTP/1.1 101 Switching Protocols\r\n\r\n"
expect-bytes "ping"
send "pong"
close
client a http:80
send <<<
  GET /one HTTP/1.1
  x-a: abc

>>>
expect 200
body ab
send "POST /two HTTP/1.1\r\ncontent-length: 5\r\n\r\n"
expect 100
send "hello"
expect 101
send "ping"
expect-bytes "pong"
expect-close
"#,
    )
    .unwrap();
}

#[test]
fn what_does_not_hold_is_found() {
    for (steps, line, got) in [
        ("client a http:80\nrequest GET / a\nexpect 404", 3, "x-origin: 1"),
        ("client a http:80\nrequest GET / a\nexpect 200\nheader x: 1", 4, "none in"),
        ("client a http:80\nrequest GET / a\nexpect 200\nbody \"x\"", 4, "GET / HTTP/1.1"),
        ("client a http:80\nrequest GET / a\nsilence 500", 3, "HTTP/1.1 200 OK"),
        ("origin 1\nexpect-request GET /b HTTP/1.1\nclient a http:80\nrequest GET /a b", 2, "/a"),
        ("origin 1\nnothing\nclient a http:80\nrequest GET /a b\nwait 50", 2, "GET /a"),
        (
            "origin 1\nexpect-request GET / HTTP/1.1\nclose\nclient a http:80\nrequest GET / b\nexpect 200",
            6,
            "the end of the connection",
        ),
    ] {
        let failure = play(steps).unwrap_err();
        assert_eq!(failure.line, line, "{failure}");
        assert!(failure.got.contains(got), "{failure}");
    }
}

#[test]
fn a_reset_ends_the_connection() {
    play(
        "origin 1\nexpect-request GET / HTTP/1.1\nreset\n\
         client a http:80\nrequest GET / b\nexpect-close",
    )
    .unwrap();
}
