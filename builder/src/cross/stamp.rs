//! What was found out about programs, kept by their path, size and time of change, so that it costs two `stat`s later.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// Facts by question; each holds only while the files that it was read from are unchanged.
#[derive(Debug)]
pub(super) struct Facts {
    path: Utf8PathBuf,
    known: BTreeMap<String, Fact>,
    changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fact {
    /// [`stamp`]s of the files that decide the answer, by path.
    while_unchanged: BTreeMap<Utf8PathBuf, String>,
    answer: String,
}

impl Facts {
    /// Reads the file; an absent or broken one is an empty one, since everything in it can be found out again.
    pub(super) fn load(path: Utf8PathBuf) -> Self {
        let known = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            known: known.unwrap_or_default(),
            changed: false,
        }
    }

    /// Writes the file if there is anything new. Failing to is no error: the next run asks again.
    pub(super) fn store(&self) {
        if !self.changed {
            return;
        }
        let write = || -> std::io::Result<()> {
            let folder = self.path.parent().unwrap_or(Utf8Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, &self.known)?;
            file.persist(&self.path)?;
            Ok(())
        };
        let _ = write();
    }

    /// The known answer to `question` if none of its files changed; else `find_out`'s, which also names those files.
    pub(super) fn ask(
        &mut self,
        question: &str,
        find_out: impl FnOnce() -> Option<(String, Vec<Utf8PathBuf>)>,
    ) -> Option<String> {
        if let Some(fact) = self.known.get(question)
            && fact
                .while_unchanged
                .iter()
                .all(|(path, known)| stamp(path) == *known)
        {
            return Some(fact.answer.clone());
        }
        let (answer, files) = find_out()?;
        let while_unchanged = files
            .into_iter()
            .map(|path| (path.clone(), stamp(&path)))
            .collect();
        self.known.insert(
            question.to_owned(),
            Fact {
                while_unchanged,
                answer: answer.clone(),
            },
        );
        self.changed = true;
        Some(answer)
    }
}

/// Real path, size and time of change, or `absent`.
fn stamp(path: &Utf8Path) -> String {
    let real = || {
        let real = path.canonicalize_utf8()?;
        let metadata = std::fs::metadata(&real)?;
        Ok::<_, std::io::Error>(format!(
            "{real} {} {}.{:09}",
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ))
    };
    real().unwrap_or_else(|_| "absent".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_until_one_of_its_files_changes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (store, program, absent) = (
            folder.join("facts.json"),
            folder.join("rustc"),
            folder.join("override"),
        );
        std::fs::write(&program, "1").unwrap();
        let ask = |answer: &str| {
            let mut facts = Facts::load(store.clone());
            let found = facts.ask("version", || {
                Some((answer.to_owned(), vec![program.clone(), absent.clone()]))
            });
            facts.store();
            found.unwrap()
        };
        assert_eq!(ask("one"), "one");
        assert_eq!(ask("two"), "one", "nothing changed");
        std::fs::write(&program, "another size").unwrap();
        assert_eq!(ask("two"), "two");
        std::fs::write(&absent, "").unwrap();
        assert_eq!(ask("three"), "three", "a file that appears is a change");
    }

    #[test]
    fn a_broken_file_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Utf8PathBuf::from_path_buf(folder.path().join("facts.json")).unwrap();
        std::fs::write(&store, "{ not json").unwrap();
        let mut facts = Facts::load(store);
        assert_eq!(
            facts
                .ask("version", || Some(("found".to_owned(), Vec::new())))
                .as_deref(),
            Some("found")
        );
        assert_eq!(facts.ask("other", || None), None);
    }
}
