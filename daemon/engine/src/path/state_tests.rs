//! Tests of the path's state machine: death, stalls, flapping, jitter.

use super::*;

const MS: Duration = Duration::from_millis(1);
const ACK_DELAY: Duration = Duration::from_millis(5);

fn ms(milliseconds: u64) -> Instant {
    Instant::from_millis(milliseconds)
}

fn steady(rtt_ms: u64) -> RttEstimator {
    let mut rtt = RttEstimator::new();
    for step in 0..100 {
        rtt.update(Duration::from_millis(rtt_ms), Duration::ZERO, ms(step));
    }
    rtt
}

/// Probes and answers until the path is active; returns when.
fn validate(path: &mut PathState, mut now: Instant, rtt: &RttEstimator) -> Instant {
    for _ in 0..100_000 {
        if path.wants_probe(now) {
            let sent = now;
            path.on_probe_sent(sent, rtt);
            now += rtt.smoothed();
            if path.on_acked(now, sent, rtt).is_some() {
                return now;
            }
        }
        if path.regain_trust(now).is_some() {
            return now;
        }
        now += MS;
    }
    panic!("never active");
}

/// What was sent every millisecond since `oldest` is unanswered.
fn unanswered(now: Instant, oldest: Instant, rtt: &RttEstimator) -> Unanswered {
    let newest = now - rtt.smoothed();
    Unanswered {
        oldest: Some(oldest),
        overdue: (newest.since(oldest).as_millis() + 1) as usize,
        newest_overdue: Some(newest),
        alone: false,
    }
}

/// Sends every millisecond without an answer, until the path is down; returns (suspect, down).
fn silence(path: &mut PathState, from: Instant, rtt: &RttEstimator) -> (Instant, Instant) {
    let mut suspect = None;
    let mut now = from;
    loop {
        if path.wants_probe(now) {
            path.on_probe_sent(now, rtt);
        }
        if let Some(change) = path.on_silence(now, &unanswered(now, from, rtt), rtt, ACK_DELAY) {
            match change.to {
                Condition::Suspect => suspect = Some(now),
                Condition::Down => return (suspect.unwrap(), now),
                other => panic!("{other:?}"),
            }
        }
        now += MS;
        assert!(now.since(from) < Duration::from_secs(5));
    }
}

#[test]
fn two_answers_validate() {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), false);
    assert!(path.wants_probe(ms(0)));
    let now = validate(&mut path, ms(0), &rtt);
    assert!(path.is_usable());
    assert!(now <= ms(45));
}

#[test]
fn a_silent_death_is_suspected_after_one_round_trip() {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), false);
    let now = validate(&mut path, ms(0), &rtt);
    let (suspect, down) = silence(&mut path, now + 100 * MS, &rtt);
    assert!(suspect.since(now + 100 * MS) <= 34 * MS);
    assert!(down.since(now + 100 * MS) <= Duration::from_secs(1));
}

#[test]
fn a_healed_path_is_back_within_two_seconds_and_a_flapping_one_is_held_off() {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), false);
    let mut now = validate(&mut path, ms(0), &rtt);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let (_, down) = silence(&mut path, now + 3_000 * MS, &rtt);
        now = validate(&mut path, down, &rtt);
        waits.push(now.since(down).as_secs());
    }
    assert_eq!(waits, [0, 2, 4, 8, 16, 32, 60]);
    // Two minutes without a failure make up for all.
    path.on_acked(
        now + Duration::from_secs(130),
        now + Duration::from_secs(130) - 20 * MS,
        &rtt,
    );
    assert_eq!(path.failures(), 0);
}

#[test]
fn a_stall_is_suspected_once_and_kills_nothing() {
    let rtt = steady(40);
    let mut path = PathState::new(ms(0), false);
    let mut now = validate(&mut path, ms(0), &rtt);
    let mut suspicions = 0;
    // Ten minutes with a stall of 200 to 500 ms every 20 s, data every 10 ms.
    for stall in 0..30u64 {
        let length = Duration::from_millis(500 - stall * 37 % 300);
        let oldest = now;
        let end = now + length;
        while now < end {
            if path.wants_probe(now) {
                path.on_probe_sent(now, &rtt);
            }
            if let Some(change) = path.on_silence(now, &unanswered(now, oldest, &rtt), &rtt, ACK_DELAY) {
                assert_ne!(change.to, Condition::Down, "stall {stall}");
                suspicions += 1;
            }
            now += 5 * MS;
        }
        path.on_acked(now, oldest, &rtt);
        assert!(path.is_usable());
        for _ in 0..2_000 {
            now += 10 * MS;
            path.on_acked(now, now - 40 * MS, &rtt);
            assert!(
                path.on_silence(now, &unanswered(now, now - 39 * MS, &rtt), &rtt, ACK_DELAY)
                    .is_none()
            );
        }
    }
    assert!(suspicions < 10, "{suspicions} suspicions in ten minutes");
}

#[test]
fn a_link_that_went_visibly_is_down_at_once_and_probed_when_it_is_back() {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), true);
    let now = validate(&mut path, ms(0), &rtt);
    assert_eq!(path.on_link_gone(now).unwrap().to, Condition::Down);
    assert!(!path.wants_probe(now + Duration::from_secs(600)));
    assert_eq!(path.deadline(None, &rtt, ACK_DELAY), None);
    path.on_link_back(now + Duration::from_secs(600));
    assert!(path.wants_probe(now + Duration::from_secs(600)));
    let back = validate(&mut path, now + Duration::from_secs(600), &rtt);
    assert!(back.since(now + Duration::from_secs(600)) < 50 * MS);
}

