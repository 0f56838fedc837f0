//! Bursts of loss of different length.

use super::{Scenario, for_each_bulk, share};
use crate::network::Loss;
use crate::setup::{Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    ([(1.0, 0.01), (3.0, 0.02), (8.0, 0.03)].into_iter())
        .flat_map(|(length, lost)| {
            let setup = move |_| {
                let wan =
                    || Wan::new(50.0, 15, 250).with(|link| link.loss = Loss::Bursts { share: lost, length });
                Setup::new(15.0, vec![wan(), wan()])
            };
            let name = format!("bursts-{length}");
            for_each_bulk(&name, "two links that lose bursts", setup, |report| {
                vec![share(report, 0.8)]
            })
        })
        .collect()
}
