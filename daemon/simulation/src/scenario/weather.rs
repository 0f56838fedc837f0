//! Weather by chance: another setup for each seed, for property tests.

use std::time::Duration;

use sennit_engine::settings::{Mode, Priority};
use sennit_engine::time::Instant;

use super::Scenario;
use crate::dice::Dice;
use crate::network::{
    CellularShape, Change, Jitter, LinkSettings, Loss, Outage, Policer, Rate, Reordering, megabits,
};
use crate::setup::{Action, Clock, Direction, Flow, FlowKind, Pause, Setup, Side, Wan};
use crate::transport::tcp::Algorithm;

/// Seconds of bad weather.
const STORM: f64 = 5.0;
/// Seconds of fair weather after it.
const CALM: f64 = 4.0;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "weather",
            "links, flows and mishaps by chance; then fair weather",
            weather,
            |_| Vec::new(),
        ),
        Scenario::new(
            "drizzle",
            "live links with jitter and loss by chance: no false alarms",
            drizzle,
            |_| Vec::new(),
        ),
    ]
}

fn time(dice: &mut Dice, low: f64, high: f64) -> Duration {
    Duration::from_secs_f64(dice.between(low, high))
}

fn link(dice: &mut Dice, rate: f64) -> LinkSettings {
    let delay = Duration::from_secs_f64(dice.scaled(0.001, 0.15));
    // 10 to 300 ms of the rate, and room for some packets at least.
    let queue = (megabits(rate) * dice.scaled(0.01, 0.3)) as u64 + 8000;
    let mut link = LinkSettings::new(megabits(rate), delay, queue);
    if dice.chance(0.3) {
        link.loss = Loss::Random(dice.scaled(0.0005, 0.04));
    } else if dice.chance(0.15) {
        link.loss = Loss::Bursts {
            share: dice.scaled(0.001, 0.03),
            length: dice.between(2.0, 10.0),
        };
    }
    if dice.chance(0.35) {
        link.jitter = Some(Jitter {
            deviation: Duration::from_secs_f64(dice.scaled(0.0003, 0.008)),
            correlation: Duration::from_secs_f64(dice.scaled(0.005, 0.3)),
        });
    }
    link
}

/// What happens besides: outages, changes, reordering.
fn mishaps(dice: &mut Dice, link: &mut LinkSettings, rate: f64) {
    if dice.chance(0.15) {
        link.reordering = Some(Reordering {
            chance: dice.scaled(0.001, 0.05),
            by: Duration::from_secs_f64(dice.scaled(0.001, 0.02)),
        });
    }
    if dice.chance(0.15) {
        link.duplication = dice.scaled(0.001, 0.1);
    }
    if dice.chance(0.1) {
        link.corruption = dice.scaled(0.0005, 0.02);
    }
    if dice.chance(0.1) {
        link.policer = Some(Policer {
            rate: megabits(rate) * dice.between(0.3, 0.9),
            burst: dice.scaled(5e3, 1e5),
        });
    }
    if dice.chance(0.1) {
        link.mark_above = Some(time(dice, 0.002, 0.05));
    }
    let mut at = 0.0;
    while dice.chance(0.3) && at < STORM - 0.5 {
        let from = dice.between(at, STORM - 0.4);
        let until = (from + dice.scaled(0.02, 3.0)).min(STORM);
        link.outages.push(Outage {
            from: Duration::from_secs_f64(from),
            until: Duration::from_secs_f64(until),
        });
        at = until;
    }
    if dice.chance(0.2) {
        let from = time(dice, 0.5, STORM - 1.0);
        let change = if dice.chance(0.5) {
            Change::Delay(Duration::from_secs_f64(dice.scaled(0.001, 0.4)))
        } else {
            Change::Loss(Loss::Random(dice.scaled(0.01, 0.4)))
        };
        let back = Duration::from_secs_f64(STORM);
        let undo = if dice.chance(0.5) {
            Change::Loss(Loss::None)
        } else {
            Change::Delay(link.delay)
        };
        let undo = match change {
            Change::Loss(_) => Change::Loss(Loss::None),
            _ => undo,
        };
        link.changes = vec![(from, change), (back, undo)];
    }
    if dice.chance(0.15) {
        let shape = CellularShape {
            median: megabits(rate),
            spread: dice.between(0.2, 0.9),
            correlation: time(dice, 0.05, 1.0),
            stalls: dice.between(0.0, 20.0),
        };
        let moving = Rate::cellular(shape, Duration::from_secs_f64(STORM), dice);
        link.rate = moving.then_constant(Duration::from_secs_f64(STORM), megabits(rate));
    }
}

