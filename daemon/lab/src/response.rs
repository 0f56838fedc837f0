//! How a contestant answered to what happened on the way: how soon the new rate was reached, a healed link used, a bad
//! one left, and how long the queue was meanwhile.

use crate::emulator::{BIN, Report, Way};
use crate::link::{Change, Loss};
use crate::measure::{Measures, combined, link_bins, megabits};
use crate::run::Seen;
use crate::scenario::{Action, Scenario};
use crate::time::Nanos;
use crate::topology::wan_interface;
use crate::traffic::Window;
use crate::traffic::bulk::BulkReport;

/// Gaps are looked for from just before an event to this long after it.
const AFTER: Nanos = Nanos(3_000_000_000);

/// The longest gaps around each event: of bulk payload, and of each probe's datagrams either way. What happened at
/// other times (a queue that fills when a transfer begins) is no answer to the event.
pub(crate) fn gaps(measures: &mut Measures, scenario: &Scenario, seen: &Seen, window: Window) {
    for (number, event) in scenario.events.iter().enumerate() {
        let at = window.start + event.at;
        let until = (at + AFTER).min(window.end);
        if at >= until {
            continue;
        }
        for probe in &seen.probes {
            let prefix = format!("event{number}.{}", probe.plan.name);
            let up = longest_gap(probe.samples.iter().filter_map(|sample| sample.there), at, until);
            let down = longest_gap(probe.samples.iter().filter_map(|sample| sample.back), at, until);
            measures.add(format!("{prefix}.gap_up"), "ms", up);
            measures.add(format!("{prefix}.gap_down"), "ms", down);
        }
        let Some(start) = seen.bulks.iter().map(|bulk| bulk.window.start).min() else {
            continue;
        };
        let index = |time: Nanos| (time.since(start).0 / BIN.0) as usize;
        let bins = combined(&seen.bulks);
        let mut zeros = (0, 0);
        for bin in index(at)..index(until) {
            zeros.0 = if bins.get(bin).copied().unwrap_or(0) == 0 {
                zeros.0 + 1
            } else {
                0
            };
            zeros.1 = zeros.1.max(zeros.0);
        }
        measures.add(
            format!("event{number}.longest_zero"),
            "ms",
            Nanos(zeros.1 * BIN.0).millis(),
        );
    }
}

/// The longest time without an arrival that reaches into a span, in milliseconds; the span's end counts as an arrival.
fn longest_gap(arrivals: impl Iterator<Item = Nanos>, from: Nanos, until: Nanos) -> f64 {
    let mut times: Vec<Nanos> = arrivals.filter(|time| *time <= until).collect();
    times.push(until);
    times.sort();
    let gaps = times.windows(2).filter(|pair| pair[1] >= from);
    gaps.map(|pair| pair[1].since(pair[0]).millis())
        .fold(f64::NAN, f64::max)
}

/// The new rate counts as reached over this time.
const REACHED_OVER: usize = 50;
/// A link counts as used, or as left, over this time.
const USED_OVER: usize = 10;

/// Adds figures for each event of the scenario that asks for an answer.
pub(crate) fn measures(
    measures: &mut Measures,
    scenario: &Scenario,
    way: Way,
    bulks: &[BulkReport],
    report: &Report,
    window: Window,
) {
    let shape = |link: usize| scenario.links[link].way(way);
    let mut rates: Vec<f64> = (0..scenario.links.len())
        .map(|link| shape(link).service.mean_rate(window.end.since(window.start)) / 1e6)
        .collect();
    let losses: Vec<f64> = (0..scenario.links.len())
        .map(|link| shape(link).loss.share())
        .collect();
    let goodput = combined(bulks);
    let bulk_start = bulks
        .iter()
        .map(|bulk| bulk.window.start)
        .min()
        .unwrap_or(window.start);
    for (number, event) in scenario.events.iter().enumerate() {
        let at = window.start + event.at;
        let next = scenario
            .events
            .get(number + 1)
            .map_or(window.end, |next| (window.start + next.at).min(window.end));
        if at >= window.end {
            continue;
        }
        let (link, change) = match &event.action {
            Action::Change { link, ways, change } if ways.contains(&way) => (*link, change.clone()),
            Action::Plug { link, plugged: true } => (*link, Change::Heal),
            _ => continue,
        };
        let name = wan_interface(link);
        let Some(carried) = report.links.get(link) else {
            continue;
        };
        let used = link_bins(carried, way, report.started, at);
        match change {
            Change::Rate(rate) => {
                rates[link] = rate as f64 / 1e6;
                let ideal: f64 = rates
                    .iter()
                    .zip(&losses)
                    .map(|(rate, loss)| rate * (1.0 - loss))
                    .sum();
                let wanted = 0.8 * ideal * 1448.0 / 1514.0;
                let skip = (at.since(bulk_start).0 / BIN.0) as usize;
                let reached = first_window(goodput.get(skip..).unwrap_or(&[]), REACHED_OVER, |rate| {
                    rate >= wanted
                });
                // Never is as long as the run: a missing figure would look like a good one.
                let reached = reached.unwrap_or(window.end.since(at));
                measures.add(format!("event{number}.reached"), "s", reached.secs());
                let queue = longest_queue(report, link, way, at + Nanos::from_secs(1.0), next, rate);
                measures.add(format!("event{number}.queue_after_1s"), "ms", queue);
            }
            Change::Heal => {
                let wanted = 0.1 * rates[link];
                let used =
                    first_window(&used, USED_OVER, |rate| rate >= wanted).unwrap_or(window.end.since(at));
                measures.add(format!("event{number}.{name}_used_again"), "s", used.secs());
            }
            Change::Loss(Loss::Random(_)) | Change::Delay(_) => {
                let limit = 0.1 * rates[link];
                let left =
                    first_window(&used, USED_OVER, |rate| rate <= limit).unwrap_or(window.end.since(at));
                measures.add(format!("event{number}.{name}_left"), "s", left.secs());
            }
            Change::Silence | Change::Loss(_) | Change::Jitter(_) => {}
        }
    }
}

/// When the rate over `width` bins is first as wanted: the beginning of those bins.
fn first_window(bins: &[u64], width: usize, wanted: impl Fn(f64) -> bool) -> Option<Nanos> {
    let span = Nanos(BIN.0 * width as u64);
    let found = bins
        .windows(width)
        .position(|window| wanted(megabits(window.iter().sum(), span)));
    found.map(|index| Nanos(index as u64 * BIN.0))
}

/// The longest queue between two moments, in milliseconds of the link's rate.
fn longest_queue(report: &Report, link: usize, way: Way, from: Nanos, to: Nanos, rate: u64) -> f64 {
    let index = |at: Nanos| (at.since(report.started).0 / BIN.0) as usize;
    let Some(link) = report.links.get(link) else {
        return f64::NAN;
    };
    let bins = link
        .way(way)
        .bins
        .iter()
        .skip(index(from))
        .take(index(to).saturating_sub(index(from)));
    let most = bins.map(|bin| bin.queued).max().unwrap_or(0);
    f64::from(most) * 8000.0 / rate.max(1) as f64
}
