//! Links of different rate and delay: the slower one must help, not hinder.

use super::{Scenario, for_each_bulk, share};
use crate::report::Target;
use crate::setup::{Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let two = |_| {
        let mut setup = Setup::new(20.0, vec![Wan::new(50.0, 10, 250), Wan::new(20.0, 35, 150)]);
        setup.fair = true;
        setup
    };
    let three = |_| {
        Setup::new(
            20.0,
            vec![
                Wan::new(50.0, 10, 250),
                Wan::new(25.0, 35, 250),
                Wan::new(10.0, 80, 250),
            ],
        )
    };
    let wide = |_| Setup::new(10.0, vec![Wan::new(300.0, 10, 1000), Wan::new(30.0, 10, 250)]);
    let spurious = |report: &crate::report::Report| {
        let flow = &report.flows[0];
        Target::at_most(
            "spurious share",
            flow.spurious as f64 / flow.sent.max(1) as f64,
            0.001,
        )
    };
    let mut all = for_each_bulk(
        "unequal",
        "50 Mbit/s 10 ms and 20 Mbit/s 35 ms",
        two,
        move |report| vec![share(report, 0.93), spurious(report)],
    );
    all.extend(for_each_bulk(
        "three",
        "50 Mbit/s 10 ms, 25 Mbit/s 35 ms, 10 Mbit/s 80 ms",
        three,
        move |report| vec![share(report, 0.91), spurious(report)],
    ));
    all.extend(for_each_bulk(
        "ten-to-one",
        "300 and 30 Mbit/s, 10 ms",
        wide,
        move |report| vec![share(report, 0.93), spurious(report)],
    ));
    all
}
