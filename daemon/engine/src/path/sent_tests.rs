//! Tests of sent packets: fates, losses, late arrivals, rates, bounds.

use super::*;
use crate::path::delay::PeerClock;
use crate::path::received::Received;

const BYTES: u32 = 1_250;

/// Both ends of a path with a constant delay, without a link model: the test says what arrives.
struct Ends {
    sent: SentPackets<u64>,
    received: Received,
    rtt: RttEstimator,
    delay: DelayEstimator,
    acked: Vec<Sent<u64>>,
    lost: Vec<Sent<u64>>,
}

impl Ends {
    fn new() -> Self {
        Self {
            sent: SentPackets::new(PathId(3)),
            received: Received::new(PathId(3)),
            rtt: RttEstimator::new(),
            delay: DelayEstimator::new(&PeerClock::new()),
            acked: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn send(&mut self, now: Instant) -> u64 {
        let number = self.sent.next_number();
        self.sent.on_sent(now, number, BYTES, true, false, number);
        number
    }

    fn ack(&mut self, made: Instant, now: Instant) -> AckOutcome {
        let mut frame = self.received.frame(made).unwrap();
        self.received.told(made);
        // As it comes over the wire: the low 32 bits only.
        let low = frame.largest & 0xffff_ffff;
        assert_eq!(frame.largest, low);
        frame.largest = low;
        let Self {
            sent,
            rtt,
            delay,
            acked,
            lost,
            ..
        } = self;
        sent.on_ack(now, &frame, true, rtt, delay, acked, lost)
    }
}

fn us(microseconds: u64) -> Instant {
    Instant::from_nanos(microseconds * 1_000)
}

#[test]
fn every_packet_has_one_fate_and_in_flight_is_what_is_open() {
    let mut state: u64 = 11;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..50 {
        let mut ends = Ends::new();
        let mut fates = std::collections::BTreeMap::new();
        let mut on_the_way: Vec<(u64, u64)> = Vec::new();
        for step in 0..2_000u64 {
            let number = ends.send(us(step * 500));
            if random(100) >= 5 {
                let late = if random(100) < 3 { random(60_000) } else { 0 };
                on_the_way.push((step * 500 + 10_000 + late, number));
            }
            let now = step * 500;
            on_the_way.retain(|&(at, number)| {
                let arrives = at <= now;
                if arrives {
                    ends.received.record(us(at), number, true, false);
                }
                !arrives
            });
            if step % 7 == 0 && step > 40 {
                ends.ack(us(now), us(now + 1));
            }
            for packet in ends.acked.drain(..) {
                let before = fates.insert(packet.number, true);
                assert_eq!(before, packet.was_lost.then_some(false));
                assert_eq!(packet.contents, packet.number);
            }
            for packet in ends.lost.drain(..) {
                assert_eq!(fates.insert(packet.number, false), None);
            }
            let open = ends.sent.next_number() - fates.len() as u64;
            assert_eq!(ends.sent.in_flight(), open * u64::from(BYTES));
            let mut shown = 0;
            ends.sent.for_each_unacknowledged(us(now), |number, _, contents| {
                assert_eq!(number, *contents);
                assert!(!fates.contains_key(&number));
                shown += 1;
            });
            assert_eq!(shown, open);
        }
        ends.sent.take_all(us(2_000_000), &mut ends.lost);
        assert_eq!(ends.lost.len() + fates.len(), 2_000);
        assert_eq!(
            (ends.sent.in_flight(), ends.sent.oldest_unacknowledged()),
            (0, None)
        );
    }
}

#[test]
fn three_later_packets_prove_a_loss_until_the_path_reorders() {
    let mut ends = Ends::new();
    for _ in 0..5 {
        ends.send(us(0));
    }
    for number in [0, 2, 3, 4] {
        ends.received.record(us(10_000), number, true, false);
    }
    let outcome = ends.ack(us(10_000), us(20_000));
    assert_eq!(outcome.lost_bytes, u64::from(BYTES));
    assert_eq!(ends.lost[0].number, 1);
    // It was only late.
    ends.received.record(us(11_000), 1, true, false);
    let outcome = ends.ack(us(11_000), us(21_000));
    assert_eq!(
        (outcome.spurious, outcome.newly_acked_bytes),
        (1, u64::from(BYTES))
    );
    assert!(ends.acked.last().unwrap().was_lost);
    assert_eq!(ends.sent.in_flight(), 0);
    // Now only time counts.
    ends.lost.clear();
    for _ in 0..6 {
        ends.send(us(30_000));
    }
    for number in 6..=10 {
        ends.received.record(us(40_000), number, true, false);
    }
    ends.ack(us(40_000), us(50_000));
    assert!(ends.lost.is_empty());
    let due = ends.sent.loss_deadline().unwrap();
    assert!(due > us(50_000) && due <= us(70_000));
    ends.sent.detect_losses(due, &ends.rtt, &mut ends.lost);
    assert_eq!(ends.lost.len(), 1);
    assert_eq!(ends.sent.loss_deadline(), None);
}

#[test]
fn the_rate_is_that_of_arrival_however_acknowledgements_bunch() {
    // A link of 10 Mbit/s: a packet of 1,250 bytes a millisecond. Sent at 20 Mbit/s. Acknowledgements come every 30 ms.
    let mut ends = Ends::new();
    let mut rates = Vec::new();
    let mut now = 0;
    for number in 0..200u64 {
        ends.send(us(number * 500));
        let arrived = (number * 500).saturating_sub(10_000) / 1_000;
        if number % 60 == 59 {
            for arrival in 0..arrived {
                if ends.received.largest().is_none_or(|largest| arrival > largest) {
                    ends.received
                        .record(us(10_000 + arrival * 1_000), arrival, true, false);
                }
            }
            now = number * 500 + 10_000;
            if let Some(sample) = ends.ack(us(number * 500), us(now)).rate_sample {
                rates.push(sample.rate.0);
            }
        }
    }
    assert!(now > 0);
    let last = *rates.last().unwrap();
    assert!((1_200_000..=1_300_000).contains(&last), "{rates:?}");
}

#[test]
fn too_little_to_send_is_told() {
    let mut ends = Ends::new();
    let mut limited = Vec::new();
    for number in 0..40u64 {
        let number_sent = ends.sent.next_number();
        ends.sent.on_sent(
            us(number * 1_000),
            number_sent,
            BYTES,
            true,
            number == 10,
            number_sent,
        );
        ends.received
            .record(us(number * 1_000 + 5_000), number_sent, true, false);
        let outcome = ends.ack(us(number * 1_000 + 5_000), us(number * 1_000 + 5_001));
        limited.push(outcome.rate_sample.unwrap().app_limited);
    }
    assert!(limited[11]);
    assert!(!limited[9] && !limited[20]);
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut ends = Ends::new();
    ends.send(us(0));
    let mut forged = Received::new(PathId(3));
    forged.record(us(1), 5, true, false);
    let frame = forged.frame(us(1)).unwrap();
    let Ends {
        sent,
        rtt,
        delay,
        acked,
        lost,
        ..
    } = &mut ends;
    assert!(sent.on_ack(us(2), &frame, true, rtt, delay, acked, lost).invalid);
    let mut other = Received::new(PathId(4));
    other.record(us(1), 0, true, false);
    let frame = other.frame(us(1)).unwrap();
    assert!(sent.on_ack(us(2), &frame, true, rtt, delay, acked, lost).invalid);
    assert_eq!(sent.in_flight(), u64::from(BYTES));
}

#[test]
fn a_copy_of_the_acknowledgement_on_another_path_spoils_no_round_trip() {
    let mut ends = Ends::new();
    ends.send(us(0));
    ends.received.record(us(10_000), 0, true, false);
    let frame = ends.received.frame(us(10_000)).unwrap();
    let Ends {
        sent,
        rtt,
        delay,
        acked,
        lost,
        ..
    } = &mut ends;
    sent.on_ack(us(12_000), &frame, false, rtt, delay, acked, lost);
    assert!(!rtt.is_measured());
    assert!(delay.current().is_some());
    sent.on_ack(us(20_000), &frame, true, rtt, delay, acked, lost);
    assert_eq!(rtt.latest(), Duration::from_millis(20));
    assert_eq!(acked.len(), 1);
}

#[test]
fn memory_does_not_grow_with_time_or_losses() {
    let mut ends = Ends::new();
    for number in 0..300_000u64 {
        assert!(!ends.sent.is_full());
        ends.send(us(number * 100));
        if number % 10 != 0 {
            ends.received.record(us(number * 100), number, true, false);
        }
        if number % 16 == 15 {
            ends.ack(us(number * 100), us(number * 100 + 50));
            ends.acked.clear();
            ends.lost.clear();
            if let Some(old) = number.checked_sub(100) {
                ends.received.on_ack_of_ack(old);
            }
        }
    }
    assert!(ends.sent.slots.len() < 200 && ends.sent.late.len() <= MOST_LATE + 1);
}

#[test]
fn acknowledgements_alone_fill_nothing() {
    let mut sent = SentPackets::<()>::new(PathId(0));
    for number in 0..100_000u64 {
        sent.on_sent(us(number * 20), number, 80, false, false, ());
        assert!(!sent.is_full());
    }
    assert_eq!((sent.in_flight(), sent.oldest_unacknowledged()), (0, None));
}

#[test]
fn acknowledgements_of_any_content_do_no_harm() {
    let mut state: u64 = 5;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 20) % below
    };
    for _ in 0..300 {
        let mut ends = Ends::new();
        for step in 0..200u64 {
            for _ in 0..random(8) {
                ends.send(us(step * 1_000));
            }
            // Ranges below a truncated number, as a peer with our keys could write them: any size, any distance.
            let largest = random(2 * ends.sent.next_number() + 2);
            let mut ranges = AckRanges::new();
            let mut below = Some(largest);
            while let Some(end) = below {
                let start = end.saturating_sub(random(40));
                if !ranges.push(start, end) {
                    break;
                }
                below = start.checked_sub(2 + random(9));
            }
            let frame = AckFrame {
                path: PathId(3),
                largest: largest & 0xffff_ffff,
                received_at: random(1 << 32) as u32,
                delay: Duration::from_micros(random(1 << 40)),
                ecn_ce: random(1 << 32) as u32,
                ranges,
            };
            let Ends {
                sent,
                rtt,
                delay,
                acked,
                lost,
                ..
            } = &mut ends;
            let before = sent.in_flight();
            let outcome = sent.on_ack(
                us(step * 1_000 + 500),
                &frame,
                random(2) == 0,
                rtt,
                delay,
                acked,
                lost,
            );
            assert_eq!(outcome.invalid, largest >= sent.next_number());
            let fresh = outcome.newly_acked_bytes - outcome.spurious_bytes;
            assert_eq!(sent.in_flight() + fresh + outcome.lost_bytes, before);
            assert!(delay.queue() < Duration::from_secs(10_000));
            assert!(rtt.smoothed() <= Duration::from_secs(1));
        }
        let open = ends.sent.next_number()
            - (ends.acked.iter().filter(|packet| !packet.was_lost).count() + ends.lost.len()) as u64;
        assert_eq!(ends.sent.in_flight(), open * u64::from(BYTES));
    }
}
