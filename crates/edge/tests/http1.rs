//! HTTP/1.1 end to end: a raw client, the edge, a scripted origin.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::edge::Protocol;
use std::thread;
use std::time::Duration;

#[test]
fn forwards_on_one_connection_and_writes_the_lines_that_nobody_else_may() {
    let (_running, port) = one_origin(echo_heads);
    let mut client = Peer::connect(port);
    for _ in 0..3 {
        client.send(
            "GET /a/%2e%2e/b%7ec?x=%41 HTTP/1.1\r\nHost: Shop.Test:1\r\nX-Forwarded-For: 9.9.9.9\r\n\
             Forwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nx-request-id: mine\r\nConnection: X-Hop, keep-alive\r\n\
             X-Hop: 1\r\nKeep-Alive: timeout=5\r\nAccept: a\r\nTE: trailers, gzip\r\n\r\n",
        );
        let (head, seen) = client.response();
        assert_eq!(status(&head), 200);
        assert!(seen.starts_with("GET /b~c?x=%41 HTTP/1.1\r\n"), "{seen}");
        assert_eq!(header(&seen, "host"), Some("Shop.Test:1"));
        assert_eq!(header(&seen, "x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(header(&seen, "x-real-ip"), Some("127.0.0.1"));
        assert_eq!(header(&seen, "x-forwarded-proto"), Some("http"));
        assert_eq!(header(&seen, "x-forwarded-host"), Some("Shop.Test:1"));
        let forwarded = "for=127.0.0.1;proto=http;host=\"Shop.Test:1\"";
        assert_eq!(header(&seen, "forwarded"), Some(forwarded));
        assert_eq!(header(&seen, "te"), Some("trailers"));
        assert_eq!(header(&seen, "connection"), Some("te"));
        assert_eq!(header(&seen, "accept"), Some("a"));
        assert!(header(&seen, "x-hop").is_none() && header(&seen, "keep-alive").is_none());
        let id = header(&seen, "x-request-id").unwrap();
        assert_eq!((id.len(), header(&head, "x-request-id")), (32, Some(id)));
        assert!(!seen.contains("9.9.9.9") && !seen.contains("mine"));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_running, port) = one_origin(|peer| {
        loop {
            let head = peer.head();
            let Some(path) = head.split(' ').nth(1) else { return };
            if path == "/1" {
                thread::sleep(Duration::from_millis(50));
            }
            peer.send(ok(path));
        }
    });
    let mut client = Peer::connect(port);
    let requests: String =
        (1..=5).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests);
    for n in 1..=5 {
        assert_eq!(client.response().1, format!("/{n}"));
    }
}

#[test]
fn bodies_pass_both_ways_by_length_and_by_chunks_with_trailers() {
    let (saw, seen) = channel();
    let (_running, port) = one_origin(move |peer| {
        loop {
            let head = peer.head();
            if head.is_empty() {
                return;
            }
            let body = match header(&head, "content-length") {
                Some(length) => text(peer.count(length.parse().unwrap())),
                None => peer.until("\r\n0\r\n") + &peer.head(),
            };
            saw((head, body));
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n");
            peer.send("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\nContent-Length: 9\r\n\r\n");
        }
    });
    let mut client = Peer::connect(port);
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n1234567");
    let head = client.head();
    assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(client.until("0\r\n"), "3\r\nabc\r\n2\r\nde\r\n0\r\n");
    assert_eq!(client.head(), "X-Sum: 5\r\n\r\n");
    let (head, body) = seen.recv().unwrap();
    assert_eq!((header(&head, "content-length"), body.as_str()), (Some("7"), "1234567"));

    let mut client = Peer::connect(port);
    client.send(
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;ext=1\r\nwxyz\r\n",
    );
    thread::sleep(Duration::from_millis(20));
    client.send("1\r\n!\r\n0\r\nX-Check: ok\r\nHost: evil\r\n\r\n");
    assert_eq!(status(&client.head()), 200);
    let (head, body) = seen.recv().unwrap();
    assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    assert!(body.starts_with("4\r\nwxyz\r\n") && body.contains("1\r\n!\r\n"), "{body}");
    assert!(body.ends_with("0\r\nX-Check: ok\r\n\r\n"), "{body}");
}

/// However the origin cuts and writes its chunks, the client gets chunks of the same bytes, each written plainly.
#[test]
fn chunks_of_an_origin_in_all_forms_and_cuts() {
    let large = format!("9c40\r\n{}\r\n", "z".repeat(40_000));
    let forms = [
        // As written, and as sent where that is not the same.
        ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_owned(), None),
        ("A\r\n0123456789\r\n0\r\n\r\n".to_owned(), None),
        (large.repeat(9) + "0\r\n\r\n", None),
        ("0\r\n\r\n".to_owned(), None),
        ("03\r\nabc\r\n000\r\n\r\n".to_owned(), Some("3\r\nabc\r\n0\r\n\r\n")),
        (
            "3;x=y\r\nabc\r\n1\r\nd\r\n0;z\r\n\r\n".to_owned(),
            Some("3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"),
        ),
        ("3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n".to_owned(), Some("3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n")),
    ];
    for (written, sent) in forms {
        let expected = data_of(sent.unwrap_or(&written));
        let small = written.len() < 100;
        for cut in (0..written.len()).step_by(if small { 1 } else { 45_001 }) {
            let parts = [written[..cut].to_owned(), written[cut..].to_owned()];
            let (_running, port) = one_origin(move |peer| {
                while !peer.head().is_empty() {
                    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    peer.send(&parts[0]);
                    thread::sleep(Duration::from_millis(3));
                    peer.send(&parts[1]);
                }
            });
            let mut client = Peer::connect(port);
            // The second finds the connections in order.
            for _ in 0..2 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                assert_eq!(header(&client.head(), "transfer-encoding"), Some("chunked"));
                assert!(unchunked(&mut client) == expected, "{written:.99} cut at {cut}");
            }
        }
    }
}

