//! From what was seen to figures: each with a name, a unit and a value.

use serde::Serialize;

use crate::emulator::{BIN, LinkReport, Way};
use crate::histogram::Histogram;
use crate::time::Nanos;
use crate::traffic::bulk::BulkReport;
use crate::traffic::flood::FloodReport;
use crate::traffic::page::Page;
use crate::traffic::probe::{ProbeReport, Sample};

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// What it is; dots lead from the general to the particular.
    pub name: String,
    /// Its unit; empty for a share or a count.
    pub unit: &'static str,
    /// Its value.
    pub value: f64,
}

/// Figures of one run, in the order of the report.
#[derive(Clone, Debug, Default)]
pub struct Measures(pub Vec<Measure>);

impl Measures {
    /// Adds a figure, unless it is none.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        if value.is_finite() {
            self.0.push(Measure {
                name: name.into(),
                unit,
                value,
            });
        }
    }

    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|measure| measure.name == name)
            .map(|measure| measure.value)
    }
}

/// Figures of bulk transfers that belong together. `ideal` is what the links can carry, in Mbit/s.
pub fn bulk(measures: &mut Measures, prefix: &str, reports: &[BulkReport], ideal: f64) {
    let (Some(start), Some(end)) = (
        reports.iter().map(|report| report.window.start).min(),
        reports.iter().map(|report| report.window.end).max(),
    ) else {
        return;
    };
    let flows: Vec<_> = reports.iter().flat_map(|report| &report.flows).collect();
    let bytes: u64 = flows.iter().map(|flow| flow.bytes()).sum();
    let goodput = megabits(bytes, end.since(start));
    measures.add(format!("{prefix}goodput"), "Mbit/s", goodput);
    if ideal.is_finite() {
        measures.add(format!("{prefix}share_of_ideal"), "", goodput / ideal);
    }
    let first = flows.iter().filter_map(|flow| flow.ten_megabytes).min();
    measures.add(
        format!("{prefix}ten_megabytes"),
        "s",
        first.map_or(f64::NAN, Nanos::secs),
    );
    measures.add(
        format!("{prefix}longest_zero"),
        "ms",
        longest_zero(&combined(reports), end.since(start)).millis(),
    );
    let sum = |field: fn(&crate::traffic::bulk::FlowReport) -> u32| {
        flows.iter().map(|flow| f64::from(field(flow))).sum::<f64>()
    };
    let segments = sum(|flow| flow.sender.segments_out).max(1.0);
    measures.add(
        format!("{prefix}retransmits"),
        "",
        sum(|flow| flow.sender.retransmits) / segments,
    );
    measures.add(
        format!("{prefix}spurious_retransmits"),
        "",
        sum(|flow| flow.sender.spurious) / segments,
    );
    measures.add(
        format!("{prefix}out_of_order"),
        "",
        sum(|flow| flow.receiver.out_of_order) / segments,
    );
    if flows.len() > 1 {
        measures.add(
            format!("{prefix}jain"),
            "",
            jain(&flows.iter().map(|flow| flow.bytes() as f64).collect::<Vec<_>>()),
        );
    }
}

/// Payload of all flows in bins of [`BIN`] from the first window's start.
pub fn combined(reports: &[BulkReport]) -> Vec<u64> {
    let Some(start) = reports.iter().map(|report| report.window.start).min() else {
        return Vec::new();
    };
    let mut bins = Vec::new();
    for report in reports {
        let shift = (report.window.start.since(start).0 / BIN.0) as usize;
        for flow in &report.flows {
            if bins.len() < flow.bins.len() + shift {
                bins.resize(flow.bins.len() + shift, 0);
            }
            for (index, bytes) in flow.bins.iter().enumerate() {
                bins[index + shift] += u64::from(*bytes);
            }
        }
    }
    bins
}

/// The longest time without payload after the first has come, the end of the run included.
fn longest_zero(bins: &[u64], span: Nanos) -> Nanos {
    let count = (span.0 / BIN.0) as usize;
    let Some(first) = bins.iter().position(|bytes| *bytes > 0) else {
        return span;
    };
    let (mut longest, mut current) = (0, 0);
    for index in first..count {
        current = if bins.get(index).copied().unwrap_or(0) == 0 {
            current + 1
        } else {
            0
        };
        longest = longest.max(current);
    }
    Nanos(longest * BIN.0)
}

