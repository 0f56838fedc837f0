//! `sennit-lab bench`: all scenarios, one after the other or some at once, and one folder with the report of all of them.
//!
//! **Invariant:** after every scenario the folder holds a whole report of what was done so far; an interrupted
//! benchmark loses at most the scenarios that it was in, and goes on where it ended.

mod facts;
mod jobs;
mod markdown;
mod progress;
mod saved;
mod summary;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::contestant::{Kind, Tools};
use crate::item::ITEMS;
use crate::scenario::Scenario;
use crate::series::{ScenarioReport, Wishes, turns};
use crate::verdict::Standing;
use crate::{Error, Exit, Result, plot, report};

use facts::Facts;
use jobs::News;
use progress::Progress;
use saved::Key;
use summary::Summary;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Scenarios in the order of the report.
    pub scenarios: Vec<Scenario>,
    /// What the user changed about them.
    pub wishes: Wishes,
    /// Short runs, once each, for a first look.
    pub quick: bool,
    /// Scenarios at once, of those that leave the machine room for others.
    pub jobs: usize,
    /// Whether results in the folder that were made in the same way count.
    pub resume: bool,
    /// Where everything is written.
    pub folder: PathBuf,
    /// A Markdown file in which the report is written between [`BEGIN`] and [`END`].
    pub markdown: Option<PathBuf>,
}

/// Line before the report in a document that has other text as well.
pub const BEGIN: &str = "<!-- report: begin -->";
/// Line after it.
pub const END: &str = "<!-- report: end -->";

/// What the person at the terminal is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// How far it is; the next one takes its place.
    Progress(String),
    /// Something that stays.
    Line(String),
    /// Results.
    Table(String),
}

/// What came of a benchmark.
#[derive(Clone, Debug)]
pub struct Done {
    /// Each scenario that was done or begun.
    pub reports: Vec<ScenarioReport>,
    /// A signal ended it early.
    pub interrupted: bool,
}

impl Done {
    /// Exit code: failures, and with `strict` goals that were missed as well.
    pub fn exit(&self, strict: bool) -> Exit {
        if self.interrupted {
            return Exit::Interrupted;
        }
        // Peers that are not installed take nothing from the result but a comparison.
        let needed = |name: &str| {
            [Kind::Direct, Kind::Shovel, Kind::Sennit]
                .map(Kind::name)
                .contains(&name)
        };
        let failed = self.reports.iter().any(|report| {
            report.stopped.is_some()
                || report.absent.iter().any(|(name, _)| needed(name))
                || report.entries.iter().any(|entry| entry.runs == 0)
        });
        let missed = self
            .reports
            .iter()
            .flat_map(|report| &report.verdicts)
            .any(|verdict| verdict.standing == Standing::Missed);
        if failed {
            Exit::Environment
        } else if strict && missed {
            Exit::Missed
        } else {
            Exit::Ok
        }
    }
}

/// The scenarios of the benchmark: all, or those whose name or number of item is in `only`.
pub fn scenarios(only: &[String]) -> Result<Vec<Scenario>> {
    let mut all: Vec<Scenario> = Scenario::all()?.into_iter().filter(|one| one.bench).collect();
    // Stable: within an item the order of the shipped list stays.
    all.sort_by_key(|scenario| scenario.item);
    for wanted in only {
        let names = |scenario: &Scenario| scenario.name == *wanted || scenario.item.to_string() == *wanted;
        if !all.iter().any(names) {
            return Err(Error::user(
                format!("the benchmark has no scenario or item {wanted}"),
                format!(
                    "items are 1 to {}; `sennit-lab list` shows the scenarios",
                    ITEMS.len()
                ),
            ));
        }
    }
    all.retain(|scenario| {
        only.is_empty() || only.contains(&scenario.name) || only.contains(&scenario.item.to_string())
    });
    Ok(all)
}

/// Runs of a quick benchmark are this long, if what happens in them leaves it so.
const QUICK_SECONDS: f64 = 8.0;
/// What is looked at after an event, or after a transfer begins later than the rest.
const AFTER: f64 = 5.0;

/// A scenario as a quick benchmark runs it: once, short, with its first congestion control only.
fn quick(mut scenario: Scenario) -> Scenario {
    scenario.seconds = scenario.seconds.min(QUICK_SECONDS.max(needed(&scenario)));
    scenario.repeat = 1;
    if let Some(first) = scenario.variants.first().map(|first| first.congestion.clone()) {
        let goals = scenario.goals.iter();
        let mut wanted: Vec<&str> = goals
            .filter_map(|goal| goal.relative_congestion.as_deref())
            .collect();
        wanted.push(&first);
        scenario
            .variants
            .retain(|variant| wanted.contains(&variant.congestion.as_str()));
    }
    scenario
}

/// The least seconds in which all that a scenario is about can be seen.
fn needed(scenario: &Scenario) -> f64 {
    let events = scenario.events.iter().map(|event| event.at.secs());
    let starts = scenario.bulks.iter().map(|bulk| bulk.start.secs());
    let last = events.chain(starts).fold(0.0, f64::max);
    if last > 0.0 { last + AFTER } else { 0.0 }
}

