//! From what was observed in a run to what each contestant gets written down.

use super::conditions::{condition_notes, congestion_notes, judge};
use super::flows::Seen;
use super::{Outcome, Settings, Timeline};
use crate::contestant::bond::{self, Snapshot};
use crate::contestant::{Kind, program_file};
use crate::emulator::Report;
use crate::machine::Strain;
use crate::measure::{self, Measures, link_bins};
use crate::response;
use crate::scenario::{Scenario, Side};
use crate::topology::wan_interface;
use crate::traffic::Window;
use crate::traffic::bulk::FlowReport;
use crate::traffic::probe::{self, ProbeReport};

/// All that was seen of a run.
pub(super) struct Observed {
    pub(super) window: Window,
    /// Name of each reach, and the traffic over it.
    pub(super) own: Vec<(String, Seen)>,
    /// Traffic beside the contestant.
    pub(super) others: Seen,
    /// The emulator at the end.
    pub(super) report: Report,
    /// Its processor time before the traffic, in nanoseconds.
    pub(super) emulator_cpu_before: u64,
    pub(super) strain: Strain,
    /// Seconds of processor time and resident bytes of each of the contestant's processes.
    pub(super) processes: Vec<(Side, f64, u64)>,
    pub(super) snapshots: Vec<Snapshot>,
    /// Instructions of each end, as far as they could be counted; none where nobody wanted to.
    pub(super) instructions: Option<Vec<(Side, f64)>>,
    pub(super) events: Vec<(f64, String)>,
    /// What the contestant's interfaces and sockets dropped.
    pub(super) drops: Vec<String>,
}

/// The outcome of each reach, and for several of them that of their sum and their best.
pub(super) fn outcomes(settings: &Settings<'_>, observed: &Observed) -> Vec<Outcome> {
    let Settings {
        scenario,
        variant,
        kind,
        ..
    } = *settings;
    let report = &observed.report;
    let cpu = report.cpu.saturating_sub(observed.emulator_cpu_before);
    let mut notes = condition_notes(report, &observed.strain, cpu, &observed.drops);
    let mut invalid = judge(scenario, report, &observed.strain);
    for (_, seen) in &observed.own {
        notes.extend(congestion_notes(&seen.bulks, &mut invalid));
    }
    if observed.instructions.as_ref().is_some_and(Vec::is_empty) {
        notes
            .push("instructions: not measured, because perf counts none here or is not installed".to_owned());
    }
    let single = observed.own.len() == 1;
    let mut outcomes: Vec<Outcome> = observed
        .own
        .iter()
        .enumerate()
        .map(|(number, (name, seen))| Outcome {
            contestant: if single {
                kind.name().to_owned()
            } else {
                format!("{}:{name}", kind.name())
            },
            measures: measures(settings, observed, seen, (!single).then_some(number)),
            invalid: Vec::new(),
            notes: Vec::new(),
            timeline: Timeline {
                goodput: measure::combined(&seen.bulks),
                wans: (0..report.links.len())
                    .filter(|wan| single || *wan == number)
                    .map(|wan| {
                        link_bins(
                            &report.links[wan],
                            variant.way,
                            report.started,
                            observed.window.start,
                        )
                    })
                    .collect(),
                round_trips: seen
                    .probes
                    .first()
                    .map(|probe| round_trips(probe, observed.window))
                    .unwrap_or_default(),
                events: observed.events.clone(),
                bond: observed.snapshots.clone(),
            },
        })
        .collect();
    if !single {
        outcomes.extend(together(&outcomes));
    }
    for outcome in &mut outcomes {
        outcome.invalid.clone_from(&invalid);
        outcome.notes.clone_from(&notes);
    }
    outcomes
}

/// Figures of one reach: of that WAN alone, or of a contestant that has them all.
fn measures(settings: &Settings<'_>, observed: &Observed, seen: &Seen, alone: Option<usize>) -> Measures {
    let Settings {
        scenario, variant, ..
    } = *settings;
    let (report, window) = (&observed.report, observed.window);
    let mut measures = Measures::default();
    let load = seen.bulks.iter().map(|bulk| bulk.window.start).min();
    let ideal = alone.map_or_else(
        || scenario.ideal(variant.way),
        |wan| scenario.ideal_of(wan, variant.way),
    );
    measure::bulk(&mut measures, "", &seen.bulks, ideal);
    seen.probes
        .iter()
        .for_each(|report| measure::probe(&mut measures, "", report, load));
    if !seen.pages.is_empty() {
        measure::pages(&mut measures, "", &seen.pages, load);
    }
    seen.floods
        .iter()
        .for_each(|report| measure::flood(&mut measures, report));
    let span = report.until.since(window.start);
    for (wan, link) in report
        .links
        .iter()
        .enumerate()
        .filter(|(wan, _)| alone.is_none_or(|alone| alone == *wan))
    {
        measure::link(&mut measures, &wan_interface(wan), link, span);
    }
    response::gaps(&mut measures, scenario, seen, window);
    if let Some(alone) = alone {
        measure::links(
            &mut measures,
            report.links.get(alone..=alone).unwrap_or_default(),
            variant.way,
        );
        return measures;
    }
    response::measures(&mut measures, scenario, variant.way, &seen.bulks, report, window);
    if !report.links.is_empty() {
        measure::links(&mut measures, &report.links, variant.way);
        if !seen.bulks.is_empty() {
            let capacity = scenario.capacity_against(variant.way);
            measure::against(&mut measures, &report.links, variant.way, capacity, span);
        }
        measures.add(
            "inner_frames_on_wans",
            "",
            report.links.iter().map(|link| link.inner_frames as f64).sum(),
        );
    }
    if let (Some(first), Some(last)) = (observed.snapshots.first(), observed.snapshots.last()) {
        let instructions = observed.instructions.as_deref().unwrap_or_default();
        bond::measures(&mut measures, first, last, instructions);
    }
    neighbour_measures(&mut measures, &observed.others, scenario, report);
    let gigabytes = seen
        .bulks
        .iter()
        .flat_map(|bulk| &bulk.flows)
        .map(FlowReport::bytes)
        .sum::<u64>() as f64
        / 1e9;
    if let Some((size, is_static)) = settings
        .tools
        .sennit
        .as_deref()
        .filter(|_| settings.kind == Kind::Sennit)
        .and_then(program_file)
    {
        measures.add("program.size", "MB", size);
        measures.add("program.static", "", f64::from(u8::from(is_static)));
    }
    for (side, cpu, memory) in &observed.processes {
        measures.add(format!("cpu.{side}"), "s/GB", cpu / gigabytes);
        measures.add(format!("cpu_share.{side}"), "", cpu / scenario.seconds);
        measures.add(format!("memory.{side}"), "MB", *memory as f64 / 1e6);
    }
    measures
}

/// Goodput of neighbours, and the share of their link that was not theirs.
fn neighbour_measures(measures: &mut Measures, others: &Seen, scenario: &Scenario, report: &Report) {
    measure::bulk(measures, "neighbour.", &others.bulks, f64::NAN);
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
        .map(FlowReport::bytes)
        .sum();
    let theirs = theirs as f64 * 1514.0 / 1448.0;
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
