//! What `sennit server uninstall` has to take back: every change, written to a file before it is made.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::system::write_atomically;
use crate::{Error, Result};

const FILE: &str = "installed.json";
const VERSION: u32 = 1;

/// One change of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A file that makes the machine a server: program, service.
    File {
        /// Where it lies.
        path: PathBuf,
    },
    /// What the user may want to keep: configuration, key.
    Setting {
        /// Where it lies.
        path: PathBuf,
    },
    /// The service starts with the machine.
    Service {
        /// Who starts it.
        supervisor: super::Supervisor,
    },
    /// Something that a command takes back, such as a rule of another packet filter.
    Command {
        /// What it did, for people.
        what: String,
        /// The program and its arguments.
        undo: Vec<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    changes: Vec<Change>,
}

/// The list of changes, and the file that holds it.
#[derive(Debug)]
pub struct Installed {
    file: PathBuf,
    written: Written,
}

impl Installed {
    /// Reads the list; without one it is empty.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let file = state_dir.join(FILE);
        let failed = |why: String| {
            Error::environment(
                format!(
                    "failed to read the list of what was installed, {}: {why}",
                    file.display()
                ),
                "run this command as root, with the sennit that installed the server",
            )
        };
        let written = match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Written {
                version: VERSION,
                changes: Vec::new(),
            },
            Err(error) => return Err(failed(error.to_string())),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?,
        };
        if written.version > VERSION {
            return Err(failed("a newer sennit wrote it".to_owned()));
        }
        Ok(Self { file, written })
    }

    /// The changes, the first one first.
    pub fn changes(&self) -> &[Change] {
        &self.written.changes
    }

    /// Remembers a change that is about to be made.
    pub fn remember(&mut self, change: Change) -> Result<()> {
        if self.written.changes.contains(&change) {
            return Ok(());
        }
        self.written.changes.push(change);
        self.save()
    }

    /// Forgets a change that was taken back. The file goes with the last one.
    pub fn forget(&mut self, change: &Change) -> Result<()> {
        self.written.changes.retain(|known| known != change);
        if self.written.changes.is_empty() {
            super::remove_file(&self.file)
        } else {
            self.save()
        }
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.written).map_err(|error| {
            Error::environment(error.to_string(), "this is a bug of sennit: please report it")
        })?;
        write_atomically(&self.file, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_remembered_once_and_forgotten_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| Change::File { path: name.into() };
        let mut list = Installed::open(folder.path()).unwrap();
        for name in ["/a", "/b", "/a"] {
            list.remember(file(name)).unwrap();
        }
        let mut list = Installed::open(folder.path()).unwrap();
        assert_eq!(list.changes(), [file("/a"), file("/b")]);
        list.forget(&file("/a")).unwrap();
        assert_eq!(Installed::open(folder.path()).unwrap().changes(), [file("/b")]);
        list.forget(&file("/b")).unwrap();
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{", "{\"version\": 2, \"changes\": []}"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert!(Installed::open(folder.path()).is_err());
        }
    }
}