/// Runs the plan; `tell` hears how it goes.
pub fn bench(plan: &Plan, tools: &Tools, tell: &mut dyn FnMut(Told)) -> Result<Done> {
    let scenarios: Vec<Scenario> = plan
        .scenarios
        .iter()
        .cloned()
        .map(|scenario| if plan.quick { quick(scenario) } else { scenario })
        .map(|scenario| {
            let mut wished = plan.wishes.applied(scenario.clone());
            wished.seconds = wished.seconds.max(needed(&scenario));
            // Who has no part in a scenario gets none by being named.
            wished
                .contestants
                .retain(|kind| scenario.contestants.contains(kind));
            wished
        })
        .filter(|scenario| !scenario.contestants.is_empty())
        .collect();
    make_folder(&plan.folder.join("scenarios"))?;
    let facts = Facts::gather(plan, &scenarios, tools);
    let keys: Vec<Key> = scenarios
        .iter()
        .map(|scenario| Key::of(scenario, plan.wishes.seed, &facts.program))
        .collect();
    let mut reports: Vec<Option<ScenarioReport>> = Vec::new();
    for (scenario, key) in scenarios.iter().zip(&keys) {
        reports.push(if plan.resume {
            saved::read(&plan.folder, scenario, key)
        } else {
            None
        });
    }
    let open: Vec<&Scenario> = scenarios
        .iter()
        .zip(&reports)
        .filter_map(|(scenario, done)| done.is_none().then_some(scenario))
        .collect();
    let (beside, alone) = divided(&open, plan.jobs);
    let mut progress = Progress::new(plan.jobs, &beside, &alone);
    tell(Told::Line(format!(
        "{} scenarios, {} of them done before; {} runs, about {}",
        scenarios.len(),
        scenarios.len() - open.len(),
        progress.runs(),
        progress.left()
    )));
    let mut hear = |scenario: &Scenario, news: News| {
        let name = &scenario.name;
        match news {
            News::Begins(step, again) => {
                progress.begin(name, again);
                tell(Told::Progress(format!("[{}] {step}", progress.stand(name))));
            }
            News::Note(text) => tell(Told::Line(text)),
            News::Done(done) => {
                progress.end(name);
                plot::write(&done, &plan.folder.join("plots"), plot::Which::Bond)?;
                tell(Told::Table(report::table(&done)));
                let all = scenarios.iter().zip(&keys).zip(&mut reports);
                for ((_, key), place) in all.filter(|((one, _), _)| one.name == *name) {
                    if done.stopped.is_none() {
                        saved::write_report(&plan.folder, key, &done)?;
                    }
                    *place = Some((*done).clone());
                }
                write_report(plan, &facts, &scenarios, &reports)?;
            }
        }
        Ok(())
    };
    let interrupted = jobs::run(&beside, plan.jobs, plan, tools, &mut hear)?
        || jobs::run(&alone, 1, plan, tools, &mut hear)?;
    write_report(plan, &facts, &scenarios, &reports)?;
    let reports: Vec<ScenarioReport> = reports.into_iter().flatten().collect();
    let summary = Summary::new(&scenarios, &reports);
    tell(Told::Table(summary.table()));
    tell(Told::Line(format!(
        "report: {}",
        plan.folder.join("report.md").display()
    )));
    Ok(Done { reports, interrupted })
}

/// Which scenarios run beside others, in the order in which they begin, and which run alone after them.
fn divided<'a>(open: &[&'a Scenario], jobs: usize) -> (Vec<&'a Scenario>, Vec<&'a Scenario>) {
    if jobs <= 1 {
        return (Vec::new(), open.to_vec());
    }
    let (alone, mut beside): (Vec<_>, Vec<_>) = open
        .iter()
        .copied()
        .partition(|scenario| scenario.wants_the_machine());
    // The longest first, so that at the end no long one runs by itself.
    let seconds = |scenario: &Scenario| turns(scenario).len() as f64 * (scenario.settle + scenario.seconds);
    beside.sort_by(|a, b| f64::total_cmp(&seconds(b), &seconds(a)));
    (beside, alone)
}

/// Writes the report of all that is there.
fn write_report(
    plan: &Plan,
    facts: &Facts,
    scenarios: &[Scenario],
    reports: &[Option<ScenarioReport>],
) -> Result<()> {
    let reports: Vec<ScenarioReport> = reports.iter().flatten().cloned().collect();
    let summary = Summary::new(scenarios, &reports);
    let mut value = report::json(&reports);
    value["facts"] = json!(facts);
    value["items"] = summary.json();
    write(&plan.folder.join("report.json"), &format!("{value:#}\n"))?;
    let text = markdown::report(facts, &summary, Some(&plan.folder));
    write(&plan.folder.join("report.md"), &text)?;
    if let Some(document) = &plan.markdown {
        // Plots stay where they are: a document that is kept has the figures only.
        insert(document, &markdown::report(facts, &summary, None))?;
    }
    Ok(())
}

