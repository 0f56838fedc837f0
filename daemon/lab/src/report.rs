//! Results for people and for programs: a table, and JSON with one list of measures a scenario.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use crate::contestant::Kind;
use crate::series::{Entry, Figure, ScenarioReport};
use crate::verdict::{Standing, in_variant};

/// A measure as JSON has it.
#[derive(Serialize)]
struct Line<'a> {
    name: String,
    unit: &'a str,
    value: f64,
    low: f64,
    high: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// All results as one JSON value.
pub(crate) fn json(reports: &[ScenarioReport]) -> Value {
    json!({
        "version": 1,
        "program": format!("sennit-lab {}", env!("CARGO_PKG_VERSION")),
        "bytes": "links count whole frames (IP packet + 14 bytes of Ethernet header); goodput counts TCP payload",
        "machine": {
            "processors": std::thread::available_parallelism().map_or(1, usize::from),
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        },
        "scenarios": reports.iter().map(scenario).collect::<Vec<_>>(),
    })
}

fn scenario(report: &ScenarioReport) -> Value {
    let mut measures = Vec::new();
    for entry in &report.entries {
        for figure in &entry.figures {
            let baseline = baseline(report, entry, figure);
            measures.push(Line {
                name: format!("{}/{}/{}", entry.variant, entry.contestant, figure.name),
                unit: &figure.unit,
                value: figure.value,
                low: figure.spread.0,
                high: figure.spread.1,
                baseline,
                ratio: baseline
                    .filter(|baseline| *baseline != 0.0)
                    .map(|baseline| figure.value / baseline),
            });
        }
    }
    let verdicts: Vec<Value> = report
        .verdicts
        .iter()
        .map(|verdict| {
            json!({
                "variant": verdict.variant.to_string(),
                "goal": verdict.goal(),
                "value": verdict.value,
                "limit": verdict.limit,
                "ratio": verdict.ratio(),
                "standing": standing(verdict.standing),
            })
        })
        .collect();
    let runs: Vec<Value> = report
        .entries
        .iter()
        .map(|entry| {
            json!({
                "variant": entry.variant.to_string(),
                "contestant": entry.contestant,
                "valid_runs": entry.runs,
                "not_valid": entry.invalid,
                "notes": entry.notes,
            })
        })
        .collect();
    json!({
        "name": report.scenario.name,
        "title": report.scenario.title,
        "item": report.scenario.item,
        "stopped": report.stopped.as_ref().map(ToString::to_string),
        "seconds": report.scenario.seconds,
        "measures": measures,
        "verdicts": verdicts,
        "runs": runs,
        "absent": report.absent.iter().map(|(name, why)| json!({ "contestant": name, "why": why.to_string() })).collect::<Vec<_>>(),
    })
}

/// What a figure is compared with: the sum of the WANs for what adds up, else the best of them.
fn baseline(report: &ScenarioReport, entry: &Entry, figure: &Figure) -> Option<f64> {
    if entry.contestant.starts_with(Kind::Direct.name()) {
        return None;
    }
    let against = if figure.name == "goodput" {
        "direct:sum"
    } else {
        "direct:best"
    };
    in_variant(report, &entry.variant, against)?.value(&figure.name)
}

/// Figures that the table shows of everyone, beside those that the goals are about; all others are in the JSON.
const SHOWN: [&str; 5] = [
    "goodput",
    "share_of_ideal",
    "ten_megabytes",
    "longest_zero",
    "page.loaded",
];
/// Endings of figures that the table shows as well.
const SHOWN_ENDINGS: [&str; 3] = [".rtt_p50", ".rtt_p99", ".lost"];
/// Beginnings of figures that the table shows where there are no emulated limits: what a packet costs.
const SHOWN_OF_BARE: [&str; 3] = ["cpu.", "bond.system_calls_per_", "bond.instructions_per_"];

pub(crate) fn is_shown(report: &ScenarioReport, figure: &Figure) -> bool {
    let name = figure.name.as_str();
    let goals = || {
        report
            .scenario
            .goals
            .iter()
            .flat_map(|goal| [Some(&goal.measure), goal.minus.as_ref()])
            .flatten()
    };
    SHOWN.contains(&name)
        || report.scenario.bare && SHOWN_OF_BARE.iter().any(|start| name.starts_with(start))
        || SHOWN_ENDINGS.iter().any(|end| name.ends_with(end))
        || goals().any(|goal| goal == name)
}

/// A scenario as a table.
pub(crate) fn table(report: &ScenarioReport) -> String {
    let scenario = &report.scenario;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}: {} ({} s, {} runs)",
        scenario.name, scenario.title, scenario.seconds, scenario.repeat
    );
    for variant in &scenario.variants {
        let entries: Vec<&Entry> = report
            .entries
            .iter()
            .filter(|entry| entry.variant == *variant)
            .collect();
        if entries.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "  {variant}   (ideal {} Mbit/s)",
            number(scenario.ideal(variant.way))
        );
        for entry in entries {
            let _ = write!(text, "    {:<14}", entry.contestant);
            if entry.runs == 0 {
                let _ = write!(text, " no valid run");
            }
            let shown = entry.figures.iter().filter(|figure| is_shown(report, figure));
            let parts: Vec<String> = shown.map(|figure| part(report, entry, figure)).collect();
            let _ = writeln!(text, " {}", parts.join(" · "));
            let mut reasons = entry.invalid.clone();
            reasons.dedup();
            for reason in reasons {
                let _ = writeln!(text, "      not valid: {reason}");
            }
        }
    }
    if let Some(why) = &report.stopped {
        let _ = writeln!(text, "  not done to its end: {why}");
    }
    for (name, why) in &report.absent {
        let _ = writeln!(text, "  {name} did not take part: {why}");
        if !why.hint().is_empty() {
            let _ = writeln!(text, "    hint: {}", why.hint());
        }
    }
    for verdict in &report.verdicts {
        let value = verdict.value.map_or("not measured".to_owned(), number);
        let _ = writeln!(
            text,
            "  {:<8} {} ({}): {value}",
            standing(verdict.standing),
            verdict.goal(),
            verdict.variant
        );
    }
    text
}

/// The conditions under which the last run of each contestant was done.
pub(crate) fn conditions(report: &ScenarioReport) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in report
        .entries
        .iter()
        .filter(|entry| !entry.contestant.ends_with(":sum") && !entry.contestant.ends_with(":best"))
    {
        lines.extend(
            entry
                .notes
                .iter()
                .map(|note| format!("{} · {}: {note}", entry.variant, entry.contestant)),
        );
    }
    lines.dedup();
    lines
}

fn part(report: &ScenarioReport, entry: &Entry, figure: &Figure) -> String {
    let unit = if figure.unit.is_empty() {
        String::new()
    } else {
        format!(" {}", figure.unit)
    };
    let mut part = format!("{} {}{unit}", figure.name, number(figure.value));
    if figure.name == "goodput" {
        if figure.spread.0 < figure.spread.1 {
            let _ = write!(part, " [{}–{}]", number(figure.spread.0), number(figure.spread.1));
        }
        if let Some(baseline) = baseline(report, entry, figure).filter(|baseline| *baseline > 0.0) {
            let _ = write!(part, " ({:.1} % of direct)", figure.value / baseline * 100.0);
        }
    }
    part
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Reached => "reached",
        Standing::Missed => "MISSED",
        Standing::Unknown => "unknown",
    }
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.3}")
    } else {
        format!("{value:.2e}")
    }
}
