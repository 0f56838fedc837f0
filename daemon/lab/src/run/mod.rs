//! One run: build the network, start a contestant, send the traffic, let the events happen, and judge the conditions.

mod conditions;
mod flows;

use std::sync::atomic::Ordering;

use crate::Result;
use crate::contestant::{Kind, Started, Tools};
use crate::emulator::{Emulator, Report, Way};
use crate::interrupt;
use crate::link::Change;
use crate::machine::Machine;
use crate::measure::{self, Measures, link_bins};
use crate::scenario::{Action, Event, Scenario, Side, Variant};
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::{Plan, Topology, wan_interface};
use crate::traffic::bulk::{self, BulkReport};
use crate::traffic::probe::{self, ProbeReport};
use crate::traffic::{Reach, Window};

use conditions::{condition_notes, congestion_notes, drops, judge};
use flows::{Seen, Traffic, neighbours_traffic, own_traffic};

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
    let topology = Topology::new(Plan {
        wans: scenario
            .links
            .iter()
            .map(|link| (link.up.clone(), link.down.clone()))
            .collect(),
        neighbours: scenario.neighbours(),
        bare: scenario.bare,
    })?;
    let emulator = Emulator::start(topology.links(), seed)?;
    let mut started = kind.start(&topology, scenario, variant, tools)?;
    let before = Machine::now();
    let lab_cpu_before = emulator.report()?.cpu;
    let process_cpu_before = cpu_of(&started);
    let start = clock::now() + Nanos::from_millis(200.0);
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
    clock::sleep_until(window.start);
    emulator.begin();
    let events = happen(
        &scenario.events,
        &topology,
        &emulator,
        &mut started,
        window,
        watch,
    )?;
    let process_cpu = cpu_of(&started);
    let strain = Machine::now().since(&before);
    let report = emulator.report()?;
    let tunnel_drops = drops(&topology, &started)?;
    let own: Result<Vec<Seen>> = own.into_iter().map(Traffic::finish).collect();
    let (own, others) = (own?, others.finish()?);

    let mut notes = condition_notes(
        &report,
        &strain,
        report.cpu.saturating_sub(lab_cpu_before),
        &tunnel_drops,
    );
    let mut invalid = judge(scenario, &report, &strain);
    let multiple = own.len() > 1;
    let mut outcomes = Vec::new();
    for (number, (reach, seen)) in started.reaches.iter().zip(&own).enumerate() {
        let ideal = if multiple {
            scenario.ideal_of(number, variant.way)
        } else {
            scenario.ideal(variant.way)
        };
        let mut measures = Measures::default();
        let load = seen.bulks.iter().map(|bulk| bulk.window.start).min();
        let reports: Vec<&BulkReport> = seen.bulks.iter().collect();
        measure::bulk(&mut measures, "", &reports, ideal);
        seen.probes
            .iter()
            .for_each(|report| measure::probe(&mut measures, "", report, load));
        if !seen.pages.is_empty() {
            measure::pages(&mut measures, "", &seen.pages, load);
        }
        notes.extend(congestion_notes(&reports, &mut invalid));
        if !multiple {
            crate::response::measures(&mut measures, scenario, variant.way, &reports, &report, window);
            neighbour_measures(&mut measures, &others, scenario, &report, window);
            let bytes: u64 = seen
                .bulks
                .iter()
                .flat_map(|bulk| &bulk.flows)
                .map(bulk::FlowReport::bytes)
                .sum();
            for (side, before, after) in process_cpu_before
                .iter()
                .zip(&process_cpu)
                .map(|(b, a)| (a.0, b.1, a.1))
            {
                measures.add(
                    format!("cpu.{side}"),
                    "s/GB",
                    (after - before) / (bytes as f64 / 1e9),
                );
            }
            for process in &started.processes {
                measures.add(
                    format!("memory.{}", process.side),
                    "MB",
                    process.memory() as f64 / 1e6,
                );
            }
        }
        if !multiple && !report.links.is_empty() {
            measure::links(&mut measures, &report.links, variant.way);
        }
        for (wan, link) in report.links.iter().enumerate() {
            let name = wan_interface(wan);
            if !multiple || name == reach.name {
                measure::link(&mut measures, &name, link, report.until.since(window.start));
            }
        }
        let shown = |wan: usize| !multiple || wan_interface(wan) == reach.name;
        let wans = report.links.iter().enumerate().filter(|(wan, _)| shown(*wan));
        outcomes.push(Outcome {
            contestant: if multiple {
                format!("{}:{}", kind.name(), reach.name)
            } else {
                kind.name().to_owned()
            },
            measures,
            invalid: Vec::new(),
            notes: Vec::new(),
            timeline: Timeline {
                goodput: measure::combined(&reports),
                wans: wans
                    .map(|(_, link)| link_bins(link, variant.way, report.started, window.start))
                    .collect(),
                round_trips: seen
                    .probes
                    .first()
                    .map(|probe| round_trips(probe, window))
                    .unwrap_or_default(),
                events: events.clone(),
            },
        });
    }
    if multiple {
        outcomes.extend(together(&outcomes));
    }
    for outcome in &mut outcomes {
        outcome.invalid.clone_from(&invalid);
        outcome.notes.clone_from(&notes);
    }
    Ok(outcomes)
}