/// Data of a body in chunks, and its trailer section.
fn unchunked(client: &mut Peer) -> (String, String) {
    let mut data = String::new();
    loop {
        let line = client.until("\r\n");
        let size = line.trim_end();
        assert!(!size.is_empty() && (size == "0" || !size.starts_with('0')), "{line:?}");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            let mut trailers = String::new();
            loop {
                let line = client.until("\r\n");
                if line == "\r\n" {
                    return (data, trailers);
                }
                trailers += &line;
            }
        }
        data += &text(client.count(size));
        assert_eq!(text(client.count(2)), "\r\n");
    }
}

/// The same, of what is plainly written.
fn data_of(chunks: &str) -> (String, String) {
    let (mut data, mut rest) = (String::new(), chunks);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (data, after.strip_suffix("\r\n").unwrap().to_owned());
        }
        data += &after[..size];
        rest = &after[size + 2..];
    }
    panic!("{chunks:?} has no end")
}

#[test]
fn large_bodies_arrive_whole() {
    const LENGTH: usize = 3 << 20;
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        let length = header(&head, "content-length").unwrap().parse().unwrap();
        let body = peer.count(length);
        peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()));
        peer.send(body);
        peer.more();
    });
    let mut client = Peer::connect(port);
    let body: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let sent = body.clone();
    let sending = thread::spawn(move || {
        use std::io::Write;
        writer.write_all(
            format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes(),
        )?;
        writer.write_all(&sent)
    });
    assert_eq!(status(&client.head()), 200);
    assert!(client.count(LENGTH) == body);
    sending.join().unwrap().unwrap();
}

#[test]
fn bodies_have_back_pressure() {
    let (sent, progress) = channel();
    let (_running, port) = one_origin(move |peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n");
        peer.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let mut count = 0;
        use std::io::Write;
        while count < 100 && peer.stream.write(&piece).is_ok_and(|n| n > 0) {
            count += 1;
        }
        sent(count);
    });
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // The client reads nothing: what the origin can send is bounded by socket buffers and one of ours.
    assert!(progress.recv().unwrap() < 40);
}

