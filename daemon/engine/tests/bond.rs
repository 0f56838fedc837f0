//! What users are promised, with both ends in one process.

mod support;

use std::time::Duration;

use sennit_engine::event::Event;
use sennit_engine::ids::{ClientId, WanId};
use sennit_engine::path::state::Condition;
use sennit_engine::settings::Mode;
use sennit_engine::wire::frame::CloseReason;
use support::{Link, Pair, number_of};

const GOOD: Link = Link {
    delay: Duration::from_millis(10),
    lose_every: None,
    silent: false,
};

fn connected(mode: Mode, links: &[Link]) -> Pair {
    let mut pair = Pair::new(mode, links);
    pair.run(Duration::from_millis(500));
    assert!(
        pair.events
            .iter()
            .any(|event| matches!(event, Event::Connected { .. })),
        "{:?}",
        pair.events
    );
    pair
}

/// Sends `count` packets of `size` bytes, one a millisecond, and returns the numbers that arrived, in order.
fn deliver(pair: &mut Pair, count: u32, size: usize) -> Vec<u32> {
    for number in 0..count {
        pair.send_up(number, size);
        pair.run(Duration::from_millis(1));
    }
    pair.run(Duration::from_secs(2));
    pair.at_server.iter().map(|packet| number_of(packet)).collect()
}

#[test]
fn two_paths_carry_packets_in_both_modes() {
    for mode in [Mode::Speed, Mode::Redundant] {
        let mut pair = connected(mode, &[GOOD, GOOD]);
        let mut arrived = deliver(&mut pair, 500, 900);
        arrived.sort_unstable();
        assert_eq!(arrived, (0..500).collect::<Vec<_>>(), "{mode:?}");
    }
}

#[test]
fn a_full_size_packet_takes_two_datagrams_and_arrives_whole() {
    let mut pair = connected(Mode::Speed, &[GOOD]);
    let arrived = deliver(&mut pair, 50, 1500);
    assert_eq!(arrived.len(), 50);
    assert!(pair.at_server.iter().all(|packet| packet.len() == 1500));
}

#[test]
fn a_packet_that_needs_a_whole_datagram_does_not_wait_for_what_would_go_along() {
    let mut pair = connected(Mode::Speed, &[GOOD, GOOD]);
    for size in 1380..=1500 {
        pair.at_server.clear();
        pair.send_up(0, size);
        pair.run(Duration::from_millis(100));
        assert_eq!(pair.at_server.len(), 1, "{size} bytes");
    }
}

#[test]
fn losses_are_repaired() {
    let lossy = Link {
        lose_every: Some(10),
        ..GOOD
    };
    let mut pair = connected(Mode::Speed, &[lossy, GOOD]);
    let mut arrived = deliver(&mut pair, 1000, 900);
    arrived.sort_unstable();
    assert_eq!(arrived, (0..1000).collect::<Vec<_>>());
}

#[test]
fn what_a_far_lossy_path_loses_is_computed_before_a_repair_could_come() {
    let far = Link {
        delay: Duration::from_millis(40),
        lose_every: Some(100),
        silent: false,
    };
    let mut pair = connected(Mode::Speed, &[far]);
    let mut number = 0;
    let mut send = |pair: &mut Pair, packets: u32| {
        for _ in 0..packets {
            pair.send_up(number, 1200);
            number += 1;
            pair.run(Duration::from_micros(400));
        }
        number
    };
    send(&mut pair, 8000);
    // Some 50 of these get lost; a repair would come 80 ms after its packet at the earliest.
    let sent = send(&mut pair, 5000);
    pair.run(Duration::from_millis(40 + 25));
    let arrived: std::collections::BTreeSet<_> =
        pair.at_server.iter().map(|packet| number_of(packet)).collect();
    let missing = (sent - 5000..sent)
        .filter(|number| !arrived.contains(number))
        .count();
    assert!(missing <= 2, "{missing} packets wait for a repair");
    let paths = pair.client.status(pair.now).paths;
    assert!(paths[0].counters.lost > 80, "{:?}", paths[0].counters);
    assert!(paths[0].counters.parity_bytes > 0);
}