/// Jain's index of fairness: 1 if all are alike, 1/n if one has everything.
pub fn jain(values: &[f64]) -> f64 {
    let (sum, squares) = values.iter().fold((0.0, 0.0), |(sum, squares), value| {
        (sum + value, squares + value * value)
    });
    sum * sum / (values.len() as f64 * squares).max(f64::MIN_POSITIVE)
}

/// Figures of a probe; `load` is when the first bulk transfer begins, if that is later than the probe.
pub fn probe(measures: &mut Measures, prefix: &str, report: &ProbeReport, load: Option<Nanos>) {
    let prefix = format!("{prefix}{}.", report.plan.name);
    let samples = &report.samples;
    let trips = |samples: &[Sample]| {
        sorted(
            samples
                .iter()
                .filter_map(|sample| Some(sample.back?.since(sample.sent).millis())),
        )
    };
    let all = trips(samples);
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        measures.add(format!("{prefix}rtt_{name}"), "ms", quantile(&all, share));
    }
    let up = sorted(
        samples
            .iter()
            .filter_map(|sample| Some(sample.there?.since(sample.sent).millis())),
    );
    let down = sorted(
        samples
            .iter()
            .filter_map(|sample| Some(sample.back?.since(sample.there?).millis())),
    );
    for (name, times) in [("up", &up), ("down", &down)] {
        measures.add(format!("{prefix}{name}_p50"), "ms", quantile(times, 0.5));
        measures.add(format!("{prefix}{name}_p99"), "ms", quantile(times, 0.99));
        measures.add(format!("{prefix}{name}_p999"), "ms", quantile(times, 0.999));
    }
    measures.add(format!("{prefix}sent"), "", samples.len() as f64);
    measures.add(
        format!("{prefix}lost"),
        "",
        samples.iter().filter(|sample| sample.back.is_none()).count() as f64,
    );
    measures.add(
        format!("{prefix}lost_up"),
        "",
        samples.iter().filter(|sample| sample.there.is_none()).count() as f64,
    );
    measures.add(
        format!("{prefix}gap_up"),
        "ms",
        longest_gap(samples.iter().filter_map(|sample| sample.there)),
    );
    measures.add(
        format!("{prefix}gap_down"),
        "ms",
        longest_gap(samples.iter().filter_map(|sample| sample.back)),
    );
    measures.add(format!("{prefix}duplicates"), "", report.duplicates as f64);
    if let Some(load) = load.filter(|load| *load > report.window.start + Nanos::from_millis(500.0)) {
        let split = samples.partition_point(|sample| sample.sent < load);
        let (idle, loaded) = (trips(&samples[..split]), trips(&samples[split..]));
        let idle = quantile(&idle, 0.5);
        measures.add(format!("{prefix}idle_p50"), "ms", idle);
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            measures.add(
                format!("{prefix}added_{name}"),
                "ms",
                quantile(&loaded, share) - idle,
            );
        }
    }
}

/// Figures of page loads, alone and beside a transfer that begins at `load`.
pub fn pages(measures: &mut Measures, prefix: &str, pages: &[Page], load: Option<Nanos>) {
    let load = load.unwrap_or(Nanos::NEVER);
    let median = |loaded: bool| {
        let times = pages
            .iter()
            .filter(|page| (page.at >= load) == loaded)
            .map(|page| page.took.secs());
        quantile(&sorted(times), 0.5)
    };
    let (alone, loaded) = (median(false), median(true));
    measures.add(format!("{prefix}page.alone"), "s", alone);
    measures.add(format!("{prefix}page.loaded"), "s", loaded);
    measures.add(format!("{prefix}page.ratio"), "", loaded / alone);
}

/// Figures of datagrams at rising rates: the most that came in a step in which at most 1 % was lost.
pub fn flood(measures: &mut Measures, report: &FloodReport) {
    let good = report
        .steps()
        .into_iter()
        .filter(|step| step.arrived as f64 >= 0.99 * step.sent as f64);
    measures.add(
        "flood.most",
        "1/s",
        good.map(|step| step.rate).fold(0.0, f64::max),
    );
    measures.add("flood.reordered", "", report.reordered() as f64);
}

