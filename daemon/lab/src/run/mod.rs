//! One run: build the network, start a contestant, send the traffic, let the events happen, and judge the conditions.

mod conditions;
mod crowd;
mod events;
mod flows;
mod outcome;

use crate::Result;
use crate::contestant::bond::Snapshot;
use crate::contestant::{Instructions, Kind, Started, Tools};
use crate::emulator::Emulator;
use crate::machine::Machine;
use crate::measure::Measures;
use crate::scenario::{Scenario, Side, Variant};
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::{Plan, Topology};
use crate::traffic::Window;

pub use events::describe;

use conditions::drops;
use events::{happen, wait_until};
pub(crate) use flows::Seen;
use flows::{neighbours_traffic, own_traffic};
use outcome::{Observed, outcomes};

/// What is fixed for one run.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// One of its variants.
    pub variant: &'a Variant,
    /// Who carries the traffic.
    pub kind: Kind,
    /// Chance of the links.
    pub seed: u64,
    /// Programs.
    pub tools: &'a Tools,
}

/// What one contestant did in one run. `direct` counts as one contestant a WAN, and their sum and best.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub contestant: String,
    /// Figures.
    pub measures: Measures,
    /// Why the run does not count; empty if it does.
    pub invalid: Vec<String>,
    /// What was checked and found in order, and what else a reader should know.
    pub notes: Vec<String>,
    /// For plots.
    pub timeline: Timeline,
}

/// What happened over time, from the start of the traffic.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Payload of bulk transfers in bins of [`crate::emulator::BIN`].
    pub goodput: Vec<u64>,
    /// Bytes of frames of each WAN, the way of the bulk transfer.
    pub wans: Vec<Vec<u64>>,
    /// When each datagram of the first probe was sent (s), and its round trip (ms); not a number if it was lost.
    pub round_trips: Vec<(f64, f64)>,
    /// When what happened.
    pub events: Vec<(f64, String)>,
    /// What the bond knew, some times a second.
    pub bond: Vec<Snapshot>,
}

/// What a run looks like at one moment.
#[derive(Clone, Debug)]
pub struct Moment<'a> {
    /// Seconds since the traffic began.
    pub at: f64,
    /// Bytes of frames that each WAN has delivered, up and down together.
    pub wans: Vec<u64>,
    /// Payload that bulk transfers have received, in bytes.
    pub received: u64,
    /// The last round trip of a probe in milliseconds.
    pub round_trip: Option<f64>,
    /// What happened so far, and when.
    pub events: &'a [(f64, String)],
}

/// Who looks on while a run goes on, some times a second.
pub type Watch<'a> = dyn FnMut(&Moment<'_>) + 'a;

/// Does one run.
pub fn run(settings: &Settings<'_>, watch: &mut Watch<'_>) -> Result<Vec<Outcome>> {
    let Settings {
        scenario,
        variant,
        kind,
        seed,
        tools,
    } = *settings;
    if let Some(wanted) = &scenario.crowd {
        return crowd::run(settings, wanted).map(|outcome| vec![outcome]);
    }
    let topology = Topology::new(Plan::of(scenario, scenario.neighbours()))?;
    let emulator = Emulator::start(topology.links(), seed)?;
    let mut started = kind.start(&topology, scenario, variant, tools)?;
    let start = clock::now() + Nanos::from_millis(200.0) + Nanos::from_secs(scenario.settle);
    let window = Window {
        start,
        end: start + Nanos::from_secs(scenario.seconds),
    };
    let own: Result<Vec<_>> = started
        .reaches
        .iter()
        .map(|reach| own_traffic(&topology, scenario, variant, reach, window))
        .collect();
    let (own, others) = (own?, neighbours_traffic(&topology, scenario, variant, window)?);

    wait_until(window.start, &mut started, &mut |_| Ok(()))?;
    emulator.begin();
    let machine = Machine::now();
    let emulator_cpu_before = emulator.report()?.cpu;
    let processes_before = processes(&started);
    let mut snapshots = vec![Snapshot::take(&started, 0.0)];
    // Where links are emulated, the cost of a packet is not what is looked at.
    let counting = (scenario.bare && kind == Kind::Sennit).then(|| Instructions::count(&started));
    let events = happen(
        &scenario.events,
        &topology,
        &emulator,
        &mut started,
        window,
        &mut |moment, started| {
            snapshots.push(Snapshot::take(started, moment.at));
            watch(moment);
        },
    )?;
    snapshots.push(Snapshot::take(&started, scenario.seconds));
    let instructions = counting.map(Instructions::finish);
    let used = processes(&started).into_iter().zip(processes_before);
    let used = used
        .map(|((side, cpu, memory), (_, before, _))| (side, cpu - before, memory))
        .collect();
    let strain = Machine::now().since(&machine);
    let report = emulator.report()?;
    let drops = drops(&topology, &started)?;

    let names = started.reaches.iter().map(|reach| reach.name.clone());
    let own: Result<Vec<_>> = names
        .zip(own)
        .map(|(name, traffic)| Ok((name, traffic.finish()?)))
        .collect();
    let observed = Observed {
        window,
        own: own?,
        others: others.finish()?,
        report,
        emulator_cpu_before,
        strain,
        processes: used,
        snapshots,
        instructions,
        events,
        drops,
    };
    Ok(outcomes(settings, &observed))
}

/// Seconds of processor time and resident bytes of each process.
fn processes(started: &Started) -> Vec<(Side, f64, u64)> {
    started
        .processes
        .iter()
        .map(|process| (process.side, process.cpu(), process.memory()))
        .collect()
}
