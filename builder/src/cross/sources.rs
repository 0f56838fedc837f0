//! Hashes what the daemon is compiled from, so that a build key needs no cargo.

use std::io::Write;

use camino::Utf8Path;
use sha2::Digest as _;
use walkdir::{DirEntry, WalkDir};

use crate::digest::Sha256;
use crate::project::Project;
use crate::{Error, Result};

/// Hash over everything in the project that the daemon's binary is made from: `daemon/`, without what lies there for
/// tests and packages, and the workspace's manifest and lock.
pub fn source_digest(project: &Project) -> Result<Sha256> {
    let mut hasher = Hasher::default();
    for name in ["Cargo.toml", "Cargo.lock"] {
        hasher.file(name, &project.root.join(name))?;
    }
    let daemon = project.root.join("daemon");
    let compiled = |entry: &DirEntry| {
        let name = entry.file_name().to_str().unwrap_or_default();
        !matches!(
            (entry.depth(), name),
            (1, "package" | "lab" | "fuzz") | (2, "tests" | "benches" | "target")
        )
    };
    hasher.tree("daemon", &daemon, compiled)?;
    Ok(hasher.finish())
}

/// Hash over names and contents of a folder's files.
pub(super) fn tree_digest(folder: &Utf8Path) -> Result<Sha256> {
    let mut hasher = Hasher::default();
    hasher.tree("", folder, |_| true)?;
    Ok(hasher.finish())
}

/// Hashes files so that neither names nor contents can be moved between neighbours unseen.
#[derive(Default)]
struct Hasher(sha2::Sha256);

impl Hasher {
    fn tree(&mut self, name: &str, folder: &Utf8Path, take: impl Fn(&DirEntry) -> bool) -> Result<()> {
        // Links are followed: a shared folder of sources is as good as a copy.
        let files = WalkDir::new(folder)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter();
        for entry in files.filter_entry(take) {
            let entry = entry.map_err(|error| Error::io("read", folder, error.into()))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let path = Utf8Path::from_path(entry.path())
                .ok_or_else(|| Error::user(format!("{} is not a UTF-8 path", entry.path().display())))?;
            let relative = path.strip_prefix(folder).unwrap_or(path);
            self.file(&format!("{name}/{relative}"), path)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, path: &Utf8Path) -> Result<()> {
        let content = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
        for part in [name.as_bytes(), &content] {
            self.0.update((part.len() as u64).to_le_bytes());
            // Writing to a hasher cannot fail.
            let _ = self.0.write_all(part);
        }
        Ok(())
    }

    fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_changes_the_digest_and_a_test_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let write = |name: &str, content: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let digest = || {
            source_digest(&Project {
                root: root.to_owned(),
            })
            .unwrap()
        };
        write("Cargo.toml", "");
        write("Cargo.lock", "");
        write("daemon/sennit/src/main.rs", "fn main() {}");
        let before = digest();
        write("daemon/sennit/tests/run.rs", "x");
        write("daemon/package/files/etc/config/sennit", "x");
        assert_eq!(digest(), before);
        write("daemon/sennit/src/main.rs", "fn main() { }");
        let changed = digest();
        assert_ne!(changed, before);
        write("Cargo.lock", "x");
        assert_ne!(digest(), changed);
    }

    #[test]
    fn moving_bytes_between_name_and_content_is_a_change() {
        let hash = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            let folder = Utf8Path::from_path(folder.path()).unwrap();
            for (name, content) in files {
                std::fs::write(folder.join(name), content).unwrap();
            }
            tree_digest(folder).unwrap()
        };
        assert_eq!(hash(&[("a", "1"), ("b", "2")]), hash(&[("b", "2"), ("a", "1")]));
        assert_ne!(hash(&[("a", "b1")]), hash(&[("ab", "1")]));
        assert_ne!(hash(&[("a", "1b2")]), hash(&[("a", "1"), ("b", "2")]));
    }
}
