//! The report as Markdown: facts, one line an item, then a section an item with all goals and figures.

use std::fmt::Write as _;
use std::path::Path;

use super::facts::Facts;
use super::summary::{Section, Summary};
use crate::plot::{KINDS, file_name};
use crate::report::{self, number};
use crate::series::{Entry, ScenarioReport};
use crate::verdict::{Standing, Verdict};

/// The whole report. With `folder` it refers to the plots in there.
pub(super) fn report(facts: &Facts, summary: &Summary<'_>, folder: Option<&Path>) -> String {
    let mut text = String::from("# Benchmark report\n\n");
    facts_table(&mut text, facts);
    text.push_str(
        "\n| | item | met | missed | not measured | furthest from its goal |\n|---|---|---|---|---|---|\n",
    );
    for section in &summary.sections {
        let count = section.count();
        let furthest = section.worst().map_or(String::new(), |(place, verdict)| {
            let value = verdict.value.map_or(String::new(), number);
            format!(
                "{place} ({}): {} is {value}",
                verdict.variant,
                escaped(&verdict.goal())
            )
        });
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {furthest} |",
            section.number, section.item.title, count.met, count.missed, count.unknown
        );
    }
    text.push_str(
        "\nA figure is the median of the valid runs, in brackets the smallest and the largest. *Measured* of a goal is \
         compared with *wanted*; *ratio* is the one divided by the other. *Ideal* is Σ rate · (1 − loss) · 1448/1514. \
         Links count whole frames (the IP packet and 14 bytes of Ethernet header), goodput counts TCP payload.\n",
    );
    for section in &summary.sections {
        item(&mut text, section, facts, folder);
    }
    text
}

fn facts_table(text: &mut String, facts: &Facts) {
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "| {name} | {} |", escaped(value));
    };
    row("", "");
    row("---", "---");
    row("date", &facts.date);
    row("source", &facts.commit);
    row("program", &facts.program);
    row(
        "machine",
        &format!(
            "{}, {} processors, {} GB",
            facts.processor, facts.processors, facts.memory_gigabytes
        ),
    );
    row("kernel", &facts.kernel);
    for (name, version) in &facts.peers {
        row(name, version);
    }
    for change in &facts.changed {
        row("**not the ordinary benchmark**", change);
    }
}

fn item(text: &mut String, section: &Section<'_>, facts: &Facts, folder: Option<&Path>) {
    let _ = writeln!(text, "\n## {}. {}\n", section.number, section.item.title);
    let _ = writeln!(text, "{}\n", section.item.text);
    let _ = writeln!(text, "**{}**", escaped(&section.words()));
    for line in section.item.elsewhere {
        let _ = writeln!(text, "\n* {line}");
    }
    unmeasured(text, section);
    // What the links of this item do is part of the result.
    let follows = |report: &&ScenarioReport| format!("{:?}", report.scenario.links).contains("Trace");
    if section.reports.iter().any(follows) {
        text.push_str("\nTraces:\n\n");
        for trace in &facts.traces {
            let _ = writeln!(text, "* {trace}");
        }
    }
    let overall: Vec<(&str, &Verdict)> = section
        .overall
        .iter()
        .map(|(place, verdict)| (place.as_str(), verdict))
        .collect();
    if !overall.is_empty() {
        text.push_str("\nOver all scenarios:\n");
        goals(text, &overall);
    }
    for report in &section.reports {
        scenario(text, report, folder);
    }
    if !section.open.is_empty() {
        let names: Vec<&str> = section.open.iter().map(|one| one.name.as_str()).collect();
        let _ = writeln!(text, "\nNot run: {}.", names.join(", "));
    }
}

/// Figures without a limit that are to be reported, and could not be measured.
fn unmeasured(text: &mut String, section: &Section<'_>) {
    for (start, what) in section.item.reported {
        let entries = || section.reports.iter().flat_map(|report| &report.entries);
        let mut figures = entries().flat_map(|entry| &entry.figures);
        if entries().next().is_some() && !figures.any(|figure| figure.name.starts_with(start)) {
            let _ = writeln!(text, "\n* {what}: not measured; the conditions below say why.");
        }
    }
}

fn goals(text: &mut String, verdicts: &[(&str, &Verdict)]) {
    text.push_str("\n| | goal | wanted | measured | ratio | |\n|---|---|---|---|---|---|\n");
    for (place, verdict) in verdicts {
        let value = verdict.value.map_or("not measured".to_owned(), number);
        let ratio = verdict
            .ratio()
            .map_or(String::new(), |ratio| format!("{ratio:.3}"));
        let stands = match verdict.standing {
            Standing::Reached => "met",
            Standing::Missed => "**missed**",
            Standing::Unknown => "not measured",
        };
        let place = if place.is_empty() {
            verdict.variant.to_string()
        } else {
            format!("{place}, {}", verdict.variant)
        };
        let _ = writeln!(
            text,
            "| {place} | {} | {} | {value} | {ratio} | {stands} |",
            escaped(&verdict.subject),
            verdict.wanted()
        );
    }
}