/// Figures of an emulated link over the whole run.
pub fn link(measures: &mut Measures, name: &str, report: &LinkReport, span: Nanos) {
    let mut bytes_per_hour = 0.0;
    for (way, direction) in [("up", &report.up), ("down", &report.down)] {
        let prefix = format!("{name}.{way}.");
        let counters = direction.counters;
        measures.add(
            format!("{prefix}rate"),
            "Mbit/s",
            megabits(counters.bytes_out, span),
        );
        let hours = span.secs() / 3600.0;
        bytes_per_hour += counters.bytes_out as f64 / hours;
        measures.add(format!("{prefix}losses"), "", counters.losses as f64);
        let dropped = (counters.queue_drops + counters.policer_drops) as f64;
        measures.add(
            format!("{prefix}drop_share"),
            "",
            dropped / counters.frames_in.max(1) as f64,
        );
        measures.add(
            format!("{prefix}added_p50"),
            "ms",
            direction.added_delay.quantile(0.5).millis(),
        );
        measures.add(
            format!("{prefix}added_p99"),
            "ms",
            direction.added_delay.quantile(0.99).millis(),
        );
    }
    measures.add(
        format!("{name}.kilobytes_per_hour"),
        "KB/h",
        bytes_per_hour / 1000.0,
    );
}

/// Figures of all links together, one way: what waiting in their queues and their variation added.
pub fn links(measures: &mut Measures, reports: &[LinkReport], way: Way) {
    if reports.is_empty() {
        return;
    }
    let mut added = Histogram::new();
    reports
        .iter()
        .for_each(|report| added.merge(&report.way(way).added_delay));
    measures.add("links.added_p50", "ms", added.quantile(0.5).millis());
    measures.add("links.added_p99", "ms", added.quantile(0.99).millis());
}

/// Which share of what the links carry against a bulk transfer its acknowledgements take, the tunnel's own and
/// inner ones together. `capacity` is the sum of their rates that way in Mbit/s.
pub fn against(measures: &mut Measures, reports: &[LinkReport], way: Way, capacity: f64, span: Nanos) {
    let way = match way {
        Way::Up => Way::Down,
        Way::Down => Way::Up,
    };
    let bytes = reports
        .iter()
        .map(|report| report.way(way).counters.bytes_out)
        .sum();
    if capacity.is_finite() && capacity > 0.0 {
        measures.add("links.against_share", "", megabits(bytes, span) / capacity);
    }
}

/// Bytes of one direction of a link in bins of [`BIN`], from `start` on.
pub fn link_bins(report: &LinkReport, way: Way, began: Nanos, start: Nanos) -> Vec<u64> {
    let skip = (start.since(began).0 / BIN.0) as usize;
    report
        .way(way)
        .bins
        .iter()
        .skip(skip)
        .map(|bin| u64::from(bin.bytes))
        .collect()
}

/// Mbit/s of bytes over a span.
pub fn megabits(bytes: u64, span: Nanos) -> f64 {
    bytes as f64 * 8.0 / span.secs().max(1e-9) / 1e6
}

/// Values in ascending order.
pub fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value that this share of sorted ones stays at or under; not a number if there are none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(index.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The longest time between two arrivals in milliseconds.
fn longest_gap(times: impl Iterator<Item = Nanos>) -> f64 {
    let times = sorted(times.map(Nanos::millis));
    times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(f64::NAN, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_zero_counts_the_end_but_not_the_beginning() {
        let millis = |count| Nanos(count * BIN.0);
        assert_eq!(longest_zero(&[0, 0, 0, 5, 0, 0, 7], millis(7)), millis(2));
        assert_eq!(longest_zero(&[5, 0, 7], millis(9)), millis(6));
        assert_eq!(longest_zero(&[], millis(9)), millis(9));
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values = sorted([3.0, 1.0, 2.0, 4.0].into_iter());
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&values, share)),
            [1.0, 2.0, 4.0, 4.0]
        );
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn jain_tells_alike_from_starved() {
        assert!((jain(&[2.0, 2.0, 2.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }
}
