//! Our congestion control over links of all kinds.

use super::*;
use crate::congestion::link::{Link, Neighbour, Run};

const MEGABIT: u64 = 125_000;

fn run(link: Link) -> Run {
    let mut run = Run::new(link, Box::new(Bond::new()));
    run.trace = std::env::var_os("BOND_TRACE").is_some();
    run
}

/// Share of `megabits` that arrived between two points, per mille.
fn share(run: &Run, megabits: u64, from: u64, to: u64) -> u64 {
    let share = run.rate(from, to) * 1_000 / (megabits * MEGABIT);
    let slice = run.between(from, to);
    println!(
        "{from}..{to} ms: {share} ‰ of {megabits} Mbit/s; queue mean {:.2} ms most {:.2} ms; dropped {}; {}",
        slice.queue_mean() as f64 / 1e6,
        slice.queue_most as f64 / 1e6,
        slice.dropped,
        run.controller.state_name(),
    );
    share
}

#[test]
fn finds_the_rate_within_ten_round_trips_and_keeps_the_link_busy() {
    for (megabits, delay, queue) in [
        (50, 10, 250_000),
        (20, 35, 150_000),
        (10, 80, 250_000),
        (300, 10, 1_000_000),
        (2, 25, 100_000),
        (50, 2, 250_000),
    ] {
        let mut run = run(Link::new(megabits, delay, queue));
        run.until(20_000);
        let round = 2 * delay.max(5);
        println!("--- {megabits} Mbit/s, {delay} ms");
        let start = share(
            &run,
            megabits,
            (10 * round).div_ceil(100) * 100,
            (10 * round).div_ceil(100) * 100 + 500,
        );
        let steady = share(&run, megabits, 3_000, 20_000);
        let mean = run.between(3_000, 20_000).queue_mean();
        assert!(
            start >= 850,
            "{megabits} Mbit/s, {delay} ms: {start} ‰ after ten round trips"
        );
        assert!(steady >= 985, "{megabits} Mbit/s, {delay} ms: {steady} ‰");
        let most = 5_000_000.max(delay * 500_000).max(3 * 12_000_000 / megabits);
        assert!(
            mean <= most,
            "{megabits} Mbit/s, {delay} ms: mean queue {} ms",
            mean as f64 / 1e6
        );
    }
}

#[test]
fn random_loss_does_no_harm() {
    for loss in [1, 3, 10] {
        let mut run = run(Link {
            loss,
            ..Link::new(50, 10, 250_000)
        });
        run.until(20_000);
        let steady = share(&run, 50, 3_000, 20_000);
        assert!(steady >= 975 * (100 - loss) / 100, "{loss} %: {steady} ‰");
        assert!(run.between(3_000, 20_000).queue_mean() <= 10_000_000);
    }
}

