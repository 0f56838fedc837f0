//! A client's limit, far below what its WANs carry: reached, kept to, and changed while it is in use.

use std::time::Duration;

use sennit_engine::settings::{BytesPerSecond, Limits};

use super::{Scenario, for_each_bulk};
use crate::network::{Loss, Outage};
use crate::report::{Report, Target};
use crate::setup::{Action, Flow, Setup, Wan};

/// Payload of a full packet by its length, which is what the limit counts.
const PAYLOAD: f64 = 1448.0 / 1500.0;

fn limit(megabits: u64) -> Action {
    let rate = Some(BytesPerSecond(megabits * 125_000));
    Action::Limits(Limits { up: rate, down: rate })
}

fn within(name: &str, value: f64, limit: f64) -> [Target; 2] {
    [
        Target::at_least(&format!("{name}, Mbit/s"), value, limit * PAYLOAD * 0.95),
        Target::at_most(&format!("{name}, at most"), value, limit * PAYLOAD * 1.02),
    ]
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let setup = |_| {
        let wan = || Wan::new(50.0, 10, 250);
        let mut setup = Setup::new(20.0, vec![wan(), wan()]).flow(Flow::ping());
        setup.actions = vec![
            (Duration::from_millis(100), limit(20)),
            (Duration::from_secs(10), limit(8)),
        ];
        setup
    };
    let lossy = move |seed| {
        let mut setup: Setup = setup(seed);
        for wan in &mut setup.wans {
            *wan = wan.clone().with(|link| link.loss = Loss::Random(0.01));
        }
        setup.wans[0] = setup.wans[0].clone().with(|link| {
            link.outages = vec![Outage {
                from: Duration::from_secs(15),
                until: Duration::from_secs(17),
            }];
        });
        setup
    };
    let targets = |report: &Report| {
        let mut targets = Vec::new();
        targets.extend(within("at 20", report.goodput_between(0, 2, 10), 20.0));
        targets.extend(within("at 8", report.goodput_between(0, 12, 20), 8.0));
        targets.push(Target::at_most("ping p99, ms", report.flows[1].latency[1], 45.0));
        targets
    };
    let mut all = for_each_bulk(
        "limits",
        "a limit of 20 Mbit/s, then of 8, with pings",
        setup,
        targets,
    );
    all.extend(for_each_bulk(
        "limits-lossy",
        "the same on WANs that lose 1 %, of which one is out for 2 s",
        lossy,
        |report| within("at 20", report.goodput_between(0, 2, 10), 20.0).into(),
    ));
    all
}
