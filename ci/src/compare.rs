//! `ci compare A B`: are two outputs of a build the same, byte by byte?

use camino::{Utf8Path, Utf8PathBuf};

use crate::host::say;
use crate::{Failure, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One folder
    first: Utf8PathBuf,
    /// The other
    second: Utf8PathBuf,
}

/// Fails (exit 3) with every file that differs or is in one folder only.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let first = files(&arguments.first)?;
    let second = files(&arguments.second)?;
    if first.is_empty() && second.is_empty() {
        return Err(Failure::user(format!(
            "{} and {} hold no files",
            arguments.first, arguments.second
        )));
    }
    let mut differences = Vec::new();
    for path in &first {
        if !second.contains(path) {
            differences.push(format!("only in {}: {path}", arguments.first));
        } else if let Some(offset) =
            first_difference(&arguments.first.join(path), &arguments.second.join(path))?
        {
            differences.push(format!("{path} differs from byte {offset} on"));
        }
    }
    differences.extend(
        second
            .iter()
            .filter(|path| !first.contains(path))
            .map(|path| format!("only in {}: {path}", arguments.second)),
    );
    if differences.is_empty() {
        say(&format!("{} files are the same in both", first.len()));
        return Ok(());
    }
    Err(Failure::differs(differences.join("\n")))
}

/// Relative paths of all files below, sorted.
fn files(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry =
            entry.map_err(|error| Failure::environment(format!("failed to read {folder}: {error}")))?;
        if entry.file_type().is_file() {
            let path = Utf8Path::from_path(entry.path())
                .ok_or_else(|| Failure::user(format!("{} is not UTF-8", entry.path().display())))?;
            found.push(path.strip_prefix(folder).unwrap_or(path).to_owned());
        }
    }
    Ok(found)
}

fn first_difference(first: &Utf8Path, second: &Utf8Path) -> Result<Option<usize>> {
    let read = |path: &Utf8Path| {
        std::fs::read(path).map_err(|error| Failure::environment(format!("failed to read {path}: {error}")))
    };
    let (first, second) = (read(first)?, read(second)?);
    if first == second {
        return Ok(None);
    }
    let common = first.iter().zip(&second).position(|(one, other)| one != other);
    Ok(Some(common.unwrap_or(first.len().min(second.len()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        folder
    }

    fn compared(first: &[(&str, &str)], second: &[(&str, &str)]) -> Result<()> {
        let (first, second) = (folder(first), folder(second));
        let path = |folder: &tempfile::TempDir| Utf8PathBuf::from(folder.path().to_str().expect("UTF-8"));
        run(&Arguments {
            first: path(&first),
            second: path(&second),
        })
    }

    #[test]
    fn the_same_bytes_are_the_same() {
        assert!(compared(&[("a", "1"), ("b", "2")], &[("a", "1"), ("b", "2")]).is_ok());
    }

    #[test]
    fn each_difference_is_named_with_its_place() {
        let failure =
            compared(&[("a", "same"), ("b", "here")], &[("a", "samE"), ("c", "there")]).unwrap_err();
        let text = failure.to_string();
        assert_eq!(failure.exit(), 3);
        assert!(text.contains("a differs from byte 3 on"), "{text}");
        assert!(text.contains(": b") && text.contains(": c"), "{text}");
    }

    #[test]
    fn two_empty_folders_prove_nothing() {
        assert!(compared(&[], &[]).is_err());
    }
}
