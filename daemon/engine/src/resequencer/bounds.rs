//! Tests of bounds: memory, time and flows, whatever a peer sends.

use proptest::prelude::*;

use super::*;

fn at(milliseconds: u64) -> Instant {
    Instant::from_millis(milliseconds)
}

fn packet(length: usize) -> Bytes {
    Bytes::from(vec![0x45; length])
}

fn put(resequencer: &mut Resequencer, now: Instant, flow: u32, offset: u32, length: usize) -> bool {
    resequencer
        .receive(
            now,
            FlowId(flow),
            flow != 0,
            offset,
            DataKind::Packet,
            packet(length),
        )
        .expect("a packet")
}

fn fetch(resequencer: &mut Resequencer) -> usize {
    let mut count = 0;
    while let Some(delivery) = resequencer.poll() {
        resequencer.recycle(delivery);
        count += 1;
    }
    count
}

fn check(resequencer: &Resequencer) {
    let found = resequencer.statistics();
    let closed = found.filled + found.timed_out + found.overflowed + found.reset;
    assert_eq!(
        found.gaps,
        closed + resequencer.blocked_flows() as u64,
        "{found:?}"
    );
    assert_eq!(
        resequencer.deadline().is_some(),
        resequencer.held_bytes() > resequencer.ready_bytes,
        "a timer while something waits"
    );
    assert!(resequencer.waiting_bytes + resequencer.reassembly.bytes() <= LIMIT);
    assert!(
        resequencer.ready_bytes <= 2 * LIMIT + (1 << 17),
        "{}",
        resequencer.ready_bytes
    );
    assert!(resequencer.remembered <= REMEMBERED);
}

#[derive(Clone, Debug)]
struct Input {
    flow: u32,
    ordered: bool,
    offset: u32,
    kind: u8,
    numbers: (u16, u16),
    body: Vec<u8>,
    wait: u64,
    fetches: bool,
}

