//! Whether a device's folder is already what a build would make: answered from times and sizes, in milliseconds.
//!
//! Times never enter the outputs; they are kept beside the work in progress, and without them the hashes are compared.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::provenance::Provenance;
use crate::atomic;
use crate::digest::Sha256;
use crate::project::Project;
use crate::{Error, Result};

/// What is known of the outputs of the last build of one device.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The build key.
    key: Sha256,
    /// This program itself: another one may write other bytes under the same version while it is being developed.
    program: Option<Stamp>,
    /// By file name.
    files: BTreeMap<String, Stamp>,
}

/// What changes when somebody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    fn of(path: &Utf8Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self {
            size: metadata.size(),
            inode: metadata.ino(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// The folder is what a build would make.
    Fresh,
    /// It is not, and why.
    Stale(String),
}

/// Compares `folder` with what a build by `key` would make.
pub(super) fn check(
    project: &Project,
    source: &str,
    device: &str,
    folder: &Utf8Path,
    key: Sha256,
) -> Result<Freshness> {
    let stale = |why: &str| Ok(Freshness::Stale(why.to_owned()));
    let Some(provenance) = Provenance::read(folder) else {
        return stale("not built yet");
    };
    if provenance.build_key != key {
        return stale("its inputs changed");
    }
    let record = read(&record_path(project, source, device));
    if let Some(record) = &record {
        if record.key != key {
            return stale("its inputs changed");
        }
        if record.program.is_some() && record.program != program() {
            return stale("this program changed");
        }
        if record
            .files
            .iter()
            .all(|(name, stamp)| Stamp::of(&folder.join(name)).as_ref() == Some(stamp))
        {
            return Ok(Freshness::Fresh);
        }
    }
    // Copied, restored or touched: the bytes decide.
    for (name, output) in &provenance.outputs {
        let path = folder.join(name);
        let same = Stamp::of(&path).is_some_and(|stamp| stamp.size == output.size)
            && Sha256::of_file(&path)? == output.sha256;
        if !same {
            return Ok(Freshness::Stale(format!("{name} is missing or changed")));
        }
    }
    remember(project, source, device, folder, key)?;
    Ok(Freshness::Fresh)
}

/// Notes the state of a folder that was just built or compared.
pub(super) fn remember(
    project: &Project,
    source: &str,
    device: &str,
    folder: &Utf8Path,
    key: Sha256,
) -> Result<()> {
    let mut files = BTreeMap::new();
    for entry in folder
        .read_dir_utf8()
        .map_err(|error| Error::io("read", folder, error))?
    {
        let entry = entry.map_err(|error| Error::io("read", folder, error))?;
        if let Some(stamp) = Stamp::of(entry.path()) {
            files.insert(entry.file_name().to_owned(), stamp);
        }
    }
    let record = Record {
        key,
        program: program(),
        files,
    };
    let text = serde_json::to_vec_pretty(&record)
        .map_err(|error| Error::bug("the state of a build cannot be written as JSON").because(error))?;
    atomic::write(&record_path(project, source, device), &text, 0o644)
}

fn record_path(project: &Project, source: &str, device: &str) -> Utf8PathBuf {
    project
        .work()
        .join("built")
        .join(format!("{source}-{device}.json"))
}

fn read(path: &Utf8Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn program() -> Option<Stamp> {
    let path = Utf8PathBuf::from_path_buf(std::env::current_exe().ok()?).ok()?;
    Stamp::of(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::key::tests::inputs;
    use crate::build::provenance::{self, Output};

    struct Built {
        _keep: tempfile::TempDir,
        project: Project,
        folder: Utf8PathBuf,
        key: Sha256,
    }

    impl Built {
        fn new() -> Self {
            let keep = tempfile::tempdir().expect("tempdir");
            let root = Utf8PathBuf::from_path_buf(keep.path().to_owned()).expect("UTF-8");
            let folder = root.join("images/pc");
            std::fs::create_dir_all(&folder).expect("mkdir");
            std::fs::write(folder.join("a.img"), "image").expect("write");
            let outputs = BTreeMap::from([(
                "a.img".to_owned(),
                Output {
                    sha256: Sha256::of("image"),
                    size: 5,
                },
            )]);
            let provenance = Provenance::new(inputs(), None, Sha256::of("x"), None, outputs).expect("makes");
            std::fs::write(folder.join(provenance::FILE), provenance.to_text().expect("text"))
                .expect("write");
            Self {
                _keep: keep,
                project: Project { root },
                folder,
                key: provenance.build_key,
            }
        }

        fn check(&self) -> Freshness {
            check(&self.project, "openwrt", "pc", &self.folder, self.key).expect("checks")
        }
    }

    #[test]
    fn a_folder_is_fresh_with_or_without_a_record() {
        let built = Built::new();
        assert_eq!(built.check(), Freshness::Fresh, "by hash");
        assert_eq!(
            built.check(),
            Freshness::Fresh,
            "by the record of the first check"
        );
    }

    #[test]
    fn a_changed_or_missing_output_is_noticed() {
        let built = Built::new();
        built.check();
        std::fs::write(built.folder.join("a.img"), "imagE").expect("write");
        assert_eq!(
            built.check(),
            Freshness::Stale("a.img is missing or changed".into())
        );
        std::fs::write(built.folder.join("a.img"), "image").expect("write");
        assert_eq!(built.check(), Freshness::Fresh, "the same bytes, written again");
        std::fs::remove_file(built.folder.join("a.img")).expect("remove");
        assert_eq!(
            built.check(),
            Freshness::Stale("a.img is missing or changed".into())
        );
    }

    #[test]
    fn another_key_is_stale() {
        let built = Built {
            key: Sha256::of("another"),
            ..Built::new()
        };
        assert_eq!(built.check(), Freshness::Stale("its inputs changed".into()));
    }
}
