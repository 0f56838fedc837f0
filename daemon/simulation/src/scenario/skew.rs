//! Two equal links whose delays are further and further apart.

use super::{BULK, Scenario, for_each_bulk};
use crate::report::Target;
use crate::setup::{Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    ([40, 70, 120, 320].into_iter())
        .flat_map(|delay: u64| {
            let setup = move |_| Setup::new(20.0, vec![Wan::new(50.0, 20, 500), Wan::new(50.0, delay, 1000)]);
            for_each_bulk(
                &format!("skew-{delay}"),
                "50 Mbit/s 20 ms and 50 Mbit/s further away",
                setup,
                |report| {
                    let flow = &report.flows[0];
                    vec![
                        // Never slower than over the best link alone.
                        Target::at_least("goodput, Mbit/s", flow.goodput, 45.5),
                        Target::at_most(
                            "spurious share",
                            flow.spurious as f64 / flow.sent.max(1) as f64,
                            0.001,
                        ),
                    ]
                },
            )
        })
        .filter(|scenario| {
            BULK.iter()
                .any(|(suffix, ..)| scenario.name.ends_with(suffix) && *suffix != "bbr-up")
        })
        .collect()
}