fn any_input() -> impl Strategy<Value = Input> {
    let near = prop_oneof![0..3000u32, Just(u32::MAX), Just(1 << 31), any::<u32>()];
    let place = (0..4u32, prop::bool::weighted(0.9), near, 0..5u8);
    let rest = (
        (0..200u16, 0..200u16),
        proptest::collection::vec(any::<u8>(), 0..90),
        0..30u64,
        any::<bool>(),
    );
    (place, rest).prop_map(
        |((flow, straight, offset, kind), (numbers, body, wait, fetches))| Input {
            flow,
            ordered: (flow != 0) == straight,
            offset,
            kind,
            numbers,
            body,
            wait,
            fetches,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_comes_the_books_are_right_and_nothing_waits_too_long(
        inputs in proptest::collection::vec(any_input(), 1..150),
        hint in any::<(u32, u32)>(),
        flags in any::<(bool, bool)>(),
    ) {
        let mut resequencer = Resequencer::new(1);
        resequencer.set_hold(HoldHint { skew_us: hint.0, repair_us: hint.1 });
        resequencer.set_path_overdue(flags.0);
        resequencer.set_recent_gap(flags.1);
        prop_assert!(resequencer.hold() <= LONGEST_HOLD && resequencer.hold() >= SHORTEST_HOLD);
        let mut now = at(1000);
        for input in inputs {
            let flow = FlowId(input.flow);
            let kind = match input.kind {
                0 => DataKind::Packet,
                1 => DataKind::Fragment { total: input.numbers.0, at: input.numbers.1 },
                2 => DataKind::Segment,
                3 => DataKind::Fragment { total: 200, at: input.numbers.1 },
                _ => {
                    resequencer.skip(now, flow, input.offset, u32::from(input.numbers.0));
                    DataKind::Packet
                }
            };
            let _ = resequencer.receive(now, flow, input.ordered, input.offset, kind, input.body.into());
            check(&resequencer);
            if let Some(deadline) = resequencer.deadline().filter(|_| resequencer.blocked_flows() > 0) {
                prop_assert!(deadline <= now + LONGEST_HOLD, "no hole is waited for longer");
            }
            now += Duration::from_millis(input.wait);
            if resequencer.deadline().is_some_and(|deadline| deadline <= now) {
                resequencer.on_timeout(now);
                prop_assert!(resequencer.deadline().is_none_or(|deadline| deadline > now));
            }
            check(&resequencer);
            if input.fetches {
                fetch(&mut resequencer);
            }
        }
        resequencer.on_timeout(now + LONGEST_HOLD);
        fetch(&mut resequencer);
        prop_assert_eq!((resequencer.waiting_bytes, resequencer.ready_bytes), (0, 0));
        while let Some(deadline) = resequencer.deadline() {
            resequencer.on_timeout(deadline);
        }
        prop_assert_eq!(resequencer.held_bytes(), 0, "nothing stays for ever");
    }
}

#[test]
fn ten_thousand_flows_with_holes_wait_no_longer_and_take_no_more_memory() {
    let mut resequencer = Resequencer::new(1);
    for flow in 1..=10_000 {
        // Of each flow the beginning is missing.
        assert!(put(&mut resequencer, at(0), flow, 100, 500));
        check(&resequencer);
    }
    let hold = resequencer.hold();
    assert_eq!(resequencer.deadline(), Some(at(0) + hold));
    assert!(resequencer.blocked_flows() <= 8192);
    resequencer.on_timeout(at(0) + hold);
    assert_eq!(resequencer.blocked_flows(), 0);
    assert_eq!(fetch(&mut resequencer), 10_000, "nothing that came is lost");
    let found = resequencer.statistics();
    assert_eq!((found.timed_out + found.reset, found.gaps), (10_000, 10_000));
    check(&resequencer);
}

#[test]
fn what_waits_is_bounded_and_the_oldest_hole_goes_first() {
    let mut resequencer = Resequencer::new(1);
    let mut came = 0;
    let mut fetched = 0;
    for index in 0..20_000u32 {
        came += u32::from(put(&mut resequencer, at(1), 1, 100 + index * 1400, 1400));
        check(&resequencer);
        fetched += fetch(&mut resequencer);
    }
    let found = resequencer.statistics();
    assert_eq!((came, found.overflowed, found.refused), (20_000, 1, 0));
    assert_eq!(fetched, 20_000);
}

#[test]
fn who_does_not_fetch_is_refused_more_and_told_not_to_acknowledge_it() {
    let mut resequencer = Resequencer::new(1);
    let take = |resequencer: &mut Resequencer, index: u32| {
        resequencer.receive(
            at(1),
            FlowId(1),
            true,
            index * 1400,
            DataKind::Packet,
            packet(1400),
        )
    };
    let refused = (0..30_000)
        .find(|index| take(&mut resequencer, *index).is_err())
        .expect("a bound");
    let error = take(&mut resequencer, refused).expect_err("still full");
    assert!(error == ContextError::Full && error.forbids_acknowledgement());
    assert_eq!(fetch(&mut resequencer) as u32, refused);
    assert_eq!(
        take(&mut resequencer, refused),
        Ok(true),
        "sent again, it is taken"
    );
}

#[test]
fn a_late_packet_is_delivered_once() {
    let mut resequencer = Resequencer::new(1);
    put(&mut resequencer, at(0), 1, 100, 50);
    resequencer.on_timeout(at(500));
    assert_eq!(fetch(&mut resequencer), 1);
    assert!(put(&mut resequencer, at(600), 1, 0, 100), "late, and new");
    assert_eq!(fetch(&mut resequencer), 1);
    assert!(!put(&mut resequencer, at(700), 1, 0, 100));
    assert_eq!(fetch(&mut resequencer), 0);
    let found = resequencer.statistics();
    assert_eq!((found.late, found.duplicates, found.timed_out), (1, 1, 1));
}

#[test]
fn of_a_packet_that_will_not_be_whole_nothing_is_kept_or_waited_for() {
    let mut resequencer = Resequencer::new(1);
    let fragment = DataKind::Fragment { total: 1000, at: 0 };
    let part = resequencer.receive(at(0), FlowId(1), true, 0, fragment, packet(600));
    assert_eq!(part, Ok(true));
    put(&mut resequencer, at(0), 1, 1000, 50);
    assert_eq!(fetch(&mut resequencer), 0);
    assert!(resequencer.skip(at(1), FlowId(1), 600, 400));
    assert_eq!(fetch(&mut resequencer), 1, "what follows");
    assert_eq!((resequencer.held_bytes(), resequencer.deadline()), (0, None));
    check(&resequencer);
}

#[test]
fn the_parts_of_many_packets_are_kept_until_they_are_whole() {
    let mut resequencer = Resequencer::new(1);
    let part = |resequencer: &mut Resequencer, now, number: u32, from: u16, length: usize| {
        let fragment = DataKind::Fragment {
            total: 1500,
            at: from,
        };
        let offset = number * 1500 + u32::from(from);
        resequencer.receive(now, FlowId(1), true, offset, fragment, packet(length))
    };
    for number in 0..5000 {
        assert_eq!(part(&mut resequencer, at(0), number, 0, 1400), Ok(true));
    }
    check(&resequencer);
    for number in 0..5000 {
        assert_eq!(part(&mut resequencer, at(2500), number, 1400, 100), Ok(true));
    }
    assert_eq!(fetch(&mut resequencer), 5000);
    assert_eq!((resequencer.held_bytes(), resequencer.deadline()), (0, None));
}

#[test]
fn a_skip_closes_a_hole_at_once() {
    let mut resequencer = Resequencer::new(1);
    put(&mut resequencer, at(0), 1, 100, 50);
    assert_eq!(fetch(&mut resequencer), 0);
    assert!(resequencer.skip(at(1), FlowId(1), 0, 100));
    assert_eq!(fetch(&mut resequencer), 1);
    assert_eq!(resequencer.statistics().filled, 1);
    check(&resequencer);
}

#[test]
fn a_proven_loss_is_waited_for_longer_than_an_unproven_one() {
    let mut resequencer = Resequencer::new(1);
    resequencer.set_hold(HoldHint {
        skew_us: 10_000,
        repair_us: 90_000,
    });
    put(&mut resequencer, at(0), 1, 100, 50);
    assert_eq!(resequencer.deadline(), Some(at(14)));
    resequencer.set_recent_gap(true);
    assert_eq!(resequencer.deadline(), Some(at(90)));
    resequencer.set_recent_gap(false);
    resequencer.set_path_overdue(true);
    assert_eq!(resequencer.deadline(), Some(at(90)));
}

#[test]
fn a_flow_that_began_in_an_earlier_life_is_joined_where_it_is() {
    let mut resequencer = Resequencer::new(1);
    for offset in [3_000_000_000u32, 3_000_000_100] {
        assert!(put(&mut resequencer, at(0), 1, offset, 100));
    }
    assert_eq!((fetch(&mut resequencer), resequencer.deadline()), (2, None));
}

#[test]
fn offsets_wrap() {
    let mut resequencer = Resequencer::new(1);
    let first = u32::MAX - 150;
    for index in 0..10u32 {
        assert!(put(
            &mut resequencer,
            at(0),
            1,
            first.wrapping_add(index * 100),
            100
        ));
    }
    assert_eq!((fetch(&mut resequencer), resequencer.statistics().gaps), (10, 0));
}
