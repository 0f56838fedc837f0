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
    /// The goal in words.
    pub goal: String,
    /// What was compared with the limit.
    pub value: Option<f64>,
    /// The limit.
    pub limit: f64,
    /// How it stands.
    pub standing: Standing,
}

/// Judges all goals of a scenario, in each variant that they are about.
pub fn judge(report: &ScenarioReport) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for variant in &report.scenario.variants {
        for goal in &report.scenario.goals {
            if goal.mode.as_ref().is_some_and(|mode| *mode != variant.mode) {
                continue;
            }
            let asked = Kind::ALL.iter().any(|kind| {
                goal.contestant.starts_with(kind.name()) && report.scenario.contestants.contains(kind)
            });
            // A goal for somebody whom the user left out is no goal of this run.
            if !asked {
                continue;
            }
            let value = value(report, goal, variant);
            for (limit, sign) in [(goal.at_least, "≥"), (goal.at_most, "≤")] {
                let Some(limit) = limit else { continue };
                let standing = match value {
                    None => Standing::Unknown,
                    Some(value) if (sign == "≥" && value >= limit) || (sign == "≤" && value <= limit) => {
                        Standing::Reached
                    }
                    Some(_) => Standing::Missed,
                };
                let goal = format!("{} {sign} {limit}", words(goal));
                verdicts.push(Verdict {
                    variant: variant.clone(),
                    goal,
                    value,
                    limit,
                    standing,
                });
            }
        }
    }
    verdicts
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
        Some("one flow") => {
            let one = Variant {
                flows: 1,
                ..variant.clone()
            };
            Some(value / in_variant(report, &one, &goal.contestant)?.value(&goal.measure)?)
        }
        Some(other) => Some(value / in_variant(report, variant, other)?.value(&goal.measure)?),
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
    words
}
