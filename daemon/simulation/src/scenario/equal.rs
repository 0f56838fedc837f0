//! Two equal clean links: the easiest case, in which little may be lost.

use super::{Scenario, for_each_bulk, share};
use crate::report::Target;
use crate::setup::{Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let setup = |_| {
        let mut setup = Setup::new(20.0, vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)]);
        setup.fair = true;
        setup
    };
    for_each_bulk("equal", "two links of 50 Mbit/s and 10 ms", setup, |report| {
        vec![
            share(report, 0.95),
            Target::at_most("spurious retransmits", report.flows[0].spurious as f64, 0.0),
        ]
    })
}
