//! The report's skeleton: one section an item, with the scenarios that are about it and how their goals stand.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::contestant::Kind;
use crate::item::{ITEMS, Item};
use crate::report::number;
use crate::scenario::Scenario;
use crate::series::ScenarioReport;
use crate::verdict::{Standing, Verdict, in_variant};

/// The whole benchmark.
pub(super) struct Summary<'a> {
    pub(super) sections: Vec<Section<'a>>,
}

/// One item.
pub(super) struct Section<'a> {
    pub(super) number: usize,
    pub(super) item: Item,
    /// Those that were done or begun.
    pub(super) reports: Vec<&'a ScenarioReport>,
    /// Those that are still to be done.
    pub(super) open: Vec<&'a Scenario>,
    /// Goals that are about all scenarios together, with the place of the worst.
    pub(super) overall: Vec<(String, Verdict)>,
}

/// How many goals stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) met: usize,
    pub(super) missed: usize,
    pub(super) unknown: usize,
}

/// Least share of the best link's own goodput: the header overhead of 1388 of 1448 bytes, and 2 %.
const LEAST_OF_BEST: f64 = 0.94;
/// The item that asks for it in all scenarios.
const NEVER_SLOWER: usize = 2;

impl<'a> Summary<'a> {
    pub(super) fn new(scenarios: &'a [Scenario], reports: &'a [ScenarioReport]) -> Self {
        let sections = ITEMS.into_iter().enumerate().map(|(index, item)| {
            let number = index + 1;
            let done = |scenario: &Scenario| reports.iter().any(|one| one.scenario.name == scenario.name);
            Section {
                number,
                item,
                reports: reports
                    .iter()
                    .filter(|report| report.scenario.item == number)
                    .collect(),
                open: scenarios
                    .iter()
                    .filter(|scenario| scenario.item == number && !done(scenario))
                    .collect(),
                overall: if number == NEVER_SLOWER && reports.iter().any(|one| one.scenario.item == number) {
                    slowest(reports).into_iter().collect()
                } else {
                    Vec::new()
                },
            }
        });
        Self {
            sections: sections.collect(),
        }
    }

    /// One line an item.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            let _ = writeln!(
                text,
                "{:>3}  {:<26} {}",
                section.number,
                section.item.title,
                section.words()
            );
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let section = |section: &Section<'_>| {
            let count = section.count();
            let overall = section.overall.iter().map(|(place, verdict)| {
                json!({ "goal": verdict.goal(), "worst_in": place, "value": verdict.value, "ratio": verdict.ratio() })
            });
            json!({
                "number": section.number,
                "title": section.item.title,
                "text": section.item.text,
                "met": count.met,
                "missed": count.missed,
                "not_measured": count.unknown,
                "scenarios": section.reports.iter().map(|report| &report.scenario.name).collect::<Vec<_>>(),
                "not_run": section.open.iter().map(|scenario| &scenario.name).collect::<Vec<_>>(),
                "overall": overall.collect::<Vec<_>>(),
            })
        };
        json!(self.sections.iter().map(section).collect::<Vec<_>>())
    }
}