#[test]
fn dead_metered_paths_are_probed_rarely_and_others_every_second() {
    for (metered, most) in [(false, 620), (true, 35)] {
        let rtt = steady(20);
        let mut path = PathState::new(ms(0), metered);
        let now = validate(&mut path, ms(0), &rtt);
        let (_, down) = silence(&mut path, now, &rtt);
        let mut probes = 0;
        let mut at = down;
        while at < down + Duration::from_secs(600) {
            if path.wants_probe(at) {
                path.on_probe_sent(at, &rtt);
                probes += 1;
            }
            at = path.deadline(None, &rtt, ACK_DELAY).unwrap().max(at + MS);
        }
        assert!(probes <= most && probes >= 20, "{probes}");
    }
}

#[test]
fn deadlines_always_lead_somewhere() {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), false);
    let start = validate(&mut path, ms(0), &rtt);
    let mut now = start;
    let mut calls = 0;
    while path.condition() != Condition::Down {
        if path.wants_probe(now) {
            path.on_probe_sent(now, &rtt);
        }
        path.on_silence(now, &unanswered(now, start, &rtt), &rtt, ACK_DELAY);
        let next = path.deadline(Some(start), &rtt, ACK_DELAY).unwrap();
        assert!(next > now || path.wants_probe(now), "no progress at {now:?}");
        now = next.max(now);
        calls += 1;
        assert!(calls < 200);
    }
}

#[test]
fn a_path_is_asked_when_a_stream_stops_to_arrive_and_not_after_single_packets() {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), true);
    let start = validate(&mut path, ms(0), &rtt);
    path.on_data(start + 10 * MS);
    assert!(!path.wants_probe(start + 2000 * MS));
    for step in 0..20 {
        path.on_data(start + MS * (2000 + step));
    }
    assert!(!path.wants_probe(start + 2900 * MS));
    assert!(path.wants_probe(start + 3019 * MS));
    path.on_probe_sent(start + 3019 * MS, &rtt);
    assert!(!path.wants_probe(start + 9000 * MS));
}

/// When a path of 20 ms is suspect, of which these packets are unanswered, sent so many milliseconds after its start; the
/// others are sent and answered no more.
fn suspected(sent: &[u64], alone: bool) -> Duration {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), false);
    let start = validate(&mut path, ms(0), &rtt);
    let mut now = start;
    loop {
        let overdue = path.overdue_since(now, &rtt, ACK_DELAY);
        let left: Vec<Instant> = sent.iter().map(|at| start + MS * (*at as u32)).collect();
        let overdue: Vec<Instant> = left.iter().copied().filter(|at| *at <= overdue).collect();
        let unanswered = Unanswered {
            oldest: left.first().copied().filter(|at| *at <= now),
            overdue: overdue.len(),
            newest_overdue: overdue.last().copied(),
            alone,
        };
        path.asks_first(now, &unanswered, &rtt, ACK_DELAY);
        if path.on_silence(now, &unanswered, &rtt, ACK_DELAY).is_some() {
            return now.since(start);
        }
        if path.wants_probe(now) {
            path.on_probe_sent(now, &rtt);
        }
        let deadline = path.deadline(unanswered.oldest, &rtt, ACK_DELAY);
        now = deadline.unwrap_or(now).max(now + MS).min(now + 5 * MS);
    }
}

#[test]
fn where_little_is_unanswered_a_probe_asks_first() {
    let stream: Vec<u64> = (0..100).collect();
    let soon = suspected(&stream, false);
    assert!(soon <= 32 * MS, "a stream: {soon:?}");
    let single = suspected(&[0], false);
    assert!(
        single >= soon + 20 * MS && single <= 70 * MS,
        "one packet: {single:?}"
    );
    assert_eq!(
        suspected(&[0; 50], false),
        single,
        "a burst is lost like one packet"
    );
    // The rest of the stream shows that it is not only one packet.
    let mut pause = stream.clone();
    pause.drain(1..10);
    let later = suspected(&pause, false);
    assert!(
        later > soon && later < single,
        "{soon:?} < {later:?} < {single:?}"
    );
    assert!(suspected(&stream, true) >= soon + PATIENCE_ALONE, "the only path");
}

#[test]
fn a_pause_of_answers_that_was_no_death_is_allowed_from_then_on_for_a_while() {
    let rtt = steady(20);
    let mut path = PathState::new(ms(0), false);
    let mut now = validate(&mut path, ms(0), &rtt);
    let mut suspicions = Vec::new();
    for second in 0..150 {
        // What was sent 9 ms before the last answer is lost, and no answer comes for 25 ms.
        let answer = now + 1000 * MS;
        path.on_acked(answer, answer - 20 * MS, &rtt);
        for step in 0..25u32 {
            now = answer + MS * step;
            let unanswered = unanswered(now, answer - 29 * MS, &rtt);
            if path.on_silence(now, &unanswered, &rtt, ACK_DELAY).is_some() {
                suspicions.push(second);
            }
        }
        path.on_acked(answer + 25 * MS, answer + 5 * MS, &rtt);
    }
    assert_eq!(suspicions, [0, 118], "once in two minutes");
}
