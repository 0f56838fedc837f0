//! Random loss on one or both of two links: it must look like none.

use super::{Scenario, for_each_bulk, share};
use crate::network::Loss;
use crate::report::{Report, Target};
use crate::setup::{Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let with_loss = |first: Loss, second: Loss| {
        move |_| {
            let wan = |loss| Wan::new(50.0, 10, 250).with(|link| link.loss = loss);
            Setup::new(20.0, vec![wan(first), wan(second)])
        }
    };
    let targets = |wanted| {
        move |report: &Report| {
            vec![
                share(report, wanted),
                Target::at_most("residual loss", report.flows[0].residual_loss, 1e-5),
                Target::at_most(
                    "late share",
                    report.flows[0].late as f64 / report.flows[0].sent.max(1) as f64,
                    1e-5,
                ),
            ]
        }
    };
    let bursts = |share| Loss::Bursts { share, length: 5.0 };
    let about = "two links of 50 Mbit/s and 10 ms with loss";
    [
        for_each_bulk(
            "lossy-half",
            about,
            with_loss(Loss::None, Loss::Random(0.005)),
            targets(0.9),
        ),
        for_each_bulk(
            "lossy-one",
            about,
            with_loss(Loss::None, Loss::Random(0.01)),
            targets(0.9),
        ),
        for_each_bulk(
            "lossy-three",
            about,
            with_loss(Loss::None, Loss::Random(0.03)),
            targets(0.9),
        ),
        for_each_bulk(
            "lossy-both",
            about,
            with_loss(Loss::Random(0.01), Loss::Random(0.01)),
            targets(0.85),
        ),
        for_each_bulk(
            "lossy-both-bursts",
            about,
            with_loss(bursts(0.01), bursts(0.01)),
            targets(0.85),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
