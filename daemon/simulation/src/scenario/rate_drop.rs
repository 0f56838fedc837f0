//! A link falls to a tenth of its rate and comes back.

use std::time::Duration;

use super::{Scenario, for_each_bulk};
use crate::network::{Rate, megabits};
use crate::report::Target;
use crate::setup::{Flow, Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let setup = |_| {
        let moving = Wan::new(50.0, 10, 250).with(|link| {
            link.rate = Rate::steps([
                (Duration::ZERO, megabits(50.0)),
                (Duration::from_secs(6), megabits(5.0)),
                (Duration::from_secs(14), megabits(50.0)),
            ]);
        });
        let mut setup = Setup::new(22.0, vec![moving, Wan::new(20.0, 10, 250)]).flow(Flow::ping());
        setup.clear_from = Duration::from_secs(14);
        setup
    };
    for_each_bulk(
        "tenfold-drop",
        "50 Mbit/s become 5 and 50 again, beside 20",
        setup,
        |report| {
            vec![
                Target::at_least(
                    "3 s after the drop, Mbit/s",
                    report.goodput_between(0, 9, 13),
                    0.8 * 25.0 * 0.956,
                ),
                Target::at_least(
                    "3 s after the return, Mbit/s",
                    report.goodput_between(0, 17, 21),
                    0.8 * 70.0 * 0.956,
                ),
                Target::at_most("longest gap, ms", report.flows[0].longest_gap, 200.0),
                Target::at_most("ping p99, ms", report.flows[1].latency[1], 120.0),
            ]
        },
    )
}
