//! Errors that show the line of the file at fault, as rustc does. The only place that renders excerpts.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;

use crate::project::Project;
use crate::{Error, Result, nearest};

/// A TOML file that was read, kept for pointing into it.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Relative to the project: `profiles/rpi4.toml`.
    pub(super) path: Utf8PathBuf,
    text: String,
}

impl SourceFile {
    /// Reads `path`, which is relative to the project.
    pub(super) fn read(project: &Project, path: impl Into<Utf8PathBuf>) -> Result<Self> {
        let path = path.into();
        let absolute = project.root.join(&path);
        let bytes = std::fs::read(&absolute).map_err(|error| Error::io("read", &absolute, error))?;
        let text = String::from_utf8(bytes)
            .map_err(|error| Error::user(format!("{path} is not UTF-8")).because(error))?;
        Ok(Self { path, text })
    }

    /// Parses the whole file; a refusal points at the place.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let Words {
                message,
                label,
                hints,
            } = reword(error.message());
            let message = format!("{message} in {}", self.path);
            hints
                .into_iter()
                .fold(self.error(span, message, &label), Error::hint)
        })
    }

    /// A user error at `span`, with the line itself and `label` under it.
    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>, label: &str) -> Error {
        let span = span.start.min(self.text.len())..span.end.min(self.text.len());
        // A span over several lines (a table, a list) is shown by its first line: the rest is noise.
        let first_line = self.text[span.clone()]
            .find('\n')
            .map_or(span.end, |end| span.start + end);
        let annotation = AnnotationKind::Primary.span(span.start..first_line.max(span.start));
        let annotation = if label.is_empty() {
            annotation
        } else {
            annotation.label(label)
        };
        let snippet = Snippet::source(&self.text)
            .path(self.path.as_str())
            .annotation(annotation);
        // The title is the error's message: here it is only the colour of the marks.
        let group = Group::with_level(Level::ERROR).element(snippet);
        Error::user(message).excerpt(Renderer::plain().render(&[group]).trim_end())
    }

    /// 1-based line of a byte offset.
    pub(super) fn line(&self, offset: usize) -> u32 {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count() as u32
    }

    /// `profiles/rpi4.toml` → `rpi4`
    pub(super) fn stem(&self) -> &str {
        Utf8Path::file_stem(&self.path).unwrap_or(self.path.as_str())
    }
}

/// What is said about a refusal of the TOML reader.
struct Words {
    message: String,
    label: String,
    hints: Vec<String>,
}

/// serde speaks of fields and sequences; people who write profiles, of keys and lists.
fn reword(message: &str) -> Words {
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((key, rest)) = rest.split_once('`')
    {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let hint = nearest::hint(key, "keys that may stand here", known);
        let label = "no such key here".to_owned();
        return Words {
            message: format!("unknown key `{key}`"),
            label,
            hints: hint.into_iter().collect(),
        };
    }
    if let Some(rest) = message.strip_prefix("missing field `")
        && let Some((key, _)) = rest.split_once('`')
    {
        let label = format!("needs a key `{key}`");
        return Words {
            message: format!("missing key `{key}`"),
            label,
            hints: vec![format!("add {key} = …")],
        };
    }
    if let Some((found, expected)) = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))
        .and_then(|rest| rest.split_once(", expected "))
    {
        let expected = match expected {
            "a sequence" => "a list",
            "a map" => "a table",
            "u8" | "u32" | "u64" => "a whole number in range, not negative",
            "a boolean" => "true or false",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        let found = match found {
            "sequence" => "a list".to_owned(),
            "map" => "a table".to_owned(),
            other => other.to_owned(),
        };
        let hints = match expected {
            "a list" => vec!["write it as a list: [\"…\"]".to_owned()],
            "a string" => vec!["put it in quotes".to_owned()],
            _ => Vec::new(),
        };
        return Words {
            message: format!("wrong type: expected {expected}, found {found}"),
            label: format!("expected {expected}"),
            hints,
        };
    }
    let message = message.lines().collect::<Vec<_>>().join(", ");
    Words {
        message: format!("malformed TOML ({message})"),
        label: String::new(),
        hints: Vec::new(),
    }
}