#[test]
fn a_rate_that_moves_all_the_time_is_followed() {
    // Factors of up to 1.7 every 100 ms, between 4 and 60 Mbit/s.
    let (mut rates, mut rate, mut random) = (Vec::new(), 20.0, 7u64);
    for step in 0..400 {
        rates.push((step * 100, (rate * MEGABIT as f64) as u64));
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let turn = (random >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        rate = (rate * (2.0 * 0.53 * turn).exp()).clamp(4.0, 60.0);
    }
    let capacity = rates.iter().skip(100).map(|(_, rate)| rate / 10).sum::<u64>();
    let mut run = run(Link {
        rates,
        ..Link::new(20, 25, 1_500_000)
    });
    run.until(40_000);
    let found = run.between(10_000, 40_000);
    let share = found.delivered * 1_000 / capacity;
    println!("{share} ‰; queue mean {:.1} ms", found.queue_mean() as f64 / 1e6);
    assert_eq!(run.controller.state_name(), "following");
    assert!(share >= 880, "{share} ‰ of what the link carried");
    assert!(found.queue_mean() <= 50_000_000, "{} ns", found.queue_mean());
}

#[test]
fn a_rate_that_falls_to_a_tenth_and_returns_is_followed() {
    let rates = vec![(0, 50 * MEGABIT), (5_000, 5 * MEGABIT), (10_000, 50 * MEGABIT)];
    let mut run = run(Link {
        rates,
        ..Link::new(50, 10, 250_000)
    });
    run.until(16_000);
    share(&run, 50, 4_000, 5_000);
    share(&run, 5, 6_000, 10_000);
    let low = run.between(6_000, 10_000);
    assert!(low.queue_most < 300_000_000);
    assert!(low.queue_mean() < 15_000_000, "{}", low.queue_mean());
    assert!(share(&run, 5, 6_000, 10_000) >= 950);
    let back = share(&run, 50, 12_500, 13_500);
    assert!(back >= 800, "{back} ‰ after three seconds");
}

#[test]
fn jitter_is_not_taken_for_a_queue() {
    for (megabits, delay) in [(50, 20), (30, 40), (80, 20)] {
        let mut run = run(Link {
            jitter: Duration::from_millis(10),
            ..Link::new(megabits, delay, 500_000)
        });
        run.until(30_000);
        let steady = share(&run, megabits, 4_000, 30_000);
        assert!(steady >= 950, "{megabits} Mbit/s, {delay} ms: {steady} ‰");
        assert!(run.between(4_000, 30_000).queue_mean() <= 25_000_000);
    }
}

#[test]
fn a_policer_and_a_tiny_buffer_are_found() {
    for (name, link) in [
        (
            "policer",
            Link {
                policer: Some((20 * MEGABIT, 30_000)),
                ..Link::new(100, 10, 250_000)
            },
        ),
        (
            "generous policer",
            Link {
                policer: Some((20 * MEGABIT, 500_000)),
                ..Link::new(100, 10, 250_000)
            },
        ),
        ("5 ms of buffer", Link::new(20, 10, 12_500)),
        ("5 ms of buffer, 50", Link::new(50, 20, 31_250)),
    ] {
        let megabits = if name.ends_with("50") { 50 } else { 20 };
        let mut run = run(link);
        run.until(20_000);
        println!("--- {name}");
        share(&run, megabits, 1_000, 3_000);
        let steady = share(&run, megabits, 4_000, 20_000);
        let slice = run.between(4_000, 20_000);
        assert!(steady >= 930, "{name}: {steady} ‰");
        let lost = slice.dropped * 1_000 / (slice.dropped + slice.delivered);
        assert!(lost <= 60, "{name}: {lost} ‰ lost");
    }
}

#[test]
fn too_little_to_send_neither_lowers_nor_raises_the_estimate() {
    let mut run = run(Link::new(50, 10, 250_000));
    run.until(3_000);
    run.demand = Some(15 * MEGABIT);
    run.until(120_000);
    let estimate = run.controller.bandwidth().0;
    assert!((45 * MEGABIT..=56 * MEGABIT).contains(&estimate), "{estimate}");
    run.demand = None;
    run.until(125_000);
    assert!(share(&run, 50, 120_200, 121_000) >= 900);
}

#[test]
fn a_pause_is_followed_by_no_burst_and_no_slow_phase() {
    for pause in [1_500, 30_000, 660_000] {
        let mut run = run(Link::new(50, 10, 250_000));
        run.until(3_000);
        run.demand = Some(1);
        run.until(3_000 + pause);
        run.demand = None;
        run.until(6_000 + pause);
        let from = 3_000 + pause;
        // What is forgotten is found anew, by a start that ends when it has made a queue.
        let limit = if pause > 600_000 { 25_000_000 } else { 8_000_000 };
        let most = run.between(from, from + 100).queue_most;
        assert!(most < limit, "{most} ns of queue after {pause} ms");
        assert!(
            share(&run, 50, from + 500, from + 1_500) >= 900,
            "after {pause} ms"
        );
    }
}

#[test]
fn a_neighbour_gets_his_share_and_leaves_us_ours() {
    for megabits in [20, 50] {
        let mut run = run(Link::new(megabits, 12, 250_000));
        run.until(5_000);
        run.neighbour = Some(Neighbour::new());
        run.until(65_000);
        let ours = share(&run, megabits, 5_000, 65_000);
        assert!((333..=667).contains(&ours), "{megabits} Mbit/s: {ours} ‰");
        run.neighbour = None;
        run.until(100_000);
        assert!(share(&run, megabits, 85_000, 100_000) >= 970);
        assert!(run.between(85_000, 100_000).queue_mean() <= 8_000_000);
    }
}

#[test]
fn the_start_on_a_narrow_path_makes_one_queue_and_no_second() {
    let mut run = run(Link::new(1, 15, 100_000));
    run.until(10_000);
    let first = run.between(0, 1_000).queue_most;
    let later = run.between(1_000, 10_000).queue_most;
    assert!(first < 300_000_000, "{first} ns");
    assert!(later < 100_000_000, "{later} ns");
    assert!(share(&run, 1, 1_000, 10_000) >= 950);
}

#[test]
fn a_way_that_becomes_longer_is_no_queue() {
    for more in [60, 300] {
        let mut run = run(Link::new(20, 20, 500_000));
        run.until(5_000);
        run.link.delay = Duration::from_millis(20 + more / 2);
        run.until(20_000);
        let share = share(&run, 20, 12_000, 20_000);
        assert!(share >= 900, "{more} ms more: {share} ‰");
        assert!(run.between(12_000, 20_000).queue_mean() <= 60_000_000);
    }
}

#[test]
fn links_of_all_kinds_are_used_whatever_chance_does() {
    for seed in 1..=2u64 {
        for (megabits, delay, queue) in [
            (50, 50, 250_000),
            (20, 35, 150_000),
            (5, 20, 60_000),
            (100, 2, 250_000),
        ] {
            for (loss, jitter) in [(0, 0), (2, 0), (0, 3)] {
                let jitter = Duration::from_millis(jitter);
                let mut run = run(Link {
                    loss,
                    jitter,
                    ..Link::new(megabits, delay, queue)
                });
                run.random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                run.until(10_000);
                let share = share(&run, megabits, 3_000, 10_000) * 100 / (100 - loss);
                assert!(
                    share >= 930,
                    "{megabits} Mbit/s, {delay} ms, {loss} % loss, {jitter:?}, seed {seed}: {share} ‰"
                );
            }
        }
    }
}
