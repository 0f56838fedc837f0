//! A server that is started again, planned or not: how soon its client is back, and what it kept.

mod support;

use std::time::Duration;

use sennit_engine::event::Event;
use sennit_engine::settings::Mode;
use sennit_engine::wire::frame::CloseReason;
use support::{Link, Pair, number_of};

const GOOD: Link = Link {
    delay: Duration::from_millis(10),
    lose_every: None,
    silent: false,
};

fn connected() -> Pair {
    let mut pair = Pair::new(Mode::Speed, &[GOOD, GOOD]);
    pair.run(Duration::from_millis(500));
    for number in 0..100 {
        pair.send_up(number, 500);
        pair.run(Duration::from_millis(2));
    }
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.at_server.len(), 100);
    pair.at_server.clear();
    pair.events.clear();
    pair
}

#[test]
fn what_waits_for_a_server_that_restarts_is_kept_and_arrives_at_once() {
    let mut pair = connected();
    pair.server.close(CloseReason::Restarts);
    pair.run(GOOD.delay * 2);
    assert!(
        pair.events.contains(&Event::PeerLeft(CloseReason::Restarts)),
        "{:?}",
        pair.events
    );
    for link in &mut pair.links {
        link.silent = true;
    }
    for number in 0..50 {
        pair.send_up(number, 500);
        pair.run(Duration::from_millis(10));
    }
    assert!(pair.at_server.is_empty());
    pair.restart_server(7);
    for link in &mut pair.links {
        link.silent = false;
    }
    let back = pair.now;
    while pair.at_server.len() < 50 && pair.now.since(back) < Duration::from_secs(2) {
        pair.run(Duration::from_millis(1));
    }
    // The next repetition of the handshake, its answer, and two more round trips that prove the paths.
    let away = pair.now.since(back);
    assert!(away < Duration::from_millis(80) + GOOD.delay * 7, "{away:?}");
    let mut arrived: Vec<_> = pair.at_server.iter().map(|packet| number_of(packet)).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, (0..50).collect::<Vec<_>>());
    assert!(
        pair.events
            .iter()
            .any(|event| matches!(event, Event::Connected { resumed: false, .. })),
        "{:?}",
        pair.events
    );
}

#[test]
fn a_server_that_was_killed_is_found_again_before_the_connection_counts_as_lost() {
    let mut pair = connected();
    pair.restart_server(7);
    let killed = pair.now;
    let mut number = 0;
    while pair.at_server.is_empty() {
        pair.send_up(number, 500);
        pair.run(Duration::from_millis(5));
        number += 1;
        assert!(
            pair.now.since(killed) < Duration::from_secs(2),
            "{:?}",
            pair.events
        );
    }
    let away = pair.now.since(killed);
    assert!(away < Duration::from_millis(450), "{away:?}");
    assert!(!pair.events.contains(&Event::Disconnected), "{:?}", pair.events);
}
