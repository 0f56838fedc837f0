//! A scenario from beginning to end: all its variants, its contestants in turn, repeated, and the medians.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// Times that a run that was not valid is done again.
    pub again: u32,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The median.
    pub value: f64,
    /// The smallest and the largest.
    pub spread: (f64, f64),
}

/// One contestant in one variant.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    #[serde(skip)]
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
    /// What ended it before all runs were done.
    pub stopped: Option<Error>,
}

impl ScenarioReport {
    /// The entry of a contestant in a variant.
    pub fn entry(&self, variant: &Variant, contestant: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.variant == *variant && entry.contestant == contestant)
    }
}

/// A run that has its place in a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which repetition, from 0.
    pub repeat: u32,
    /// Which of the scenario's variants.
    pub variant: usize,
    /// Who carries the traffic.
    pub kind: Kind,
}

/// The order of runs: contestants take turns within a variant, and all of that is repeated, so that what changes on
/// the machine meanwhile meets everybody alike.
pub fn turns(scenario: &Scenario) -> Vec<Turn> {
    let mut turns = Vec::new();
    for repeat in 0..scenario.repeat {
        for (number, variant) in scenario.variants.iter().enumerate() {
            // What has no modes is run once, not once a mode.
            let alike_before = scenario.variants[..number]
                .iter()
                .any(|before| before.alike(variant));
            let kinds = scenario
                .contestants
                .iter()
                .filter(|kind| **kind == Kind::Sennit || !alike_before)
                .filter(|kind| kind.carries(variant));
            turns.extend(kinds.map(|kind| Turn {
                repeat,
                variant: number,
                kind: *kind,
            }));
        }
    }
    turns
}

/// What happens in a series, for who waits for its end.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A run begins.
    Run {
        /// Its place.
        turn: Turn,
        /// Of which scenario.
        scenario: &'a Scenario,
        /// How often it was done before without being valid.
        again: u32,
    },
    /// It did not count, for this reason.
    NotValid(&'a str),
    /// A contestant cannot take part.
    Absent(Kind),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run {
                turn,
                scenario,
                again,
            } => {
                let variant = &scenario.variants[turn.variant];
                let (name, kind) = (&scenario.name, turn.kind.name());
                let run = turn.repeat + 1;
                write!(
                    f,
                    "{name} · {variant} · {kind} · run {run} of {}",
                    scenario.repeat
                )?;
                if *again > 0 {
                    write!(f, ", again")?;
                }
                Ok(())
            }
            Self::NotValid(reason) => write!(f, "  not valid: {reason}"),
            Self::Absent(kind) => write!(f, "  {} cannot take part", kind.name()),
        }
    }
}

/// Runs a scenario; `tell` hears of each step. What ends it early (a signal, a failure) stands in the report, with
/// the runs that were done before.
pub fn series(
    scenario: Scenario,
    wishes: &Wishes,
    tools: &Tools,
    tell: &mut dyn FnMut(Step<'_>),
    watch: &mut Watch<'_>,
) -> ScenarioReport {
    let mut outcomes: Outcomes = BTreeMap::new();
    let mut absent: Vec<(Kind, Error)> = Vec::new();
    let stopped = all_turns(&scenario, wishes, tools, tell, watch, &mut outcomes, &mut absent).err();
    let mut entries: Vec<Entry> = Vec::new();
    for ((number, _), done) in &outcomes {
        let variant = &scenario.variants[*number];
        // Each run names the contestants that it counts as in the same order.
        let mut names: Vec<&str> = Vec::new();
        for outcome in done {
            if !names.contains(&outcome.contestant.as_str()) {
                names.push(&outcome.contestant);
            }
        }
        entries.extend(names.into_iter().map(|name| {
            let own: Vec<&Outcome> = done.iter().filter(|outcome| outcome.contestant == name).collect();
            entry(variant, name, &own)
        }));
    }
    let mut report = ScenarioReport {
        scenario,
        entries,
        verdicts: Vec::new(),
        absent: absent
            .into_iter()
            .map(|(kind, why)| (kind.name().to_owned(), why))
            .collect(),
        stopped,
    };
    report.verdicts = verdict::judge(&report);
    report
}

/// Of each contestant in each variant, in the order of the report.
type Outcomes = BTreeMap<(usize, Kind), Vec<Outcome>>;

fn all_turns(
    scenario: &Scenario,
    wishes: &Wishes,
    tools: &Tools,
    tell: &mut dyn FnMut(Step<'_>),
    watch: &mut Watch<'_>,
    outcomes: &mut Outcomes,
    absent: &mut Vec<(Kind, Error)>,
) -> Result<()> {
    let controls: Vec<&str> = scenario
        .variants
        .iter()
        .map(|variant| variant.congestion.as_str())
        .collect();
    machine::allow_congestion_controls(&controls)?;
    for turn in turns(scenario) {
        if absent.iter().any(|(kind, _)| *kind == turn.kind) {
            continue;
        }
        let settings = Settings {
            scenario,
            variant: &scenario.variants[turn.variant],
            kind: turn.kind,
            seed: wishes.seed + u64::from(turn.repeat),
            tools,
        };
        for again in 0..=wishes.again {
            interrupt::check()?;
            tell(Step::Run {
                turn,
                scenario,
                again,
            });
            let done = match run::run(&settings, watch) {
                Ok(done) => done,
                // Who cannot be started does not keep the others from running.
                Err(error) if error.exit() == Exit::Environment && turn.kind != Kind::Direct => {
                    tell(Step::Absent(turn.kind));
                    absent.push((turn.kind, error));
                    break;
                }
                Err(error) => return Err(error),
            };
            // Outcomes of one run share their conditions.
            let invalid = done
                .first()
                .map(|outcome| outcome.invalid.clone())
                .unwrap_or_default();
            invalid.iter().for_each(|reason| tell(Step::NotValid(reason)));
            outcomes
                .entry((turn.variant, turn.kind))
                .or_default()
                .extend(done);
            if invalid.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

fn entry(variant: &Variant, contestant: &str, outcomes: &[&Outcome]) -> Entry {
    let valid: Vec<&Outcome> = outcomes
        .iter()
        .copied()
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
                unit: measure.unit.to_owned(),
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
