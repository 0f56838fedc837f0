//! The second path appears during a transfer.

use std::time::Duration;

use super::{Scenario, for_each_bulk};
use crate::report::Target;
use crate::setup::{Action, Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for milliseconds in [10, 500, 4000] {
        let setup = move |_| {
            let mut setup = Setup::new(12.0, vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)]);
            setup.wans[1].joins = Duration::from_millis(milliseconds);
            setup
        };
        let name = format!("late-path-{milliseconds}");
        all.extend(for_each_bulk(
            &name,
            "the second of two links joins later",
            setup,
            |report| {
                vec![
                    Target::at_least("afterwards, Mbit/s", report.goodput_between(0, 7, 12), 90.0),
                    Target::at_most("longest gap, ms", report.flows[0].longest_gap, 60.0),
                ]
            },
        ));
    }
    let unplugged = |_| {
        let mut setup = Setup::new(12.0, vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)]);
        setup.actions = vec![(Duration::from_secs(5), Action::Unplug(0))];
        setup.clear_from = Duration::from_secs(5);
        setup
    };
    all.extend(for_each_bulk(
        "unplugged",
        "one of two links is unplugged",
        unplugged,
        |report| {
            vec![
                Target::at_most("longest gap, ms", report.flows[0].longest_gap, 40.0),
                Target::at_most("residual loss", report.flows[0].residual_loss, 0.0),
            ]
        },
    ));
    all
}
