//! Two radio links: delay variation and some loss.

use std::time::Duration;

use super::{Scenario, for_each_bulk, share};
use crate::network::{Jitter, Loss};
use crate::setup::{Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let setup = |_| {
        let radio = |rate, delay, loss, deviation| {
            Wan::new(rate, delay, 400).with(move |link| {
                link.loss = Loss::Random(loss);
                link.jitter = Some(Jitter {
                    deviation: Duration::from_millis(deviation),
                    correlation: Duration::from_millis(50),
                });
            })
        };
        Setup::new(20.0, vec![radio(40.0, 30, 0.005, 3), radio(80.0, 20, 0.003, 2)])
    };
    for_each_bulk(
        "radio",
        "40/30 and 80/20 with delay variation and loss",
        setup,
        |report| vec![share(report, 0.85)],
    )
}
