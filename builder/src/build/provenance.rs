//! provenance.json: what an image was made from, by whom and to what bytes.
//!
//! Nothing in it depends on the time, the folder or the user: two builds of the same inputs write the same file.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::key::Inputs;
use crate::digest::Sha256;
use crate::project::Project;
use crate::{Error, Result};

/// The file's name in a device's folder.
pub const FILE: &str = "provenance.json";

/// Format version that this program writes.
const FORMAT: u32 = 1;

/// What an image was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Format version.
    pub format: u32,
    /// Hash over `inputs`.
    pub build_key: Sha256,
    /// All inputs and their hashes.
    pub inputs: Inputs,
    /// The ImageBuilder's own time stamp, which all files of the image carry; absent in releases before 21.02.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_date_epoch: Option<u64>,
    /// Hash of the daemon's binary in the image.
    pub daemon_sha256: Sha256,
    /// State of the project's repository; absent outside of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// The other files of this folder, `SHA256SUMS` left out.
    pub outputs: BTreeMap<String, Output>,
}

/// State of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// Full hash of the commit.
    pub commit: String,
    /// True if tracked files differed from it.
    pub dirty: bool,
}

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Hash of the file.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
}

impl Provenance {
    /// Of a build that is done.
    pub(super) fn new(
        inputs: Inputs,
        source_date_epoch: Option<u64>,
        daemon_sha256: Sha256,
        git: Option<Git>,
        outputs: BTreeMap<String, Output>,
    ) -> Result<Self> {
        Ok(Self {
            format: FORMAT,
            build_key: inputs.key()?,
            inputs,
            source_date_epoch,
            daemon_sha256,
            git,
            outputs,
        })
    }

    /// As it is written to disk.
    pub(super) fn to_text(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| Error::bug("provenance cannot be written as JSON").because(error))
    }

    /// Reads the one of a device's folder; `None` if there is none that this program understands.
    pub fn read(folder: &Utf8Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(FILE)).ok()?;
        serde_json::from_str(&text)
            .ok()
            .filter(|provenance: &Self| provenance.format == FORMAT)
    }
}

impl Git {
    /// Of the project's folder; `None` if it is no clone or git is not installed.
    pub(super) fn of(project: &Project) -> Option<Self> {
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .arg("-C")
                .arg(&project.root)
                .args(arguments)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        // A project that merely lies somewhere inside another repository has no state of its own.
        let top = git(&["rev-parse", "--show-toplevel"])?;
        if Utf8Path::new(&top).canonicalize_utf8().ok()? != project.root.canonicalize_utf8().ok()? {
            return None;
        }
        let commit = git(&["rev-parse", "HEAD"])?;
        let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        Some(Self { commit, dirty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::key::tests::inputs;

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let output = Output {
            sha256: Sha256::of("image"),
            size: 5,
        };
        let provenance = Provenance::new(
            inputs(),
            Some(1_700_000_000),
            Sha256::of("sennit"),
            Some(Git {
                commit: "0".repeat(40),
                dirty: false,
            }),
            BTreeMap::from([("a.img.gz".into(), output)]),
        )
        .expect("makes");
        let text = provenance.to_text().expect("writes");
        std::fs::write(folder.join(FILE), &text).expect("writes");
        assert_eq!(Provenance::read(folder), Some(provenance));
        std::fs::write(folder.join(FILE), text.replace("\"format\": 1", "\"format\": 2")).expect("writes");
        assert_eq!(Provenance::read(folder), None, "a later format is not guessed at");
    }

    #[test]
    fn a_folder_that_is_no_clone_has_no_state() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = Utf8Path::from_path(dir.path()).expect("UTF-8").to_owned();
        assert_eq!(Git::of(&Project { root }), None);
    }
}
