//! Links whose rate moves as a cellular link's does, with stalls.

use std::time::Duration;

use super::{Scenario, for_each_bulk, share};
use crate::dice::Dice;
use crate::network::{CellularShape, Rate, megabits};
use crate::report::Target;
use crate::setup::{Flow, Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let setup = |seed| {
        let wans = (0..2)
            .map(|index| {
                let mut wan = Wan::new(20.0, 25, 1500);
                let shape = CellularShape {
                    median: megabits(20.0),
                    spread: 0.85,
                    correlation: Duration::from_millis(800),
                    stalls: 3.0,
                };
                let mut dice = Dice::new(seed, &format!("cellular {index}"));
                wan.up.rate = Rate::cellular(shape, Duration::from_secs(60), &mut dice);
                wan.down.rate = Rate::cellular(shape, Duration::from_secs(60), &mut dice);
                wan
            })
            .collect();
        let mut setup = Setup::new(40.0, wans).flow(Flow::ping());
        setup.clear_from = Duration::from_secs(1000);
        setup
    };
    for_each_bulk(
        "cellular",
        "two cellular links around 20 Mbit/s with stalls",
        setup,
        |report| {
            let copies: f64 = report.paths.iter().map(|path| path.copies).sum();
            let sent: f64 = report.links.iter().map(|link| link.offered as f64 * 1.5).sum();
            vec![
                share(report, 0.8),
                Target::at_most("ping median, ms", report.flows[1].latency[0], 90.0),
                Target::at_most("copies of all bytes", copies / sent, 0.02),
                Target::at_most(
                    "deaths",
                    report.paths.iter().map(|path| path.deaths as f64).sum(),
                    0.0,
                ),
            ]
        },
    )
}
