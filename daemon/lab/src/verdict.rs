//! Goals against figures. What could not be measured is missed, never reached.

use crate::contestant::Kind;
use crate::scenario::{Goal, Variant};
use crate::series::ScenarioReport;

/// How a goal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Reached.
    Reached,
    /// Missed.
    Missed,
    /// Nothing to judge by: no valid run, or the contestant was absent.
    Unknown,
}

/// A goal in one variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The variant.
    pub variant: Variant,
    /// What was compared with the limit, in words.
    pub subject: String,
    /// The same in a figure.
    pub value: Option<f64>,
    /// The limit.
    pub limit: f64,
    /// Whether it is the least; otherwise it is the most.
    pub at_least: bool,
    /// How it stands.
    pub standing: Standing,
}

impl Verdict {
    /// Compares a figure with a limit.
    pub fn new(variant: Variant, subject: String, value: Option<f64>, limit: f64, at_least: bool) -> Self {
        let standing = match value {
            None => Standing::Unknown,
            Some(value) if (at_least && value >= limit) || (!at_least && value <= limit) => Standing::Reached,
            Some(_) => Standing::Missed,
        };
        Self {
            variant,
            subject,
            value,
            limit,
            at_least,
            standing,
        }
    }

    /// The limit in words.
    pub fn wanted(&self) -> String {
        format!("{} {}", if self.at_least { "≥" } else { "≤" }, self.limit)
    }

    /// The goal in words.
    pub fn goal(&self) -> String {
        format!("{} {}", self.subject, self.wanted())
    }

    /// What was measured, as a multiple of the limit.
    pub fn ratio(&self) -> Option<f64> {
        self.value
            .map(|value| value / self.limit)
            .filter(|ratio| ratio.is_finite())
    }
}

/// Judges all goals of a scenario, in each variant that they are about.
pub fn judge(report: &ScenarioReport) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for variant in &report.scenario.variants {
        for goal in &report.scenario.goals {
            let other_mode = goal.mode.as_ref().is_some_and(|mode| *mode != variant.mode);
            if other_mode || goal.way.is_some_and(|way| way != variant.way) {
                continue;
            }
            let asked = Kind::ALL.iter().any(|kind| {
                goal.contestant.starts_with(kind.name()) && report.scenario.contestants.contains(kind)
            });
            // A goal for somebody whom the user left out is no goal of this run.
            if !asked {
                continue;
            }
            // What is compared with fewer flows says nothing about the fewest.
            let compares = matches!(goal.relative_to.as_deref(), Some("fewest flows"));
            if compares && variant.flows == fewest(report) {
                continue;
            }
            let value = value(report, goal, variant);
            for (limit, at_least) in [(goal.at_least, true), (goal.at_most, false)] {
                if let Some(limit) = limit {
                    verdicts.push(Verdict::new(variant.clone(), words(goal), value, limit, at_least));
                }
            }
        }
    }
    verdicts
}

/// The smallest number of flows in any variant.
fn fewest(report: &ScenarioReport) -> usize {
    let flows = report.scenario.variants.iter().map(|variant| variant.flows);
    flows.min().unwrap_or(1)
}

/// The figure that a goal is about, divided and subtracted as it says.
fn value(report: &ScenarioReport, goal: &Goal, variant: &Variant) -> Option<f64> {
    let entry = in_variant(report, variant, &goal.contestant)?;
    let mut value = entry.value(&goal.measure)?;
    if let Some(minus) = &goal.minus {
        value -= entry.value(minus)?;
    }
    match goal.relative_to.as_deref() {
        None => Some(value),
        Some("ideal") => Some(value / report.scenario.ideal(variant.way)),
        Some("fewest flows") => {
            let one = Variant {
                flows: fewest(report),
                ..variant.clone()
            };
            Some(value / in_variant(report, &one, &goal.contestant)?.value(&goal.measure)?)
        }
        Some(other) => {
            let mut theirs = variant.clone();
            if let Some(congestion) = &goal.relative_congestion {
                theirs.congestion.clone_from(congestion);
            }
            Some(value / in_variant(report, &theirs, other)?.value(&goal.measure)?)
        }
    }
}

/// A contestant's entry; what has no modes was run in another variant that differs in the mode only.
pub fn in_variant<'a>(
    report: &'a ScenarioReport,
    variant: &Variant,
    contestant: &str,
) -> Option<&'a crate::series::Entry> {
    report.entry(variant, contestant).or_else(|| {
        report.entries.iter().find(|entry| {
            entry.contestant == contestant
                && !contestant.starts_with(Kind::Sennit.name())
                && entry.variant.alike(variant)
        })
    })
}

fn words(goal: &Goal) -> String {
    let mut words = format!("{} {}", goal.contestant, goal.measure);
    if let Some(minus) = &goal.minus {
        words.push_str(&format!(" − {minus}"));
    }
    if let Some(other) = &goal.relative_to {
        words.push_str(&format!(" / {other}"));
    }
    if let Some(congestion) = &goal.relative_congestion {
        words.push_str(&format!(" with {congestion}"));
    }
    words
}