#[test]
fn http10_gets_bodies_until_close_and_may_keep_alive() {
    let (_running, port) = one_origin(|peer| {
        while !peer.head().is_empty() {
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
        }
    });
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let head = client.head();
    assert_eq!(
        (header(&head, "connection"), header(&head, "transfer-encoding")),
        (Some("close"), None)
    );
    assert_eq!(client.rest(), "hi");

    let (_running, port) = one_origin(says("ok"));
    let mut client = Peer::connect(port);
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let (head, body) = client.response();
        assert_eq!((header(&head, "connection"), body.as_str()), (Some("keep-alive"), "ok"));
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(header(&client.response().0, "connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn responses_without_a_body() {
    let (_running, port) = one_origin(|peer| {
        loop {
            let head = peer.head();
            match head.split(' ').nth(1) {
                Some("/204") => peer.send("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"),
                Some("/304") => {
                    peer.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\nETag: x\r\n\r\n")
                }
                Some(_) => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
                None => return,
            }
        }
    });
    let mut client = Peer::connect(port);
    for (request, expected, length) in [
        ("HEAD /", 200, Some("4")),
        ("GET /204", 204, None),
        ("GET /304", 304, Some("4")),
        ("HEAD /", 200, Some("4")),
    ] {
        client.send(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.head();
        assert_eq!(
            (status(&head), header(&head, "content-length")),
            (expected, length),
            "{request}"
        );
        assert!(header(&head, "x-request-id").is_some() && client.held.is_empty());
    }
}

#[test]
fn a_body_until_close_becomes_chunked() {
    let (_running, port) = one_origin(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(header(&client.head(), "transfer-encoding"), Some("chunked"));
    assert_eq!(client.until("0\r\n\r\n"), "9\r\nall of it\r\n0\r\n\r\n");
}

#[test]
fn interim_responses() {
    let (_running, port) = one_origin(|peer| {
        while !peer.head().is_empty() {
            peer.send(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            );
            thread::sleep(Duration::from_millis(20));
            peer.send(ok("end"));
        }
    });
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.head();
    assert_eq!((status(&hints), header(&hints, "link")), (103, Some("</a>")));
    assert_eq!(client.response().1, "end");
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(status(&client.head()), 200);
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_one_that_does_not_wait_gets_none() {
    let (_running, port) = one_origin(|peer| {
        loop {
            let head = peer.head();
            let Some(length) = header(&head, "content-length") else { return };
            assert_eq!(header(&head, "expect"), None);
            let body = text(peer.count(length.parse().unwrap()));
            peer.send(ok(&body));
        }
    });
    let request = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = Peer::connect(port);
    client.send(request);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    assert_eq!(client.response().1, "body");
    client.send(format!("{request}more"));
    let (head, body) = client.response();
    assert_eq!((status(&head), body.as_str()), (200, "more"));
}

#[test]
fn an_early_response_ends_the_exchange() {
    let (_running, port) = one_origin(|peer| {
        peer.head();
        peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig");
        peer.more();
    });
    let mut client = Peer::connect(port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin");
    let (head, body) = client.response();
    assert_eq!((status(&head), body.as_str()), (413, "big"));
    assert!(client.is_closed());
}

#[test]
fn upgrades_become_a_tunnel_with_what_was_sent_early() {
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        if header(&head, "upgrade") != Some("echo")
            || header(&head, "connection") != Some("upgrade")
        {
            return peer.send(ok("no upgrade"));
        }
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello ");
        while peer.more() {
            let held = std::mem::take(&mut peer.held);
            peer.send(held);
        }
        peer.send("bye");
    });
    let mut client = Peer::connect(port);
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ");
    let head = client.head();
    assert_eq!(
        (status(&head), header(&head, "upgrade"), header(&head, "connection")),
        (101, Some("echo"), Some("upgrade"))
    );
    assert_eq!(text(client.count(12)), "hello early ");
    let large = "x".repeat(200_000);
    let mut writer = client.stream.try_clone().unwrap();
    let sent = large.clone();
    let sending = thread::spawn(move || std::io::Write::write_all(&mut writer, sent.as_bytes()));
    assert_eq!(text(client.count(large.len())), large);
    sending.join().unwrap().unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "bye");
    // h2c would carry requests past every rule.
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n");
    assert_eq!(client.response().1, "no upgrade");
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let (_running, port) = one_origin(echo_heads);
    let mut client = Peer::connect(port);
    for byte in "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n".bytes() {
        client.send([byte]);
    }
    assert!(client.response().1.starts_with("GET /slow "));
    // PRI is the beginning of the other version, and of this method.
    for piece in ["PR", "I /x HTTP/1.1\r\nHost: a\r\n\r\n"] {
        client.send(piece);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(client.response().1.starts_with("PRI /x "));
}

#[test]
fn a_long_head_and_a_body_behind_it() {
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        let body = text(peer.count(100_000));
        peer.send(ok(&format!("{} {}", head.len(), body.len())));
    });
    let mut client = Peer::connect(port);
    let lines: String = (0..30).map(|n| format!("x-long-{n}: {}\r\n", "v".repeat(1_000))).collect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 100000\r\n\r\n"));
    client.send("b".repeat(100_000));
    let (_, body) = client.response();
    assert!(body.ends_with(" 100000"), "{body}");
}

#[test]
fn a_head_that_was_given_up_leaves_nothing_to_the_next_connection() {
    let (_running, port) = one_origin(echo_heads);
    for _ in 0..10 {
        let mut first = Peer::connect(port);
        first.send("GET /secret HTTP/1.1\r\nHost: a\r\nAuthorization: mine\r\nX-Part");
        thread::sleep(Duration::from_millis(5));
        drop(first);
        thread::sleep(Duration::from_millis(5));
        let seen = Peer::connect(port).get("/open", "b").1;
        assert!(seen.starts_with("GET /open HTTP/1.1\r\nhost: b\r\n"), "{seen}");
        assert!(!seen.contains("mine"), "{seen}");
    }
}

#[test]
fn a_response_without_a_date_gets_one_and_another_keeps_its_own() {
    let (_running, port) = one_origin(|peer| {
        let dated =
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n";
        loop {
            let head = peer.head();
            match &head {
                head if head.is_empty() => return,
                head if head.contains("/dated") => peer.send(dated),
                _ => peer.send(ok("")),
            }
        }
    });
    let mut client = Peer::connect(port);
    let (head, _) = client.get("/dated", "a");
    assert_eq!(header(&head, "date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(head.to_ascii_lowercase().matches("\r\ndate:").count(), 1);
    let (head, _) = client.get("/", "a");
    let date = header(&head, "date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT") && !date.contains(" 1970 "), "{date}");
}

#[test]
fn a_connection_that_will_be_closed_says_so() {
    let origin = Origin::start(|peer| {
        let head = peer.head();
        if head.contains("/early") {
            peer.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
        } else {
            peer.count(4);
            peer.send(ok("whole"));
        }
        peer.more();
    });
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "a", vec![forward("all", "/", "a")])];
    let _running = Running::start(listeners, &facts(&[("a", &[origin.address])]));
    for (path, host, body, expected) in [
        // Answered by the origin before the body was there.
        ("/early", "a", "12", (401, Some("close"))),
        ("/whole", "a", "1234", (200, None)),
        // Answered by the edge, without the body and behind it.
        ("/", "other", "12", (404, Some("close"))),
        ("/", "other", "1234", (404, None)),
    ] {
        let mut client = Peer::connect(port);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\n{body}"
        ));
        let (head, _) = client.response();
        assert_eq!((status(&head), header(&head, "connection")), expected, "{path} {host} {body}");
        match expected.1 {
            Some(_) => assert!(client.is_closed()),
            None => assert_eq!(status(&client.get("/", "other").0), 404),
        }
    }
}

