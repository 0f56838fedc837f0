//! One path freezes for 300 ms and then delivers all it held: no storm of copies, one reaction.

use std::time::Duration;

use super::{Scenario, for_each_bulk, share};
use crate::network::{Rate, megabits};
use crate::report::Target;
use crate::setup::{Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let setup = |_| {
        let freezing = Wan::new(50.0, 10, 2500).with(|link| {
            link.rate = Rate::steps([
                (Duration::ZERO, megabits(50.0)),
                (Duration::from_secs(5), 0.0),
                (Duration::from_millis(5300), megabits(50.0)),
            ]);
        });
        let mut setup = Setup::new(12.0, vec![Wan::new(50.0, 10, 250), freezing]);
        setup.clear_from = Duration::from_millis(5300);
        setup
    };
    for_each_bulk("freeze", "one of two links freezes for 300 ms", setup, |report| {
        let copies: f64 = report.paths.iter().map(|path| path.copies).sum();
        vec![
            share(report, 0.85),
            Target::at_most("longest gap, ms", report.flows[0].longest_gap, 150.0),
            Target::at_most("copies, kB", copies, 400.0),
        ]
    })
}
