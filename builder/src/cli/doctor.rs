//! `builder doctor`: what this machine lacks, each with the command that repairs it.

use serde_json::json;

use crate::Result;
use crate::cli::Context;
use crate::doctor::{State, examine};
use crate::error::Exit;

/// Exit code 2 if builds would not work.
pub(super) fn run(context: &Context) -> Result<Exit> {
    let findings = examine(&context.project()?)?;
    for finding in &findings {
        context.report.event("finding", json!(finding));
        let mark = match finding.state {
            State::Ok => "ok     ",
            State::Limited => "limited",
            State::Missing => "missing",
        };
        context
            .report
            .data(format!("{mark}  {:24} {}", finding.name, finding.detail));
        if let Some(remedy) = &finding.remedy {
            context.report.data(format!("         {:24} → {remedy}", ""));
        }
    }
    let missing = findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .count();
    Ok(if missing == 0 { Exit::Ok } else { Exit::Environment })
}