/// Lets the events happen, and returns at the end of the window what happened when.
fn happen(
    events: &[Event],
    topology: &Topology,
    emulator: &Emulator,
    started: &mut Started,
    window: Window,
    watch: &mut Watch<'_>,
) -> Result<Vec<(f64, String)>> {
    let mut happened = Vec::new();
    for event in events.iter().filter(|event| window.start + event.at < window.end) {
        wait_until(window.start + event.at, started, &mut |started| {
            look(watch, emulator, started, window, &happened)
        })?;
        match &event.action {
            Action::Change { link, ways, change } => {
                ways.iter()
                    .for_each(|way| emulator.change(*link, *way, change.clone()));
            }
            Action::Plug { link, plugged } => topology.plug(*link, *plugged)?,
            Action::Kill(side) => started.side(*side).for_each(crate::contestant::Process::kill),
            Action::Restart(side) => started
                .side(*side)
                .try_for_each(crate::contestant::Process::restart)?,
        }
        happened.push((clock::now().since(window.start).secs(), describe(&event.action)));
    }
    wait_until(window.end, started, &mut |started| {
        look(watch, emulator, started, window, &happened)
    })?;
    Ok(happened)
}

/// How often who watches is told.
const GLANCE: Nanos = Nanos(200_000_000);

fn wait_until(at: Nanos, started: &mut Started, look: &mut dyn FnMut(&Started) -> Result<()>) -> Result<()> {
    // The last moment is waited for precisely.
    let early = at - Nanos::from_millis(25.0);
    while clock::now() < early {
        let wait = early.since(clock::now()).min(GLANCE);
        interrupt::wait(wait.into(), || started.check().map(|()| false))?;
        look(started)?;
    }
    clock::sleep_until(at);
    Ok(())
}

/// Tells who watches how it stands.
fn look(
    watch: &mut Watch<'_>,
    emulator: &Emulator,
    started: &Started,
    window: Window,
    events: &[(f64, String)],
) -> Result<()> {
    let received = |reach: &Reach| reach.progress.received.load(Ordering::Relaxed);
    let trip = started
        .reaches
        .first()
        .map_or(0, |reach| reach.progress.round_trip.load(Ordering::Relaxed));
    watch(&Moment {
        at: clock::now().since(window.start).secs(),
        wans: emulator.delivered()?,
        received: started.reaches.iter().map(received).sum(),
        round_trip: (trip > 0).then(|| Nanos(trip).millis()),
        events,
    });
    Ok(())
}

