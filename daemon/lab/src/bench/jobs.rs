//! Several scenarios at once, each in a thread of its own; what they have to say comes to one listener in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::Plan;
use crate::contestant::Tools;
use crate::scenario::Scenario;
use crate::series::{ScenarioReport, Step, series};
use crate::{Result, interrupt};

/// What happens in one of them.
#[derive(Debug)]
pub(super) enum News {
    /// A run begins: in words, and whether it is one that is done again.
    Begins(String, bool),
    /// Something that a person should read.
    Note(String),
    /// It is done, or was ended early.
    Done(Box<ScenarioReport>),
}

/// Runs these scenarios in this order, up to `jobs` at once, and returns whether a signal ended them. `hear` is told what
/// happens in which of them; if it fails, those that run are the last.
pub(super) fn run(
    scenarios: &[&Scenario],
    jobs: usize,
    plan: &Plan,
    tools: &Tools,
    hear: &mut dyn FnMut(&Scenario, News) -> Result<()>,
) -> Result<bool> {
    let next = AtomicUsize::new(0);
    let (sender, news) = channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, scenarios.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while interrupt::check().is_ok() {
                    let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    let mut tell = |step: Step<'_>| {
                        let news = match step {
                            Step::Run { again, .. } => News::Begins(step.to_string(), again > 0),
                            Step::NotValid(_) | Step::Absent(_) => News::Note(step.to_string()),
                        };
                        // Nobody listens any more after a failure, which the end of this scenario notices.
                        let _ = sender.send((*scenario, news));
                    };
                    let done = series((*scenario).clone(), &plan.wishes, tools, &mut tell, &mut |_| {});
                    if sender.send((*scenario, News::Done(Box::new(done)))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (scenario, news) in news {
            hear(scenario, news)?;
        }
        Ok(interrupt::check().is_err())
    })
}
