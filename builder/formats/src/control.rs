//! Paragraphs of `Key: value` lines: the control file of an ipk and each entry of opkg's index.
//!
//! Only the fields that [`Meta`] has are kept; unknown ones are skipped, because real files carry many.

use crate::{Malformed, package::Meta};

/// One paragraph: its fields in order, continuation lines joined by a space.
pub(crate) struct Paragraph<'a> {
    /// Line of the first field, counted from 1.
    pub(crate) line: usize,
    fields: Vec<(&'a str, String)>,
}

impl Paragraph<'_> {
    /// A field's value; names are compared without case, as opkg does.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// A field that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Malformed> {
        match self.field(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(Malformed(format!(
                "line {}: this paragraph has no {name}",
                self.line
            ))),
        }
    }

    /// A field that is a number where it is there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Malformed> {
        let parse = |value: &str| {
            value
                .parse()
                .map_err(|_| Malformed(format!("line {}: {name} {value:?} is no number", self.line)))
        };
        self.field(name).map(parse).transpose()
    }

    /// What both a control file and an index say of a package.
    pub(crate) fn meta(&self) -> Result<Meta, Malformed> {
        let text = |name| self.field(name).unwrap_or_default().to_owned();
        let list = |name| -> Vec<String> {
            let words = self.field(name).unwrap_or_default().split(',').map(str::trim);
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        Ok(Meta {
            name: self.required("Package")?.to_owned(),
            version: self.required("Version")?.to_owned(),
            arch: self.required("Architecture")?.to_owned(),
            description: text("Description"),
            license: text("License"),
            url: text("URL"),
            maintainer: text("Maintainer"),
            origin: text("Source"),
            depends: list("Depends"),
            provides: list("Provides"),
            conflicts: list("Conflicts"),
            installed_size: self.number("Installed-Size")?.unwrap_or(0),
        })
    }
}

/// Splits a file into its paragraphs, which blank lines separate.
pub(crate) fn paragraphs(text: &str) -> Result<Vec<Paragraph<'_>>, Malformed> {
    let mut all = Vec::new();
    let mut fields: Vec<(&str, String)> = Vec::new();
    let mut first = 0;
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if line.is_empty() {
            if !fields.is_empty() {
                all.push(Paragraph {
                    line: first,
                    fields: std::mem::take(&mut fields),
                });
            }
        } else if line.starts_with([' ', '\t']) {
            // A line of blanks alone does not end a paragraph: real descriptions have them.
            if line.trim().is_empty() {
                continue;
            }
            let Some((_, value)) = fields.last_mut() else {
                return Err(Malformed(format!(
                    "line {number}: a continuation line with nothing before it"
                )));
            };
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str(line.trim());
        } else {
            let Some((key, value)) = line.split_once(':') else {
                return Err(Malformed(format!(
                    "line {number}: {:?} is no \"Key: value\"",
                    excerpt(line)
                )));
            };
            if fields.is_empty() {
                first = number;
            }
            fields.push((key.trim(), value.trim().to_owned()));
        }
    }
    if !fields.is_empty() {
        all.push(Paragraph { line: first, fields });
    }
    Ok(all)
}

/// The fields of a control file; `before_description` are those that an index adds, as OpenWrt's own script places them.
pub(crate) fn write(meta: &Meta, before_description: &[(&str, String)]) -> String {
    let fields = [
        ("Package", meta.name.clone()),
        ("Version", meta.version.clone()),
        ("Depends", meta.depends.join(", ")),
        ("Conflicts", meta.conflicts.join(", ")),
        ("Provides", meta.provides.join(", ")),
        ("Source", meta.origin.clone()),
        ("License", meta.license.clone()),
        ("URL", meta.url.clone()),
        ("Maintainer", meta.maintainer.clone()),
        ("Architecture", meta.arch.clone()),
        ("Installed-Size", meta.installed_size.to_string()),
    ];
    let description = [("Description", meta.description.clone())];
    let all = fields.iter().chain(before_description).chain(&description);
    all.filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect()
}

/// The start of a line, for messages.
fn excerpt(line: &str) -> String {
    line.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_keeps_its_line_and_joins_continuations() {
        let text =
            "\n\nPackage: a\nversion:1\nArchitecture: all\nDescription: one\n two\n \n\ttail\n\nPackage: b\n";
        let paragraphs = paragraphs(text).unwrap();
        assert_eq!(paragraphs[0].line, 3);
        assert_eq!(paragraphs[1].line, 11);
        let meta = paragraphs[0].meta().unwrap();
        assert_eq!(
            (meta.version.as_str(), meta.description.as_str()),
            ("1", "one two tail")
        );
        assert_eq!(
            paragraphs[1].meta().unwrap_err().0,
            "line 11: this paragraph has no Version"
        );
    }

    #[test]
    fn lines_that_are_no_fields_are_named() {
        assert!(paragraphs(" dangling\n").is_err_and(|error| error.0.starts_with("line 1:")));
        assert!(paragraphs("A: b\nnonsense\n").is_err_and(|error| error.0.contains("line 2: \"nonsense\"")));
    }
}