fn flow(dice: &mut Dice) -> Flow {
    let direction = if dice.chance(0.5) {
        Direction::Up
    } else {
        Direction::Down
    };
    let algorithm = [Algorithm::Cubic, Algorithm::Bbr, Algorithm::Reno][dice.index(3)];
    let length = dice.chance(0.3).then(|| dice.scaled(1e3, 3e6) as u64);
    let kind = match dice.index(8) {
        0..4 => FlowKind::Tcp(algorithm, length),
        4 => FlowKind::Quic(
            if dice.chance(0.5) {
                Algorithm::PlainCubic
            } else {
                Algorithm::Bbr
            },
            length,
        ),
        5 => FlowKind::Ping(Duration::from_millis(50)),
        _ => FlowKind::Realtime(
            Duration::from_secs_f64(dice.scaled(0.002, 0.1)),
            dice.scaled(20.0, 1450.0) as usize,
            if dice.chance(0.3) { 46 } else { 0 },
        ),
    };
    let mut flow = Flow::new(kind, direction).from(dice.between(0.0, 2.0));
    flow.v6 = dice.chance(0.3);
    flow.super_segments = dice.chance(0.8);
    if dice.chance(0.3) {
        flow.origin = time(dice, 0.0, 0.06);
    }
    flow
}

fn base(dice: &mut Dice, most_rate: f64) -> (Setup, Vec<f64>) {
    let count = 1 + dice.index(4).min(dice.index(5));
    let rates: Vec<f64> = (0..count).map(|_| dice.scaled(0.8, most_rate)).collect();
    let wans = (rates.iter())
        .map(|rate| {
            let mut wan = Wan::new(*rate, 10, 100);
            let up = *rate * dice.scaled(0.1, 1.0);
            wan.up = link(dice, up);
            wan.down = link(dice, *rate);
            wan
        })
        .collect();
    let mut setup = Setup::new(STORM + CALM, wans);
    setup.flows = (0..1 + dice.index(5)).map(|_| flow(dice)).collect();
    for clock in &mut setup.clocks {
        *clock = Clock {
            offset: time(dice, 0.0, 10_000.0),
            drift: if dice.chance(0.3) {
                dice.between(-200.0, 200.0)
            } else {
                0.0
            },
            jump: None,
        };
    }
    if dice.chance(0.2) {
        setup.mode = Mode::Redundant;
    }
    (setup, rates)
}

fn weather(seed: u64) -> Setup {
    let mut dice = Dice::new(seed, "weather");
    let (mut setup, rates) = base(&mut dice, 30.0);
    for (wan, rate) in setup.wans.iter_mut().zip(&rates) {
        mishaps(&mut dice, &mut wan.up, *rate);
        mishaps(&mut dice, &mut wan.down, *rate);
        if dice.chance(0.1) {
            wan.nat.rebinds = vec![time(&mut dice, 1.0, STORM)];
            wan.nat.changes_address = dice.chance(0.5);
        }
        if dice.chance(0.1) {
            wan.settings.priority = [Priority::Secondary, Priority::Backup][dice.index(2)];
        }
        if dice.chance(0.1) {
            wan.settings.metered = true;
        }
        if dice.chance(0.15) {
            wan.joins = time(&mut dice, 0.0, STORM - 1.0);
        }
    }
    something_done(&mut dice, &mut setup);
    setup.clear_from = Duration::from_secs_f64(STORM);
    setup.calm = false;
    let dead = setup
        .wans
        .iter()
        .all(|wan| !wan.up.outages.is_empty() || !wan.down.outages.is_empty());
    let restarts = setup
        .actions
        .iter()
        .any(|(_, action)| matches!(action, Action::Restart(_) | Action::Unplug(_)));
    let sleeps = setup.pauses.iter().any(|pause| pause.asleep);
    let rebinds = setup.wans.iter().any(|wan| !wan.nat.rebinds.is_empty());
    let joins = setup.wans.iter().all(|wan| wan.joins > Duration::ZERO);
    setup.survivable = !(dead || restarts || sleeps || rebinds || joins);
    setup
}

fn something_done(dice: &mut Dice, setup: &mut Setup) {
    for _ in 0..dice.index(3) {
        if !dice.chance(0.4) {
            continue;
        }
        let action = match dice.index(6) {
            0 => Action::Mode(Mode::Redundant),
            1 => Action::Mode(Mode::Speed),
            2 => Action::Restart(Side::Client),
            3 => Action::Restart(Side::Server),
            _ => Action::Settings(dice.index(setup.wans.len()), setup.wans[0].settings),
        };
        setup.actions.push((time(dice, 1.0, STORM), action));
    }
    setup.actions.sort_by_key(|(at, _)| *at);
    if dice.chance(0.15) {
        let side = Side::BOTH[dice.index(2)];
        let length = Duration::from_secs_f64(dice.scaled(0.005, 1.0));
        let from = time(dice, 0.5, STORM - 1.0);
        setup.pauses.push(Pause {
            side,
            from,
            length,
            asleep: dice.chance(0.4),
        });
    }
    if dice.chance(0.05) {
        setup.clocks[dice.index(2)].jump = Some((time(dice, 0.5, STORM), time(dice, 0.01, 5.0)));
    }
}

fn drizzle(seed: u64) -> Setup {
    let mut dice = Dice::new(seed, "drizzle");
    let mut setup = base(&mut dice, 30.0).0;
    for wan in &mut setup.wans {
        let round_trip = (wan.up.delay + wan.down.delay).as_secs_f64();
        for link in [&mut wan.up, &mut wan.down] {
            let packets = link.rate.at(Instant::ZERO) * round_trip / 1500.0;
            if let Loss::Bursts { length, .. } = &mut link.loss {
                // What is lost for longer than a round trip is an outage, and a suspicion no false alarm.
                *length = length.min(packets).max(2.0);
            }
        }
    }
    setup
}