#[test]
fn the_silent_death_of_a_path_loses_nothing() {
    for mode in [Mode::Speed, Mode::Redundant] {
        let mut pair = connected(mode, &[GOOD, GOOD]);
        for number in 0..1000 {
            if number == 300 {
                pair.links[0].silent = true;
            }
            pair.send_up(number, 900);
            pair.run(Duration::from_millis(1));
        }
        pair.run(Duration::from_secs(2));
        let mut arrived: Vec<_> = pair.at_server.iter().map(|packet| number_of(packet)).collect();
        arrived.sort_unstable();
        assert_eq!(arrived, (0..1000).collect::<Vec<_>>(), "{mode:?}");
    }
}

#[test]
fn an_outage_of_everything_is_survived() {
    for seconds in [10, 30, 180] {
        let mut pair = connected(Mode::Speed, &[GOOD, GOOD]);
        pair.links.iter_mut().for_each(|link| link.silent = true);
        pair.run(Duration::from_secs(seconds));
        assert!(pair.events.contains(&Event::Disconnected));
        pair.events.clear();
        pair.links.iter_mut().for_each(|link| link.silent = false);
        pair.run(Duration::from_secs(5));
        let told =
            |event: &Event| matches!(event, Event::Connected { addresses, .. } if addresses.len() == 1);
        assert_eq!(
            pair.events.iter().filter(|event| told(event)).count(),
            1,
            "{seconds} s"
        );
        pair.at_server.clear();
        assert_eq!(deliver(&mut pair, 20, 500).len(), 20);
    }
}

#[test]
fn a_goodbye_is_said_once_on_each_path() {
    let mut pair = connected(Mode::Speed, &[GOOD, GOOD]);
    pair.sent = vec![0; 2];
    pair.client.close(CloseReason::Ends);
    pair.run(Duration::from_millis(500));
    assert!(
        pair.sent.iter().all(|sent| (1..10).contains(sent)),
        "{:?}",
        pair.sent
    );
}

#[test]
fn the_server_is_told_over_another_path_that_a_link_is_gone() {
    let mut pair = connected(Mode::Speed, &[GOOD, GOOD]);
    deliver(&mut pair, 200, 1200);
    for removed in [false, true] {
        pair.links[0].silent = true;
        if removed {
            pair.client.remove_wan(pair.now, WanId(0));
        } else {
            pair.client.set_link(pair.now, WanId(0), false);
        }
        // One way and a little: far less than the silence by which the server would know.
        pair.run(GOOD.delay + Duration::from_millis(2));
        let condition = |pair: &Pair| {
            let status = pair
                .server
                .status(pair.now, ClientId(0))
                .expect("it is connected");
            status.paths[0].condition
        };
        assert_eq!(condition(&pair), Condition::Down, "removed: {removed}");
        pair.links[0].silent = false;
        if !removed {
            pair.client.set_link(pair.now, WanId(0), true);
            pair.run(Duration::from_millis(500));
            assert_eq!(condition(&pair), Condition::Active);
        }
    }
}

fn messages(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| match event {
        Event::Control { message } => Some(String::from_utf8_lossy(message).into_owned()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[test]
fn messages_between_the_programs_arrive_once_and_in_order_over_lossy_links() {
    let lossy = Link {
        lose_every: Some(3),
        ..GOOD
    };
    let mut pair = connected(Mode::Speed, &[lossy, GOOD]);
    let sent: Vec<String> = (0..50).map(|number| format!("message {number}")).collect();
    for message in &sent {
        pair.client.send_control(message.as_bytes()).unwrap();
        pair.server.send_control(ClientId(0), message.as_bytes()).unwrap();
        pair.run(Duration::from_millis(5));
    }
    pair.run(Duration::from_secs(2));
    assert_eq!(messages(&pair.events), sent);
    assert_eq!(messages(&pair.server_events), sent);
}

#[test]
fn a_message_outlives_the_path_that_it_was_sent_on() {
    let mut pair = connected(Mode::Speed, &[GOOD, GOOD]);
    pair.client.send_control(b"before").unwrap();
    pair.links[0].silent = true;
    pair.server.send_control(ClientId(0), b"to the client").unwrap();
    pair.client.send_control(b"to the server").unwrap();
    pair.run(Duration::from_secs(3));
    assert_eq!(messages(&pair.events), ["to the client"]);
    assert_eq!(messages(&pair.server_events), ["before", "to the server"]);
}
