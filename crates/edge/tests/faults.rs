//! Endpoints that fail beside one that does not: what is tried again, what is not, and who is taken out.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::edge::{Action, Backend, Listener, Protocol, Rule, Target};
use model::traffic::{
    Algorithm, BackendLimits, BackendPolicy, Balance, ConnectionPool, Ejection, HashKey, Retry,
    RetryBudget,
};
use model::{Facts, Node};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn with_policy(policy: BackendPolicy) -> Rule {
    let backend = Backend {
        policy: Some(Node::new(policy)),
        ..Backend::plain(1, Target::Service(service("a")))
    };
    rule("all", "/", Action::Forward(vec![backend]))
}

fn at(port: u16, rule: Rule) -> Vec<Listener> {
    vec![listener(port, Protocol::Http, "", vec![rule])]
}

fn of(addresses: &[SocketAddr]) -> Facts {
    facts(&[("a", addresses)])
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// Statuses of `count` requests, each on a connection of its own.
fn statuses(port: u16, request: &str, count: usize) -> Vec<u16> {
    (0..count)
        .map(|_| {
            let mut peer = Peer::connect(port);
            peer.send(request);
            status(&peer.response().0)
        })
        .collect()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

/// What an origin does on each connection.
type Script = fn(&mut Peer);

fn slammed(peer: &mut Peer) {
    peer.head();
}

fn rubbish(peer: &mut Peer) {
    peer.head();
    peer.send("HTTP/1.1 twohundred OK\r\n\r\n");
}

fn frozen(peer: &mut Peer) {
    while !peer.head().is_empty() {}
}

fn cut_head(peer: &mut Peer) {
    peer.head();
    peer.send("HTTP/1.1 200 OK\r\ncontent-le");
}

#[test]
fn a_get_succeeds_while_a_healthy_peer_is_left_and_the_other_is_taken_out() {
    let faults: [(&str, Option<Script>); 5] = [
        ("refuses", None),
        ("closes", Some(slammed)),
        ("talks rubbish", Some(rubbish)),
        ("cuts its head off", Some(cut_head)),
        ("freezes", Some(frozen)),
    ];
    for (name, script) in faults {
        let good = Origin::start(says("fine"));
        let bad = script.map_or_else(nobody, |script| Origin::start(script).address);
        let port = free_port();
        let mut rule = with_policy(BackendPolicy {
            ejection: Ejection { consecutive_failures: 3, ..Ejection::default() },
            ..BackendPolicy::default()
        });
        rule.timeouts.backend_request = Some(Duration::from_millis(100));
        let running = Running::start(at(port, rule), &of(&[good.address, bad]));
        let live = &running.registry.live;
        let mut requests = 0;
        while live.out().is_empty() {
            requests += 1;
            assert!(requests < 200, "{name}: nothing was taken out");
            assert_eq!(statuses(port, GET, 1), [200], "{name}");
        }
        let out: Vec<SocketAddr> = live.out().iter().map(|out| out.address).collect();
        assert_eq!(out, [bad], "{name}");
        assert_eq!(statuses(port, GET, 20), [200; 20], "{name}");
    }
}

/// What did not come in time counts as slow, by how long it was waited for.
#[test]
fn by_latency_an_endpoint_that_froze_once_is_not_asked_again_soon() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let good = Origin::start(says("fine"));
    let bad = Origin::start(move |peer| {
        count.fetch_add(1, Ordering::Relaxed);
        frozen(peer);
    });
    let port = free_port();
    let mut rule = with_policy(BackendPolicy {
        balance: Balance { algorithm: Algorithm::PeakEwma, ..Balance::default() },
        ejection: Ejection { consecutive_failures: 0, ..Ejection::default() },
        ..BackendPolicy::default()
    });
    rule.timeouts.backend_request = Some(Duration::from_millis(200));
    let _running = Running::start(at(port, rule), &of(&[good.address, bad.address]));
    for _ in 0..200 {
        assert_eq!(statuses(port, GET, 1), [200]);
        if seen.load(Ordering::Relaxed) > 0 {
            break;
        }
    }
    assert_eq!(statuses(port, GET, 20), [200; 20]);
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

#[test]
fn a_post_reaches_an_origin_at_most_once() {
    for (script, expected) in [(slammed as Script, 502), (rubbish, 502), (cut_head, 502)] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let counted = Origin::start(move |peer| {
            count.fetch_add(1, Ordering::Relaxed);
            script(peer);
        });
        let port = free_port();
        let policy = BackendPolicy {
            ejection: Ejection { consecutive_failures: 0, ..Ejection::default() },
            ..BackendPolicy::default()
        };
        let _running =
            Running::start(at(port, with_policy(policy)), &of(&[counted.address, nobody()]));
        // The one where nobody listens takes nothing, so those are sent on: nothing was sent to it.
        assert_eq!(statuses(port, POST, 12), [expected; 12]);
        assert_eq!(seen.load(Ordering::Relaxed), 12);
    }
}

#[test]
fn statuses_are_tried_again_where_the_route_asks_for_it_and_as_often() {
    let busy = Origin::start(|peer| {
        while !peer.head().is_empty() {
            peer.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = Origin::start(says("fine"));
    let retry = |attempts, codes: &[u16]| {
        let retry = Retry {
            attempts,
            codes: codes.to_vec(),
            backoff: Some(Duration::from_millis(1)),
            per_try_timeout: None,
            hedge_after: None,
        };
        let mut rule = forward("all", "/", "a");
        rule.retry = Some(Box::new(retry));
        rule
    };
    let port = free_port();
    let running = Running::start(at(port, retry(1, &[503])), &of(&[busy.address, good.address]));
    assert_eq!(statuses(port, GET, 20), [200; 20]);
    let body = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for (rule, request, origins) in [
        (retry(1, &[502]), GET, vec![busy.address]),
        (retry(0, &[503]), GET, vec![busy.address]),
        (retry(3, &[503]), GET, vec![busy.address]),
        (retry(3, &[503]), POST, vec![busy.address]),
        (retry(3, &[503]), body, vec![busy.address]),
    ] {
        running.publish(at(port, rule), &of(&origins));
        assert_eq!(statuses(port, request, 3), [503; 3], "the last answer is passed on");
    }
}

#[test]
fn without_time_for_another_attempt_the_answer_is_passed_on() {
    let busy = Origin::start(|peer| {
        while !peer.head().is_empty() {
            peer.send("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy");
        }
    });
    let mut rule = forward("all", "/", "a");
    rule.timeouts.request = Some(Duration::from_secs(5));
    rule.retry = Some(Box::new(Retry {
        attempts: 3,
        codes: vec![503],
        backoff: Some(Duration::from_secs(60)),
        per_try_timeout: None,
        hedge_after: None,
    }));
    let port = free_port();
    let _running = Running::start(at(port, rule), &of(&[busy.address]));
    let mut peer = Peer::connect(port);
    peer.send(GET);
    let (head, body) = peer.response();
    assert_eq!((status(&head), body.as_str()), (503, "busy"), "the origin's own, not the edge's");
}

/// The client has seen nothing of it: it gets an answer that says what happened, or that of another endpoint.
#[test]
fn a_malformed_body_behind_a_good_head_is_502_while_nothing_was_sent() {
    let healthy = Origin::start(|peer| {
        while !peer.head().is_empty() {
            peer.send(ok("whole"));
        }
    });
    for rest in [
        "transfer-encoding: chunked\r\n\r\n5\r\nshort\r\nrubbish\r\n",
        "transfer-encoding: chunked\r\n\r\nrubbish\r\n",
    ] {
        let bad = Origin::start(move |peer| {
            peer.head();
            peer.send(format!("HTTP/1.1 200 OK\r\n{rest}"));
        });
        let port = free_port();
        let running = Running::start(at(port, forward("all", "/", "a")), &of(&[bad.address]));
        let mut client = Peer::connect(port);
        client.send(POST);
        let (head, body) = client.response();
        assert_eq!(status(&head), 502, "{head}");
        assert!(body.contains("no usable response"), "{body}");
        drop(running);
        let port = free_port();
        let _running = Running::start(
            at(port, forward("all", "/", "a")),
            &of(&[bad.address, healthy.address]),
        );
        for _ in 0..4 {
            let mut client = Peer::connect(port);
            client.send(GET);
            let (head, body) = client.response();
            assert_eq!((status(&head), body.as_str()), (200, "whole"));
        }
    }
}

#[test]
fn a_cut_body_is_never_passed_off_as_whole() {
    for rest in
        ["content-length: 10\r\n\r\nshort", "transfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"]
    {
        let (_running, port) = one_origin(move |peer| {
            peer.head();
            peer.send(format!("HTTP/1.1 200 OK\r\n{rest}"));
        });
        let mut client = Peer::connect(port);
        client.send(GET);
        let head = client.head();
        if head.is_empty() {
            // Closed before anything was sent: nothing is taken for a response.
            continue;
        }
        if status(&head) == 502 {
            // Found before the head was sent.
            continue;
        }
        assert_eq!(status(&head), 200);
        let body = client.rest();
        let is_whole = match header(&head, "content-length") {
            Some(length) => body.len() == length.parse::<usize>().unwrap(),
            None => body.ends_with("0\r\n\r\n"),
        };
        assert!(!is_whole, "{head}{body}");
    }
}

#[test]
fn a_limit_of_requests_holds_and_is_given_back() {
    let (arrived, arrivals) = channel();
    let origin = Origin::start(move |peer| {
        while !peer.head().is_empty() {
            arrived(());
            // Answers when the test says so, on any connection.
            peer.count(1);
            peer.send(ok("fine"));
        }
    });
    let port = free_port();
    let policy = BackendPolicy {
        limits: BackendLimits { requests: Some(2), ..BackendLimits::default() },
        ..BackendPolicy::default()
    };
    let _running = Running::start(at(port, with_policy(policy)), &of(&[origin.address]));
    let begin = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    let mut held: Vec<Peer> = (0..2)
        .map(|_| {
            let mut peer = Peer::connect(port);
            peer.send(begin);
            peer
        })
        .collect();
    (0..2).for_each(|_| arrivals.recv_timeout(PATIENCE).unwrap());
    let mut refused = Peer::connect(port);
    refused.send(GET);
    assert!(refused.response().1.contains("as many requests as it may have"));
    for peer in &mut held {
        peer.send("x");
        assert_eq!(status(&peer.response().0), 200);
    }
    let mut peer = Peer::connect(port);
    peer.send(begin);
    peer.send("x");
    assert_eq!(status(&peer.response().0), 200, "there is room again");
}

#[test]
fn a_limit_of_connections_holds_and_idle_ones_make_room() {
    let (arrived, arrivals) = channel();
    let arrived = Arc::new(arrived);
    let origins: Vec<Origin> = (0..2)
        .map(|_| {
            let arrived = Arc::clone(&arrived);
            Origin::start(move |peer| {
                while !peer.head().is_empty() {
                    arrived(());
                    peer.count(1);
                    peer.send(ok("fine"));
                }
            })
        })
        .collect();
    let port = free_port();
    let policy = BackendPolicy {
        balance: Balance { algorithm: Algorithm::RoundRobin, ..Balance::default() },
        limits: BackendLimits { connections: Some(1), ..BackendLimits::default() },
        ..BackendPolicy::default()
    };
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let running = Running::start(at(port, with_policy(policy)), &of(&addresses));
    let begin = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    let mut first = Peer::connect(port);
    first.send(begin);
    arrivals.recv_timeout(PATIENCE).unwrap();
    let mut refused = Peer::connect(port);
    refused.send(GET);
    assert_eq!(status(&refused.response().0), 503);
    first.send("x");
    assert_eq!(status(&first.response().0), 200);
    // The turn is the other endpoint's, and its connection takes the place of the idle one.
    for _ in 0..4 {
        let mut peer = Peer::connect(port);
        peer.send(begin);
        peer.send("x");
        assert_eq!(status(&peer.response().0), 200);
    }
    assert!(running.views.current().live().out().is_empty(), "a limit is no fault of an endpoint");
}

#[test]
fn a_rival_answers_where_the_first_is_slow_and_posts_get_none() {
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&asked);
    let slow = Origin::start(move |peer| {
        while !peer.head().is_empty() {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(2));
            peer.send(ok("slow"));
        }
    });
    let fast = Origin::start(says("fast"));
    let port = free_port();
    let hedge_after = Some(Duration::from_millis(50));
    let retry =
        Retry { attempts: 1, codes: vec![], backoff: None, per_try_timeout: None, hedge_after };
    let rule = Rule {
        retry: Some(Box::new(retry)),
        ..with_policy(BackendPolicy {
            balance: Balance { algorithm: Algorithm::RoundRobin, ..Balance::default() },
            ..BackendPolicy::default()
        })
    };
    let running = Running::start(at(port, rule), &of(&[slow.address, fast.address]));
    let bodies = |request: &str| -> Vec<String> {
        let each = (0..4).map(|_| {
            let mut peer = Peer::connect(port);
            peer.send(request);
            peer.response().1
        });
        each.collect()
    };
    assert_eq!(bodies(GET), ["fast"; 4]);
    assert!(asked.load(Ordering::Relaxed) >= 1, "the slow one had its turn");
    assert!(bodies(POST).contains(&"slow".to_owned()));
    assert!(running.views.current().live().out().is_empty(), "to be slower is no failure");
}

fn hedged(after: Duration, codes: &[u16], policy: BackendPolicy) -> Rule {
    let retry = Retry {
        attempts: 1,
        codes: codes.to_vec(),
        backoff: None,
        per_try_timeout: None,
        hedge_after: Some(after),
    };
    let balance = Balance { algorithm: Algorithm::RoundRobin, ..Balance::default() };
    let policy = BackendPolicy { balance, ..policy };
    Rule { retry: Some(Box::new(retry)), ..with_policy(policy) }
}

/// The time to connect is for that alone.
#[test]
fn a_rival_may_answer_after_more_than_the_time_to_connect() {
    let late = Origin::start(|peer| {
        while !peer.head().is_empty() {
            std::thread::sleep(Duration::from_millis(1_200));
            peer.send(ok("late"));
        }
    });
    let silent = Origin::start(frozen);
    let connect_timeout = Some(Duration::from_millis(300));
    let pool = ConnectionPool { connect_timeout, ..ConnectionPool::default() };
    let policy = BackendPolicy { pool, ..BackendPolicy::default() };
    let port = free_port();
    let rule = hedged(Duration::from_millis(50), &[], policy);
    let _running = Running::start(at(port, rule), &of(&[late.address, silent.address]));
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::connect(port)).collect();
    peers.iter_mut().for_each(|peer| peer.send(GET));
    for peer in &mut peers {
        assert_eq!(peer.response().1, "late");
    }
}

#[test]
fn a_status_is_tried_again_where_there_may_be_a_rival_too() {
    let busy = Origin::start(|peer| {
        while !peer.head().is_empty() {
            peer.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = Origin::start(says("fine"));
    let port = free_port();
    let rule = hedged(Duration::from_secs(5), &[503], BackendPolicy::default());
    let _running = Running::start(at(port, rule), &of(&[busy.address, good.address]));
    assert_eq!(statuses(port, GET, 10), [200; 10]);
}

/// Closes with a reset: a client that only ends its side still waits for the response.
fn leave(peer: Peer) {
    socket2::SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_client_that_leaves_is_noticed_before_there_is_a_rival() {
    let (arrived, arrivals) = channel();
    let silent = Origin::start(move |peer| {
        peer.head();
        arrived("asked");
        assert!(peer.is_closed());
        arrived("let go");
    });
    let port = free_port();
    let rule = hedged(Duration::from_secs(60), &[], BackendPolicy::default());
    let _running = Running::start(at(port, rule), &of(&[silent.address, nobody()]));
    let mut peer = Peer::connect(port);
    peer.send(GET);
    assert_eq!(arrivals.recv_timeout(PATIENCE).unwrap(), "asked");
    leave(peer);
    assert_eq!(arrivals.recv_timeout(PATIENCE).unwrap(), "let go");
}

#[test]
fn a_client_that_leaves_in_a_pause_gives_its_place_back() {
    let (arrived, arrivals) = channel();
    let busy = Origin::start(move |peer| {
        while !peer.head().is_empty() {
            peer.send("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy");
            arrived(());
        }
    });
    let limits = BackendLimits { requests: Some(1), ..BackendLimits::default() };
    let retry = Retry {
        attempts: 3,
        codes: vec![503],
        backoff: Some(Duration::from_secs(60)),
        per_try_timeout: None,
        hedge_after: None,
    };
    let rule = Rule {
        retry: Some(Box::new(retry)),
        ..with_policy(BackendPolicy { limits, ..BackendPolicy::default() })
    };
    let port = free_port();
    let _running = Running::start(at(port, rule), &of(&[busy.address]));
    let mut peer = Peer::connect(port);
    peer.send(GET);
    arrivals.recv_timeout(PATIENCE).unwrap();
    let refused = |port| {
        let mut peer = Peer::connect(port);
        peer.send(POST);
        peer.response().1.contains("as many requests as it may have")
    };
    eventually(|| refused(port));
    leave(peer);
    // A POST is not tried again: its answer is the origin's own.
    eventually(|| !refused(port));
}

/// Two of three talk rubbish, and one of them is kept in: GETs do not come to an end of their budget for it.
#[test]
fn gets_go_on_where_more_fail_than_may_be_out() {
    let good = Origin::start(says("fine"));
    let bad = [Origin::start(rubbish), Origin::start(rubbish)];
    let port = free_port();
    let policy = BackendPolicy {
        budget: RetryBudget { percent: 0, min_per_second: 4, ..RetryBudget::default() },
        ..BackendPolicy::default()
    };
    let addresses = [bad[0].address, good.address, bad[1].address];
    let running = Running::start(at(port, with_policy(policy)), &of(&addresses));
    assert_eq!(statuses(port, GET, 300), [200; 300]);
    assert_eq!(running.registry.live.out().len(), 1);
    let text = edge::render_metrics(&running.registry);
    assert!(text.lines().any(|line| line == retries_refused(port, "budget", 0)), "{text}");
}

#[test]
fn retries_that_the_budget_or_the_limit_refuses_are_counted() {
    let none = RetryBudget { percent: 0, min_per_second: 0, ..RetryBudget::default() };
    let no_place = BackendLimits { retries: Some(0), ..BackendLimits::default() };
    for (budget, limits, reason) in
        [(none, BackendLimits::default(), "budget"), (RetryBudget::default(), no_place, "limit")]
    {
        let bad = [Origin::start(rubbish), Origin::start(rubbish)];
        let port = free_port();
        let policy = BackendPolicy { budget, limits, ..BackendPolicy::default() };
        let addresses = bad.each_ref().map(|origin| origin.address);
        let running = Running::start(at(port, with_policy(policy)), &of(&addresses));
        assert_eq!(statuses(port, GET, 3), [502; 3]);
        let text = edge::render_metrics(&running.registry);
        for each in ["budget", "limit"] {
            let count = if each == reason { 3 } else { 0 };
            let sample = retries_refused(port, each, count);
            assert!(text.lines().any(|line| line == sample), "{sample}: {text}");
        }
    }
}

fn retries_refused(port: u16, reason: &str, count: usize) -> String {
    let route = format!("route=\"HTTPRoute test/any-{port}\"");
    format!("cutwater_upstream_retries_refused_total{{{route},reason=\"{reason}\"}} {count}")
}

#[test]
fn a_key_leads_to_one_endpoint() {
    let origins: Vec<Origin> = ["one", "two", "three"].map(|name| Origin::start(says(name))).into();
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let port = free_port();
    let hash = HashKey::Header("x-user".into());
    let policy = BackendPolicy {
        balance: Balance { algorithm: Algorithm::ConsistentHash(hash), ..Balance::default() },
        ..BackendPolicy::default()
    };
    let _running = Running::start(at(port, with_policy(policy)), &of(&addresses));
    let mut peer = Peer::connect(port);
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..40 {
        let bodies: std::collections::BTreeSet<String> = (0..6)
            .map(|_| {
                peer.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n"));
                peer.response().1
            })
            .collect();
        assert_eq!(bodies.len(), 1, "user {user}: {bodies:?}");
        seen.extend(bodies);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn without_room_for_a_retry_the_first_failure_is_answered() {
    let (good, bad) = (Origin::start(says("fine")), Origin::start(slammed));
    let with_room = |retries| BackendPolicy {
        limits: BackendLimits { retries, ..BackendLimits::default() },
        ejection: Ejection { consecutive_failures: 0, ..Ejection::default() },
        ..BackendPolicy::default()
    };
    let port = free_port();
    let endpoints = of(&[good.address, bad.address]);
    let running = Running::start(at(port, with_policy(with_room(Some(0)))), &endpoints);
    let seen = statuses(port, GET, 30);
    assert!(seen.contains(&502) && seen.contains(&200), "{seen:?}");
    running.publish(at(port, with_policy(with_room(Some(1)))), &endpoints);
    assert_eq!(statuses(port, GET, 30), [200; 30], "the place is given back");
}
