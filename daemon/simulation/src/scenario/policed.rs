//! Links that say "too fast" by loss alone: a policer, and a buffer of 5 ms. Indifference to loss must not be blindness.

use super::{Scenario, for_each_bulk, share};
use crate::network::{Policer, megabits};
use crate::report::{Report, Target};
use crate::setup::{Setup, Wan};

fn worst_loss(report: &Report) -> f64 {
    (report.links.iter())
        .map(|link| (link.lost_policer + link.lost_queue) as f64 / link.offered.max(1) as f64)
        .fold(0.0, f64::max)
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let policer = |_| {
        let policed = Wan::new(100.0, 10, 250).with(|link| {
            link.policer = Some(Policer {
                rate: megabits(20.0),
                burst: 30_000.0,
            });
        });
        Setup::new(20.0, vec![policed, Wan::new(50.0, 10, 250)])
    };
    let shallow = |_| Setup::new(20.0, vec![Wan::new(50.0, 10, 31), Wan::new(50.0, 10, 250)]);
    let targets = |report: &Report| {
        vec![
            share(report, 0.85),
            Target::at_most("loss by the limit", worst_loss(report), 0.03),
        ]
    };
    let mut all = for_each_bulk(
        "policer",
        "a link policed at 20 Mbit/s beside one of 50",
        policer,
        targets,
    );
    all.extend(for_each_bulk(
        "shallow",
        "a link with 5 ms of buffer beside one with 40",
        shallow,
        targets,
    ));
    all
}
