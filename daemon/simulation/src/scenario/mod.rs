//! All scenarios: each file has a kind of weather or load, with what is wanted of a bond in it.

mod app_limited;
mod asymmetry;
mod bufferbloat;
mod bursts;
mod cellular;
mod clocks;
mod death;
mod equal;
mod five_paths;
mod freeze;
mod idle;
mod jitter;
mod late_path;
mod latency;
mod limits;
mod lossy;
mod many_flows;
mod narrow;
mod nat;
mod neighbour;
mod oscillation;
mod policed;
mod radio;
mod rate_drop;
mod restart;
mod skew;
mod starvation;
mod unequal;
mod weather;

use crate::report::{Report, Target};
use crate::setup::{Direction, Flow, FlowKind, Setup};
use crate::transport::tcp::Algorithm;

/// Makes the setup of a run with a seed.
pub type MakeSetup = dyn Fn(u64) -> Setup + Send + Sync;
/// Judges a report.
pub type Judge = dyn Fn(&Report) -> Vec<Target> + Send + Sync;

/// A setup with a name, and what is wanted of the bond in it.
pub struct Scenario {
    /// Short, with hyphens.
    pub name: String,
    /// One line.
    pub about: &'static str,
    /// Makes the setup; most do not need the seed.
    pub setup: Box<MakeSetup>,
    /// Figures that are wanted. Other than the invariants they may be missed.
    pub targets: Box<Judge>,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Scenario {
    fn new(
        name: impl Into<String>,
        about: &'static str,
        setup: impl Fn(u64) -> Setup + Send + Sync + 'static,
        targets: impl Fn(&Report) -> Vec<Target> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about,
            setup: Box::new(setup),
            targets: Box::new(targets),
        }
    }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    [
        equal::scenarios(),
        unequal::scenarios(),
        lossy::scenarios(),
        radio::scenarios(),
        policed::scenarios(),
        skew::scenarios(),
        starvation::scenarios(),
        freeze::scenarios(),
        oscillation::scenarios(),
        app_limited::scenarios(),
        asymmetry::scenarios(),
        idle::scenarios(),
        bufferbloat::scenarios(),
        rate_drop::scenarios(),
        cellular::scenarios(),
        clocks::scenarios(),
        death::scenarios(),
        late_path::scenarios(),
        bursts::scenarios(),
        narrow::scenarios(),
        five_paths::scenarios(),
        jitter::scenarios(),
        latency::scenarios(),
        limits::scenarios(),
        neighbour::scenarios(),
        many_flows::scenarios(),
        nat::scenarios(),
        restart::scenarios(),
        weather::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The one of this name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

/// Bulk flows that scenarios are run with: name, direction and kind.
const BULK: [(&str, Direction, FlowKind); 5] = [
    ("cubic-up", Direction::Up, FlowKind::Tcp(Algorithm::Cubic, None)),
    (
        "cubic-down",
        Direction::Down,
        FlowKind::Tcp(Algorithm::Cubic, None),
    ),
    ("bbr-up", Direction::Up, FlowKind::Tcp(Algorithm::Bbr, None)),
    ("bbr-down", Direction::Down, FlowKind::Tcp(Algorithm::Bbr, None)),
    (
        "quic-down",
        Direction::Down,
        FlowKind::Quic(Algorithm::PlainCubic, None),
    ),
];

/// A scenario for each of [`BULK`], with the flow as the first.
fn for_each_bulk(
    name: &str,
    about: &'static str,
    setup: impl Fn(u64) -> Setup + Clone + Send + Sync + 'static,
    targets: impl Fn(&Report) -> Vec<Target> + Clone + Send + Sync + 'static,
) -> Vec<Scenario> {
    (BULK.iter())
        .map(|(suffix, direction, kind)| {
            let (setup, targets) = (setup.clone(), targets.clone());
            let flow = Flow::new(*kind, *direction);
            let with_flow = move |seed| {
                let mut setup = setup(seed);
                setup.flows.insert(0, flow.clone());
                setup
            };
            Scenario::new(format!("{name}-{suffix}"), about, with_flow, targets)
        })
        .collect()
}

/// The goodput of all bulk flows as a share of the ideal.
fn share(report: &Report, wanted: f64) -> Target {
    Target::at_least("share of the ideal", report.share(), wanted)
}