/// What happens, in a few words.
pub fn describe(action: &Action) -> String {
    match action {
        Action::Change { link, ways, change } => {
            let name = wan_interface(*link);
            let way = match ways.as_slice() {
                [Way::Up] => " up",
                [Way::Down] => " down",
                _ => "",
            };
            match change {
                Change::Silence => format!("{name}{way} silent"),
                Change::Heal => format!("{name}{way} healed"),
                Change::Rate(rate) => format!("{name}{way} {} Mbit/s", *rate as f64 / 1e6),
                Change::Delay(delay) => format!("{name}{way} {} ms", delay.millis()),
                Change::Loss(loss) => format!("{name}{way} loses {} %", loss.share() * 100.0),
                Change::Jitter(_) => format!("{name}{way} jitter"),
            }
        }
        Action::Plug { link, plugged: true } => format!("{} plugged in", wan_interface(*link)),
        Action::Plug { link, plugged: false } => format!("{} unplugged", wan_interface(*link)),
        Action::Kill(side) => format!("{side} killed"),
        Action::Restart(side) => format!("{side} started"),
    }
}

/// Goodput of neighbours, and the share of their link that was not theirs.
fn neighbour_measures(
    measures: &mut Measures,
    others: &Seen,
    scenario: &Scenario,
    report: &Report,
    window: Window,
) {
    let reports: Vec<&BulkReport> = others.bulks.iter().collect();
    if !reports.is_empty() {
        measure::bulk(measures, "neighbour.", &reports, f64::NAN);
    }
    others
        .probes
        .iter()
        .for_each(|report| measure::probe(measures, "neighbour.", report, None));
    let Some((first, wan)) = others.bulks.first().zip(scenario.neighbours().first().copied()) else {
        return;
    };
    let Some(link) = report.links.get(wan) else { return };
    let start = first.window.start;
    let carried: u64 = link_bins(link, first.plan.way, report.started, start)
        .iter()
        .sum();
    let theirs: u64 = others
        .bulks
        .iter()
        .flat_map(|bulk| &bulk.flows)
        .map(bulk::FlowReport::bytes)
        .sum();
    let theirs = theirs as f64 * 1514.0 / 1448.0;
    debug_assert!(start >= window.start);
    measures.add(
        "bond_share_of_shared_link",
        "",
        1.0 - theirs / (carried as f64).max(1.0),
    );
}

/// `direct:sum` and `direct:best`, of what each WAN did by itself.
fn together(each: &[Outcome]) -> Vec<Outcome> {
    let goodputs: Vec<f64> = each
        .iter()
        .filter_map(|outcome| outcome.measures.value("goodput"))
        .collect();
    let name = |suffix: &str| format!("{}:{suffix}", Kind::Direct.name());
    let empty = |contestant: String, measures: Measures| Outcome {
        contestant,
        measures,
        invalid: Vec::new(),
        notes: Vec::new(),
        timeline: Timeline::default(),
    };
    let mut sum = Measures::default();
    if !goodputs.is_empty() {
        sum.add("goodput", "Mbit/s", goodputs.iter().sum());
    }
    // The best WAN is the one with the most goodput, or, where nothing is downloaded, the shortest round trip.
    let rank = |outcome: &Outcome| {
        let trip = outcome
            .measures
            .0
            .iter()
            .find(|measure| measure.name.ends_with(".rtt_p50"));
        outcome
            .measures
            .value("goodput")
            .or(trip.map(|trip| -trip.value))
            .unwrap_or(f64::NEG_INFINITY)
    };
    let best = each.iter().max_by(|a, b| rank(a).total_cmp(&rank(b)));
    let best = best.map(|best| Outcome {
        contestant: name("best"),
        ..best.clone()
    });
    [Some(empty(name("sum"), sum)), best]
        .into_iter()
        .flatten()
        .collect()
}

fn round_trips(probe: &ProbeReport, window: Window) -> Vec<(f64, f64)> {
    let trip = |sample: &probe::Sample| {
        sample
            .back
            .map_or(f64::NAN, |back| back.since(sample.sent).millis())
    };
    probe
        .samples
        .iter()
        .map(|sample| (sample.sent.since(window.start).secs(), trip(sample)))
        .collect()
}

fn cpu_of(started: &Started) -> Vec<(Side, f64)> {
    started
        .processes
        .iter()
        .map(|process| (process.side, process.cpu()))
        .collect()
}