impl Section<'_> {
    /// All goals, each with the name of its scenario.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (&str, &Verdict)> {
        let own = self.reports.iter().flat_map(|report| {
            let verdicts = report.verdicts.iter();
            verdicts.map(|verdict| (report.scenario.name.as_str(), verdict))
        });
        let overall = self.overall.iter();
        own.chain(overall.map(|(place, verdict)| (place.as_str(), verdict)))
    }

    pub(super) fn count(&self) -> Count {
        let mut count = Count::default();
        for (_, verdict) in self.verdicts() {
            match verdict.standing {
                Standing::Reached => count.met += 1,
                Standing::Missed => count.missed += 1,
                Standing::Unknown => count.unknown += 1,
            }
        }
        count
    }

    /// The goal that is furthest from being reached, and where.
    pub(super) fn worst(&self) -> Option<(&str, &Verdict)> {
        let missed = self
            .verdicts()
            .filter(|(_, verdict)| verdict.standing == Standing::Missed);
        missed.max_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)))
    }

    /// How the item stands, in a few words.
    pub(super) fn words(&self) -> String {
        let count = self.count();
        let all = count.met + count.missed + count.unknown;
        if all == 0 {
            return "not run".to_owned();
        }
        let mut words = if count.met == all && self.open.is_empty() {
            format!("all {all} goals met")
        } else {
            format!("{} of {all} goals met", count.met)
        };
        if count.missed > 0 {
            let _ = write!(words, ", {} missed", count.missed);
        }
        if count.unknown > 0 {
            let _ = write!(words, ", {} not measured", count.unknown);
        }
        if !self.open.is_empty() {
            let _ = write!(words, "; {} scenarios not run", self.open.len());
        }
        if let Some((place, verdict)) = self.worst() {
            let value = verdict.value.map_or(String::new(), number);
            let _ = write!(
                words,
                "; furthest: {place}, {}: {value} ({})",
                verdict.goal(),
                verdict.variant
            );
        }
        words
    }
}

/// By which factor a goal was missed.
fn distance(verdict: &Verdict) -> f64 {
    let ratio = verdict.ratio().unwrap_or(f64::INFINITY);
    if verdict.at_least {
        1.0 / ratio.max(1e-9)
    } else {
        ratio
    }
}

/// The smallest share that a transfer had of what the best link alone gave, in all emulated scenarios, in `speed`.
fn slowest(reports: &[ScenarioReport]) -> Option<(String, Verdict)> {
    let mut worst: Option<(String, Verdict)> = None;
    let bond = Kind::Sennit.name();
    for report in reports.iter().filter(|report| !report.scenario.bare) {
        let own = report.entries.iter().filter(|entry| {
            // Who is killed in between, or is beside a neighbour, has not had the links for himself.
            entry.contestant == bond && entry.variant.mode == "speed"
        });
        for entry in own {
            let best =
                in_variant(report, &entry.variant, "direct:best").and_then(|best| best.value("goodput"));
            let (Some(goodput), Some(best)) = (entry.value("goodput"), best.filter(|best| *best > 0.0))
            else {
                continue;
            };
            let verdict = Verdict::new(
                entry.variant.clone(),
                "slowest of all scenarios, sennit goodput / direct:best".into(),
                Some(goodput / best),
                LEAST_OF_BEST,
                true,
            );
            if worst
                .as_ref()
                .is_none_or(|(_, before)| verdict.value < before.value)
            {
                worst = Some((report.scenario.name.clone(), verdict));
            }
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::report_of;

    #[test]
    fn an_item_counts_its_goals_and_names_the_furthest_and_what_is_open() {
        let scenarios = [
            Scenario::find("unequal").expect("shipped"),
            Scenario::find("unequal-three").expect("shipped"),
        ];
        let reports = [report_of("unequal", 30.0)];
        let summary = Summary::new(&scenarios, &reports);
        let section = &summary.sections[1];
        let count = section.count();
        assert_eq!((count.met, count.missed), (0, 4));
        assert!(count.unknown > 0, "variants that were not run are not measured");
        let words = section.words();
        assert!(words.contains("1 scenarios not run"), "{words}");
        assert!(words.contains("furthest: unequal"), "{words}");
        assert_eq!(summary.sections[0].words(), "not run");
        assert_eq!(summary.sections.len(), ITEMS.len());
    }

    #[test]
    fn the_slowest_flow_of_all_is_found() {
        let reports = [report_of("unequal", 60.0), report_of("equal", 45.0)];
        let (place, verdict) = slowest(&reports).expect("there are transfers");
        assert_eq!(place, "equal");
        assert_eq!(verdict.standing, Standing::Missed);
    }
}
