//! Plots as SVG, written by hand: a title, two axes, a few lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::contestant::Kind;
use crate::emulator::{BIN, Way};
use crate::measure::{megabits, sorted};
use crate::report::number;
use crate::scenario::{Side, Variant};
use crate::series::{Entry, ScenarioReport};
use crate::time::Nanos;
use crate::{Error, Result};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 40.0;
/// Told apart by people who see few colours (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];
/// Bins that a point of a timeline stands for.
const POINT: usize = 10;

/// A line of a plot.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Of whom plots are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Everybody.
    All,
    /// The bond; a whole benchmark has thousands otherwise.
    Bond,
}

/// What the file of a plot is called.
pub(crate) fn file_name(scenario: &str, variant: &Variant, contestant: &str, kind: &str) -> String {
    format!("{scenario} {variant} {contestant} {kind}.svg").replace([' ', ':', '/'], "-")
}

/// All kinds of plots, in the order of a report.
pub(crate) const KINDS: [&str; 8] = [
    "throughput",
    "round-trips",
    "gaps",
    "knew-rate",
    "knew-queue_ms",
    "knew-rtt_ms",
    "knew-in_flight",
    "knew-cwnd",
];

/// Writes the plots of a scenario into a folder, and returns their files.
pub(crate) fn write(report: &ScenarioReport, folder: &Path, which: Which) -> Result<Vec<PathBuf>> {
    let failed = |path: &Path, error: std::io::Error| {
        Error::environment(
            format!("failed to write {}: {error}", path.display()),
            "name a folder that you may write to",
        )
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut written = Vec::new();
    let wanted = |entry: &&Entry| which == Which::All || entry.contestant == Kind::Sennit.name();
    for entry in report.entries.iter().filter(wanted) {
        let name = format!("{} {} {}", report.scenario.name, entry.variant, entry.contestant);
        let mut plots = vec![
            ("throughput".to_owned(), throughput(entry, &name)),
            ("round-trips".to_owned(), round_trips(entry, &name)),
            ("gaps".to_owned(), gaps(entry, &name)),
        ];
        plots.extend(knowledge(entry, &name));
        for (kind, plot) in plots {
            let Some(plot) = plot else { continue };
            let (scenario, variant) = (&report.scenario.name, &entry.variant);
            let file = folder.join(file_name(scenario, variant, &entry.contestant, &kind));
            std::fs::write(&file, plot).map_err(|error| failed(&file, error))?;
            written.push(file);
        }
    }
    Ok(written)
}

/// Throughput over time, of the flow and of each WAN.
fn throughput(entry: &Entry, name: &str) -> Option<String> {
    let line = |name: String, bins: &[u64]| Line {
        name,
        points: bins
            .chunks(POINT)
            .enumerate()
            .map(|(index, chunk)| {
                let span = Nanos(BIN.0 * POINT as u64);
                (
                    Nanos(span.0 * index as u64).secs(),
                    megabits(chunk.iter().sum(), span),
                )
            })
            .collect(),
    };
    let timeline = &entry.timeline;
    let mut lines: Vec<Line> = timeline
        .wans
        .iter()
        .enumerate()
        .map(|(wan, bins)| line(format!("wan{wan}"), bins))
        .collect();
    if !timeline.goodput.is_empty() {
        lines.push(line("goodput".into(), &timeline.goodput));
    }
    draw(
        &format!("{name}: throughput"),
        "s",
        "Mbit/s",
        &lines,
        &timeline.events,
    )
}

/// Round trips of the first probe over time.
fn round_trips(entry: &Entry, name: &str) -> Option<String> {
    let points = entry
        .timeline
        .round_trips
        .iter()
        .copied()
        .filter(|(_, trip)| trip.is_finite())
        .collect();
    let line = Line {
        name: "round trip".into(),
        points,
    };
    draw(
        &format!("{name}: round trips"),
        "s",
        "ms",
        &[line],
        &entry.timeline.events,
    )
}

/// What the sending end of a bond knew of its paths over time.
fn knowledge(entry: &Entry, name: &str) -> Vec<(String, Option<String>)> {
    // A status has rates in bit/s, and names them by their direction at both ends.
    let rate = if entry.variant.way == Way::Up {
        "rate_up"
    } else {
        "rate_down"
    };
    let known: [(&str, &str, f64); 5] = [
        (rate, "Mbit/s", 1e-6),
        ("queue_ms", "ms", 1.0),
        ("rtt_ms", "ms", 1.0),
        ("in_flight", "KB", 1e-3),
        ("cwnd", "KB", 1e-3),
    ];
    let side = if entry.variant.way == Way::Up {
        Side::Client
    } else {
        Side::Server
    };
    let snapshots = &entry.timeline.bond;
    let paths = snapshots
        .iter()
        .map(|snapshot| snapshot.paths(side).len())
        .max()
        .unwrap_or(0);
    known
        .iter()
        .map(|(key, unit, factor)| {
            let lines: Vec<Line> = (0..paths)
                .map(|path| Line {
                    name: format!("path {path}"),
                    points: snapshots
                        .iter()
                        .filter_map(|snapshot| {
                            Some((
                                snapshot.at,
                                snapshot.paths(side).get(path)?[*key].as_f64()? * factor,
                            ))
                        })
                        .collect(),
                })
                .collect();
            let title = format!("{name}: {key}, as the {side} knew it");
            let kind = if *key == rate { "rate" } else { key };
            (
                format!("knew-{kind}"),
                draw(&title, "s", unit, &lines, &entry.timeline.events),
            )
        })
        .collect()
}

/// How large a share of round trips took longer, and of the pauses between two answers.
fn gaps(entry: &Entry, name: &str) -> Option<String> {
    let trips = &entry.timeline.round_trips;
    let times = sorted(
        trips
            .iter()
            .filter(|(_, trip)| trip.is_finite())
            .map(|(sent, trip)| sent * 1000.0 + trip),
    );
    let gaps = sorted(times.windows(2).map(|pair| pair[1] - pair[0]));
    let longer = |values: &[f64]| -> Vec<(f64, f64)> {
        let count = values.len() as f64;
        values
            .iter()
            .enumerate()
            .map(|(index, value)| (*value, (count - index as f64) / count * 100.0))
            .collect()
    };
    let trips = sorted(
        trips
            .iter()
            .map(|(_, trip)| *trip)
            .filter(|trip| trip.is_finite()),
    );
    let lines = [
        Line {
            name: "gaps".into(),
            points: longer(&gaps),
        },
        Line {
            name: "round trips".into(),
            points: longer(&trips),
        },
    ];
    draw(
        &format!("{name}: delivery gaps and round trips"),
        "ms",
        "% longer",
        &lines,
        &[],
    )
}

/// The plot; none if there is nothing to show.
fn draw(title: &str, x_unit: &str, y_unit: &str, lines: &[Line], events: &[(f64, String)]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_most = points().map(|point| point.0).fold(0.0, f64::max);
    let y_most = points().map(|point| point.1).fold(0.0, f64::max) * 1.05;
    if x_most <= 0.0 || y_most <= 0.0 {
        return None;
    }
    let x = |value: f64| LEFT + value / x_most * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / y_most * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for tick in 0..=5 {
        let (at_x, at_y) = (x_most * f64::from(tick) / 5.0, y_most * f64::from(tick) / 5.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(at_y) + 4.0,
            number(at_y),
            x(at_x),
            HEIGHT - BOTTOM + 16.0,
            number(at_x),
            y = y(at_y)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{x_unit}</text><text x=\"8\" y=\"{TOP}\">{y_unit}</text>",
        WIDTH - RIGHT,
        HEIGHT - 6.0
    );
    for (at, what) in events {
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\" font-size=\"10\">{}</text>",
            HEIGHT - BOTTOM,
            x(*at) + 3.0,
            TOP + 8.0,
            escaped(what),
            x = x(*at)
        );
    }
    for (index, line) in lines.iter().filter(|line| !line.points.is_empty()).enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path: Vec<String> = thinned(&line.points)
            .map(|(px, py)| format!("{:.1},{:.1}", x(px), y(py)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            path.join(" "),
            WIDTH - RIGHT + 8.0,
            TOP + 12.0 + 16.0 * index as f64,
            escaped(&line.name)
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// At most some thousand points, the highest of each group, so that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let group = points.len().div_ceil(4000).max(1);
    points
        .chunks(group)
        .filter_map(|group| group.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