/// Puts the report into a document, between its marks.
fn insert(document: &Path, report: &str) -> Result<()> {
    let text = std::fs::read_to_string(document).map_err(|error| {
        Error::user(
            format!("failed to read {}: {error}", document.display()),
            format!("name a Markdown file with the lines {BEGIN} and {END}"),
        )
    })?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        return Err(Error::user(
            format!("{} has no place for the report", document.display()),
            format!("add the lines {BEGIN} and {END}"),
        ));
    };
    write(document, &format!("{before}{BEGIN}\n{report}{END}{after}"))
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Error::user(
            format!("failed to make the folder {}: {error}", folder.display()),
            "name another one with --folder",
        )
    })
}

/// Writes a file that is either the old one or the new one, never a part.
fn write(file: &Path, text: &str) -> Result<()> {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, file))
        .map_err(|error| {
            Error::user(
                format!("failed to write {}: {error}", file.display()),
                "name a place that you may write to",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Entry, Figure};

    /// A report of that scenario's first variant: direct 48 and 22 Mbit/s, and the bond as given.
    pub(super) fn report_of(name: &str, goodput: f64) -> ScenarioReport {
        let mut scenario = Scenario::find(name).expect("shipped");
        scenario.repeat = 1;
        let entry = |contestant: &str, goodput: f64| Entry {
            variant: scenario.variants[0].clone(),
            contestant: contestant.to_owned(),
            runs: 1,
            invalid: Vec::new(),
            notes: vec!["1 flows ran cubic, read back from the sockets at both ends".to_owned()],
            figures: vec![Figure {
                name: "goodput".to_owned(),
                unit: "Mbit/s".to_owned(),
                value: goodput,
                spread: (goodput, goodput),
            }],
            timeline: crate::run::Timeline::default(),
        };
        let mut report = ScenarioReport {
            entries: vec![
                entry("direct:wan0", 48.0),
                entry("direct:sum", 70.0),
                entry("direct:best", 48.0),
                entry("sennit", goodput),
            ],
            scenario,
            verdicts: Vec::new(),
            absent: Vec::new(),
            stopped: None,
        };
        report.verdicts = crate::verdict::judge(&report);
        report
    }

    #[test]
    fn a_part_of_the_benchmark_is_named_by_items_and_by_scenarios() {
        let names = |only: &[&str]| -> Vec<String> {
            let only: Vec<String> = only.iter().map(|one| (*one).to_owned()).collect();
            let found = scenarios(&only).expect("they are there");
            found.into_iter().map(|scenario| scenario.name).collect()
        };
        assert_eq!(names(&["2", "equal"]), ["equal", "unequal", "unequal-three"]);
        assert!(names(&[]).len() > 30);
        let error = scenarios(&["equall".to_owned()]).expect_err("a typing error");
        assert!(error.to_string().contains("equall"));
    }

    #[test]
    fn what_the_machine_limits_runs_alone() {
        let all = scenarios(&[]).expect("they parse");
        let open: Vec<&Scenario> = all.iter().collect();
        let (beside, alone) = divided(&open, 3);
        let alone: Vec<&str> = alone.iter().map(|scenario| scenario.name.as_str()).collect();
        let wanted = [
            "raw",
            "raw-two",
            "raw-lan",
            "raw-small",
            "idle",
            "full-load",
            "many-clients",
            "many-clients-contend",
            "many-clients-attacked",
        ];
        assert_eq!(alone, wanted);
        assert_eq!(beside.len() + alone.len(), all.len());
        let length = |scenario: &Scenario| turns(scenario).len() as f64 * scenario.seconds;
        assert!(length(beside[0]) > length(beside[beside.len() - 1]));
        let (beside, one_by_one) = divided(&open, 1);
        assert!(beside.is_empty(), "one at a time, and in the report's order");
        assert!(
            one_by_one
                .iter()
                .map(|one| &one.name)
                .eq(all.iter().map(|one| &one.name))
        );
    }

    #[test]
    fn quick_runs_are_short_but_see_all_events() {
        for scenario in scenarios(&[]).expect("they parse") {
            let before = scenario.clone();
            let short = quick(scenario);
            assert!(short.seconds <= before.seconds && short.repeat == 1 && !short.variants.is_empty());
            let seen = short.events.iter().all(|event| event.at.secs() < short.seconds);
            assert!(seen, "{}", short.name);
        }
    }

    #[test]
    fn the_report_takes_its_place_in_a_document_again_and_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("BENCHMARKS.md");
        let text = format!("# before\n{BEGIN}\nold\n{END}\nafter\n");
        std::fs::write(&file, text).expect("written");
        for report in ["new\n", "newer\n"] {
            insert(&file, report).expect("there is a place");
            let text = std::fs::read_to_string(&file).expect("readable");
            assert_eq!(text, format!("# before\n{BEGIN}\n{report}{END}\nafter\n"));
        }
        std::fs::write(&file, "nothing").expect("written");
        assert!(insert(&file, "new").is_err());
    }
}
