//! Reads TOML that people write, or merge: an error shows file, line and column, and the nearest known key.
//!
//! It must not know any particular file: shapes and their meaning belong to the modules that call it.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::de::DeserializeOwned;

use crate::{Error, Result, nearest};

/// Parses `text`, which came from `name` (a path or URL, for messages).
pub fn parse<T: DeserializeOwned>(name: impl AsRef<str>, text: &str) -> Result<T> {
    if let Some(line) = merge_marker(text) {
        return Err(
            Error::user(format!("{}:{line}: an unresolved merge conflict", name.as_ref()))
                .hint("resolve the conflict between the lines <<<<<<< and >>>>>>>"),
        );
    }
    toml::from_str(text).map_err(|error| explain(name.as_ref(), text, &error))
}

/// The line of the first conflict marker that git left.
fn merge_marker(text: &str) -> Option<usize> {
    text.lines()
        .position(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> "))
        .map(|line| line + 1)
}

fn explain(name: &str, text: &str, error: &toml::de::Error) -> Error {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    let before = &text[..span.start.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before
        .chars()
        .rev()
        .take_while(|&character| character != '\n')
        .count()
        + 1;
    let snippet = Snippet::source(text)
        .path(name)
        .annotation(AnnotationKind::Primary.span(span));
    let failure = Error::user(format!("{name}:{line}:{column}: {message}"))
        .excerpt(Renderer::plain().render(&[Group::with_level(Level::ERROR).element(snippet)]));
    match known_keys(message) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Of serde's message "unknown field `a`, expected one of `b`, `c`": what the writer may have meant.
fn known_keys(message: &str) -> Option<String> {
    let mut quoted = message
        .strip_prefix("unknown field ")?
        .split('`')
        .skip(1)
        .step_by(2);
    let given = quoted.next()?;
    nearest::hint(given, "keys", quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[allow(dead_code, reason = "only its name matters here")]
        label: String,
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_place_and_the_nearest_one() {
        let error = parse::<Shape>("a.toml", "label = 'x'\nlabell = 'y'\n").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a.toml:2:1: unknown field `labell`"),
            "{error}"
        );
        assert_eq!(error.hints(), ["did you mean `label`?"]);
        assert!(error.excerpt_text().unwrap().contains("labell = 'y'"));
    }

    #[test]
    fn a_merge_marker_is_named_as_what_it_is() {
        let error = parse::<Shape>("a.toml", "label = 'x'\n<<<<<<< HEAD\n").unwrap_err();
        assert_eq!(error.to_string(), "a.toml:2: an unresolved merge conflict");
    }
}