fn scenario(text: &mut String, report: &ScenarioReport, folder: Option<&Path>) {
    let scenario = &report.scenario;
    let _ = writeln!(text, "\n### {}: {}\n", scenario.name, scenario.title);
    let _ = writeln!(
        text,
        "{} Runs of {} s, {} each.",
        scenario.about, scenario.seconds, scenario.repeat
    );
    if let Some(why) = &report.stopped {
        let _ = writeln!(text, "\n**Not done to its end: {}**", escaped(&why.to_string()));
    }
    for (name, why) in &report.absent {
        let _ = writeln!(text, "\n{name} did not take part: {}", escaped(&why.to_string()));
    }
    let own: Vec<(&str, &Verdict)> = report.verdicts.iter().map(|verdict| ("", verdict)).collect();
    if !own.is_empty() {
        goals(text, &own);
    }
    figures(text, report);
    conditions(text, report);
    if let Some(folder) = folder {
        plots(text, report, folder);
    }
}

/// One row a contestant and variant, one column a figure that anybody has.
fn figures(text: &mut String, report: &ScenarioReport) {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for figure in report.entries.iter().flat_map(|entry| &entry.figures) {
        let column = (figure.name.as_str(), figure.unit.as_str());
        if report::is_shown(report, figure) && !columns.contains(&column) {
            columns.push(column);
        }
    }
    if columns.is_empty() {
        return;
    }
    let heads: Vec<String> = columns
        .iter()
        .map(|(name, unit)| {
            if unit.is_empty() {
                (*name).to_owned()
            } else {
                format!("{name} ({unit})")
            }
        })
        .collect();
    let _ = writeln!(text, "\n| variant | contestant | runs | {} |", heads.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(columns.len()));
    for entry in &report.entries {
        let cells: Vec<String> = columns.iter().map(|(name, _)| cell(entry, name)).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            entry.variant,
            entry.contestant,
            entry.runs,
            cells.join(" | ")
        );
    }
}

fn cell(entry: &Entry, name: &str) -> String {
    let Some(figure) = entry.figures.iter().find(|figure| figure.name == name) else {
        return String::new();
    };
    let (low, high) = figure.spread;
    if low < high {
        format!("{} [{}–{}]", number(figure.value), number(low), number(high))
    } else {
        number(figure.value)
    }
}

/// What each flow really ran, what the emulator did, and why runs did not count.
fn conditions(text: &mut String, report: &ScenarioReport) {
    let mut lines: Vec<String> = Vec::new();
    for entry in &report.entries {
        let reasons = entry.invalid.iter().map(|reason| format!("not valid: {reason}"));
        for what in reasons.chain(entry.notes.iter().cloned()) {
            // Contestants that are one run share what is said of it.
            let whose = entry.contestant.split(':').next().unwrap_or_default();
            let line = format!("* {} · {whose}: {}", entry.variant, escaped(&what));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(
            text,
            "\n<details><summary>conditions</summary>\n\n{}\n\n</details>",
            lines.join("\n")
        );
    }
}

fn plots(text: &mut String, report: &ScenarioReport, folder: &Path) {
    let mut shown = false;
    for entry in &report.entries {
        let file = |kind: &str| file_name(&report.scenario.name, &entry.variant, &entry.contestant, kind);
        let there: Vec<(&str, String)> = KINDS
            .iter()
            .map(|kind| (*kind, file(kind)))
            .filter(|(_, file)| folder.join("plots").join(file).is_file())
            .collect();
        let Some((kind, first)) = there.first() else {
            continue;
        };
        if !shown {
            let _ = writeln!(
                text,
                "\n![{kind}, {} {}](plots/{first})\n",
                entry.variant, entry.contestant
            );
            shown = true;
        }
        let links: Vec<String> = there
            .iter()
            .map(|(kind, file)| format!("[{kind}](plots/{file})"))
            .collect();
        let _ = writeln!(
            text,
            "* {} · {}: {}",
            entry.variant,
            entry.contestant,
            links.join(", ")
        );
    }
}

/// Text that cannot end a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::report_of;
    use crate::scenario::Scenario;

    fn facts() -> Facts {
        Facts {
            date: "2026-01-31 12:05 UTC".into(),
            commit: "0123456789ab".into(),
            kernel: "6.1".into(),
            processor: "one | two".into(),
            processors: 2,
            memory_gigabytes: 8.0,
            program: "sennit 0.1.0".into(),
            peers: vec![("wireguard-go".into(), "not installed".into())],
            changed: vec!["quick".into()],
            traces: vec!["car: mean 20 Mbit/s".into()],
        }
    }

    #[test]
    fn every_item_has_its_section_and_every_goal_its_row() {
        let scenarios = [
            Scenario::find("equal").expect("shipped"),
            Scenario::find("cellular").expect("shipped"),
        ];
        let reports = [report_of("equal", 69.0), report_of("cellular", 20.0)];
        let text = report(&facts(), &Summary::new(&scenarios, &reports), None);
        for (index, item) in crate::item::ITEMS.iter().enumerate() {
            assert!(text.contains(&format!("\n## {}. {}\n", index + 1, item.title)));
        }
        for wanted in [
            "| down cubic speed | sennit goodput / direct:sum | ≥ 0.95 | 0.986 | 1.038 | met |",
            "| up cubic speed | sennit goodput / direct:sum | ≥ 0.95 | not measured |  | not measured |",
            "| down cubic speed | sennit | 1 | 69 |",
            "| **not the ordinary benchmark** | quick |",
            "one \\| two",
            "* down cubic speed · direct: 1 flows ran cubic, read back from the sockets at both ends",
            "* car: mean 20 Mbit/s",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        assert!(!text.contains("plots/"));
    }
}
