//! `ci lint`: the workflow file against GitHub's schema and known ways of getting it wrong, and its `run:` steps against the
//! commands that this program really has.

use std::process::Command;

use clap::CommandFactory;

use crate::host::{project, step};
use crate::{Failure, Result, toolchain};

/// Where GitHub looks for workflows.
const WORKFLOW: &str = ".github/workflows/images.yml";
/// How a step of the workflow calls this program.
const CALL: &str = "cargo run --release --locked -p ci -- ";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Needs two Python programs, which are installed into `target/tools/venv` at the first run.
pub(crate) fn run(_: &Arguments) -> Result<()> {
    let path = project().join(WORKFLOW);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::environment(format!("failed to read {path}: {error}")))?;
    own_commands(&text)?;
    let tools = toolchain::python_programs(&["check-jsonschema==0.39.0", "zizmor==1.32.0"])?;
    step(
        "the workflow fits GitHub's schema",
        Command::new(tools.join("check-jsonschema"))
            .args(["--builtin-schema", "vendor.github-workflows"])
            .arg(&path),
    )?;
    step(
        "the workflow gives nothing away",
        Command::new(tools.join("zizmor"))
            .args(["--offline", "--no-progress", "--persona=regular"])
            .arg(&path),
    )
}

/// Every `run:` line is a call of this program that its own argument parser accepts.
fn own_commands(text: &str) -> Result<()> {
    let mut calls = 0;
    for (number, line) in text.lines().enumerate() {
        let Some(command) = line.trim_start().trim_start_matches("- ").strip_prefix("run: ") else {
            continue;
        };
        let words = command.strip_prefix(CALL).ok_or_else(|| {
            Failure::user(format!(
                "{WORKFLOW}:{}: `{command}` is not a command of `ci`",
                number + 1
            ))
        })?;
        let words = words.split_whitespace().map(|word| word.trim_matches('"'));
        crate::Arguments::command()
            .try_get_matches_from(std::iter::once("ci").chain(words))
            .map_err(|error| {
                Failure::user(format!(
                    "{WORKFLOW}:{}: {}",
                    number + 1,
                    error.to_string().trim_end()
                ))
            })?;
        calls += 1;
    }
    if calls == 0 {
        Err(Failure::user(format!("{WORKFLOW} runs nothing")))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workflow_calls_only_what_is_there() {
        let text = std::fs::read_to_string(project().join(WORKFLOW)).expect("the workflow is there");
        own_commands(&text).expect("all commands parse");
    }

    #[test]
    fn a_step_that_is_not_ours_or_is_misspelt_is_refused() {
        for step in ["run: make", "run: cargo run --release --locked -p ci -- tset"] {
            let failure = own_commands(&format!("steps:\n  - {step}\n")).expect_err(step);
            assert!(failure.to_string().contains("images.yml:2:"), "{failure}");
        }
    }
}
