//! A scenario from beginning to end: all its variants, its contestants in turn, repeated, and the medians.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contestant::{Kind, Tools};
use crate::interrupt;
use crate::machine;
use crate::run::{self, Outcome, Settings, Timeline, Watch};
use crate::scenario::{Scenario, Variant};
use crate::verdict::{self, Verdict};
use crate::{Error, Exit, Result};

/// What the user may change about a scenario.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Length of runs in seconds.
    pub seconds: Option<f64>,
    /// Runs of each contestant.
    pub repeat: Option<u32>,
    /// Who takes part.
    pub contestants: Option<Vec<Kind>>,
    /// Chance of the links.
    pub seed: u64,
}

impl Wishes {
    /// The scenario as the user wants it.
    pub fn applied(&self, mut scenario: Scenario) -> Scenario {
        scenario.seconds = self.seconds.unwrap_or(scenario.seconds);
        scenario.repeat = self.repeat.unwrap_or(scenario.repeat).max(1);
        if let Some(contestants) = &self.contestants {
            scenario.contestants.clone_from(contestants);
        }
        scenario
    }
}

/// A figure over all valid runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// The median.
    pub value: f64,
    /// The smallest and the largest.
    pub spread: (f64, f64),
}

/// One contestant in one variant.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which variant.
    pub variant: Variant,
    /// Which contestant.
    pub contestant: String,
    /// Valid runs.
    pub runs: u32,
    /// Why other runs did not count.
    pub invalid: Vec<String>,
    /// Conditions of the last run.
    pub notes: Vec<String>,
    /// Medians over the valid runs.
    pub figures: Vec<Figure>,
    /// The last valid run over time.
    pub timeline: Timeline,
}

impl Entry {
    /// The median of that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|figure| figure.name == name)
            .map(|figure| figure.value)
    }
}

/// What came out of a scenario.
#[derive(Clone, Debug)]
pub struct ScenarioReport {
    /// The scenario.
    pub scenario: Scenario,
    /// Each contestant in each variant.
    pub entries: Vec<Entry>,
    /// Its goals.
    pub verdicts: Vec<Verdict>,
    /// Contestants that could not take part, and why.
    pub absent: Vec<(String, Error)>,
}

impl ScenarioReport {
    /// The entry of a contestant in a variant.
    pub fn entry(&self, variant: &Variant, contestant: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.variant == *variant && entry.contestant == contestant)
    }
}

/// Times that a run that was not valid is done again.
const AGAIN: u32 = 2;

/// Runs a scenario; `talk` is told each step.
pub fn series(
    scenario: Scenario,
    wishes: &Wishes,
    tools: &Tools,
    talk: &mut dyn FnMut(&str),
    watch: &mut Watch<'_>,
) -> Result<ScenarioReport> {
    let controls: Vec<&str> = scenario
        .variants
        .iter()
        .map(|variant| variant.congestion.as_str())
        .collect();
    machine::allow_congestion_controls(&controls)?;
    let mut outcomes: BTreeMap<(usize, String), Vec<Outcome>> = BTreeMap::new();
    let mut order: Vec<(usize, String)> = Vec::new();
    let mut absent: Vec<(String, Error)> = Vec::new();
    for repeat in 0..scenario.repeat {
        for (number, variant) in scenario.variants.iter().enumerate() {
            for kind in &scenario.contestants {
                // What has no modes is run once, not once a mode.
                let modes_before = scenario.variants[..number]
                    .iter()
                    .any(|before| before.alike(variant));
                if (*kind != Kind::Sennit && modes_before)
                    || absent.iter().any(|(name, _)| name == kind.name())
                {
                    continue;
                }
                for attempt in 0..=AGAIN {
                    interrupt::check()?;
                    talk(&format!(
                        "{} · {variant} · {} · run {} of {}",
                        scenario.name,
                        kind.name(),
                        repeat + 1,
                        scenario.repeat
                    ));
                    let seed = wishes.seed + u64::from(repeat);
                    let settings = Settings {
                        scenario: &scenario,
                        variant,
                        kind: *kind,
                        seed,
                        tools,
                    };
                    let done = match run::run(&settings, watch) {
                        Ok(done) => done,
                        // Who cannot be started does not keep the others from running.
                        Err(error) if error.exit() == Exit::Environment && *kind != Kind::Direct => {
                            absent.push((kind.name().to_owned(), error));
                            break;
                        }
                        Err(error) => return Err(error),
                    };
                    let valid = done.iter().all(|outcome| outcome.invalid.is_empty());
                    for outcome in done {
                        outcome
                            .invalid
                            .iter()
                            .for_each(|reason| talk(&format!("  not valid: {reason}")));
                        let key = (number, outcome.contestant.clone());
                        if !order.contains(&key) {
                            order.push(key.clone());
                        }
                        outcomes.entry(key).or_default().push(outcome);
                    }
                    if valid || attempt == AGAIN {
                        break;
                    }
                }
            }
        }
    }
    let entries: Vec<Entry> = order
        .into_iter()
        .filter_map(|key| Some(entry(&scenario.variants[key.0], &key.1, outcomes.get(&key)?)))
        .collect();
    let mut report = ScenarioReport {
        scenario,
        entries,
        verdicts: Vec::new(),
        absent,
    };
    report.verdicts = verdict::judge(&report);
    Ok(report)
}

fn entry(variant: &Variant, contestant: &str, outcomes: &[Outcome]) -> Entry {
    let valid: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.invalid.is_empty())
        .collect();
    let mut figures: Vec<Figure> = Vec::new();
    for measure in valid.iter().flat_map(|outcome| &outcome.measures.0) {
        if figures.iter().any(|figure| figure.name == measure.name) {
            continue;
        }
        let values = crate::measure::sorted(
            valid
                .iter()
                .filter_map(|outcome| outcome.measures.value(&measure.name)),
        );
        if let (Some(low), Some(high)) = (values.first(), values.last()) {
            let value = median(&values);
            figures.push(Figure {
                name: measure.name.clone(),
                unit: measure.unit,
                value,
                spread: (*low, *high),
            });
        }
    }
    Entry {
        variant: variant.clone(),
        contestant: contestant.to_owned(),
        runs: valid.len() as u32,
        invalid: outcomes
            .iter()
            .flat_map(|outcome| outcome.invalid.clone())
            .collect(),
        notes: outcomes
            .last()
            .map(|outcome| outcome.notes.clone())
            .unwrap_or_default(),
        figures,
        timeline: valid
            .last()
            .map(|outcome| outcome.timeline.clone())
            .unwrap_or_default(),
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}