#[test]
fn requests_that_come_while_an_answer_is_awaited_are_answered_in_their_order() {
    const COUNT: usize = 2_000;
    let (_running, port) = one_origin(|peer| {
        loop {
            let head = peer.head();
            if head.contains("/first") {
                thread::sleep(Duration::from_millis(200));
            }
            match head.split(' ').nth(1) {
                Some(path) => peer.send(ok(path)),
                None => return,
            }
        }
    });
    let mut client = Peer::connect(port);
    client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    // More than is read ahead.
    let mut writer = client.stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        for n in 0..COUNT {
            let request = format!("GET /{n} HTTP/1.1\r\nHost: a\r\nX-Long: {:0100}\r\n\r\n", n);
            std::io::Write::write_all(&mut writer, request.as_bytes()).unwrap();
        }
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert_eq!(client.response().1, "/first");
    for n in 0..COUNT {
        assert_eq!(client.response().1, format!("/{n}"));
    }
    sending.join().unwrap();
    assert!(client.is_closed());
}

#[test]
fn a_method_with_a_body_by_habit_is_forwarded_with_a_length() {
    let (_running, port) = one_origin(echo_heads);
    for (method, length) in
        [("POST", Some("0")), ("PUT", Some("0")), ("GET", None), ("DELETE", None)]
    {
        let mut client = Peer::connect(port);
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let (_, seen) = client.response();
        assert_eq!(header(&seen, "content-length"), length, "{seen}");
    }
}
