//! The one printer: progress and steps on stderr, data on stdout, JSON events instead of both.
//!
//! First draw after 500 ms, then every 100 ms; no bars off a terminal; `NO_COLOR` is honoured by `anstream`.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::Error;

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// `-qq`: nothing, not even errors; the exit code says it all.
    Silent,
    /// `-q`: errors and warnings.
    Quiet,
    /// Steps and progress.
    Normal,
}

/// Prints for one run of the program. Cheap to clone; all clones share the terminal.
#[derive(Clone)]
pub struct Report(Arc<Inner>);

struct Inner {
    verbosity: Verbosity,
    json: bool,
    bars: MultiProgress,
}

impl Report {
    /// `json`: one JSON object a line on stdout instead of text on either stream.
    pub fn new(verbosity: Verbosity, json: bool) -> Self {
        let visible = verbosity == Verbosity::Normal && !json && std::io::stderr().is_terminal();
        let target = if visible {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self(Arc::new(Inner {
            verbosity,
            json,
            bars: MultiProgress::with_draw_target(target),
        }))
    }

    /// For tests and library use: says nothing.
    pub fn silent() -> Self {
        Self::new(Verbosity::Silent, false)
    }

    /// True if events go to stdout as JSON.
    pub fn is_json(&self) -> bool {
        self.0.json
    }

    /// A step that is done, in the past tense: "Downloaded openwrt-imagebuilder-… (52 MB)".
    pub fn done(&self, text: impl AsRef<str>) {
        self.event("done", json!({ "text": text.as_ref() }));
        self.line(Verbosity::Normal, "  ", text.as_ref());
    }

    /// Something the user should know and that stops nothing.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.event("warning", json!({ "text": text.as_ref() }));
        self.line(Verbosity::Quiet, "warning: ", text.as_ref());
    }

    /// The end of a run that failed.
    pub fn error(&self, error: &Error) {
        self.event(
            "error",
            json!({
                "text": error.to_string(),
                "excerpt": error.excerpt_text(),
                "hints": error.hints(),
                "exit": error.exit() as u8,
            }),
        );
        let mut text = error.to_string();
        if let Some(excerpt) = error.excerpt_text() {
            text = format!("{text}\n{excerpt}");
        }
        for hint in error.hints() {
            text = format!("{text}\nhint: {hint}");
        }
        self.line(Verbosity::Quiet, "error: ", &text);
    }

    /// Data the user asked for, on stdout. Not shown with `--json`: there the command emits [`Report::event`]s.
    pub fn data(&self, text: impl AsRef<str>) {
        if !self.0.json {
            self.0.bars.suspend(|| {
                // A closed pipe (`builder list | head -1`) is not an error of ours.
                let _ = writeln!(anstream::stdout(), "{}", text.as_ref());
            });
        }
    }

    /// One line of JSON on stdout: `{"event": KIND, …fields}`. Nothing without `--json`.
    pub fn event(&self, kind: &str, fields: Value) {
        if !self.0.json {
            return;
        }
        let mut object = serde_json::Map::new();
        object.insert("event".into(), kind.into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        let _ = writeln!(std::io::stdout().lock(), "{}", Value::Object(object));
    }

    /// A bar that counts bytes; give `None` where the total is unknown.
    pub fn bytes(&self, label: impl Into<String>, total: Option<u64>) -> ProgressBar {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "  {msg:30!} {bar:24} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4}",
            )),
            None => ProgressBar::new_spinner().with_style(style("  {msg:30!} {spinner} {bytes:>10}")),
        };
        self.add(bar, label)
    }

    /// A spinner with the time that a step without a measure has taken.
    pub fn spinner(&self, label: impl Into<String>) -> ProgressBar {
        self.add(
            ProgressBar::new_spinner().with_style(style("  {spinner} {msg} {elapsed}")),
            label,
        )
    }

    fn add(&self, bar: ProgressBar, label: impl Into<String>) -> ProgressBar {
        let bar = self.0.bars.add(
            bar.with_message(label.into())
                .with_finish(indicatif::ProgressFinish::AndClear),
        );
        bar.enable_steady_tick(Duration::from_millis(500));
        bar
    }

    fn line(&self, least: Verbosity, prefix: &str, text: &str) {
        if self.0.verbosity >= least && !self.0.json {
            self.0.bars.suspend(|| {
                let _ = writeln!(anstream::stderr(), "{prefix}{text}");
            });
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
