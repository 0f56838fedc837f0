//! Trees of ImageBuilders on disk: one pristine tree an archive, one copy a device, and their hashes.
//!
//! `make image` changes the tree it runs in, so it never runs in a pristine one.

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::Digest as _;
use walkdir::WalkDir;

use super::archive;
use crate::digest::Sha256;
use crate::{Error, Result};

/// An unpacked ImageBuilder that nobody has run `make` in.
#[derive(Clone, Debug)]
pub struct Pristine {
    pub(super) root: Utf8PathBuf,
}

impl Pristine {
    /// The unpacked tree of the archive with this hash in `store`, unpacked now if it is not there yet.
    /// Several processes may do so at once: the first whole tree wins.
    pub fn unpack(archive: &Utf8Path, sha256: Sha256, store: &Utf8Path) -> Result<Self> {
        let root = store.join(sha256.to_string());
        if root.is_dir() {
            return Ok(Self { root });
        }
        std::fs::create_dir_all(store).map_err(|error| Error::io("create", store, error))?;
        let unfinished = tempfile::Builder::new()
            .prefix(".unpacking-")
            .tempdir_in(store)
            .map_err(|error| Error::io("create a folder in", store, error))?;
        let tree = Utf8Path::from_path(unfinished.path())
            .ok_or_else(|| Error::bug("a temporary folder in a UTF-8 path is not UTF-8"))?
            .join("tree");
        std::fs::create_dir(&tree)
            .and_then(|()| std::fs::set_permissions(&tree, Permissions::from_mode(0o755)))
            .map_err(|error| Error::io("create", &tree, error))?;
        archive::unpack(archive, &tree, archive::Limits::default())?;
        match std::fs::rename(&tree, &root) {
            Ok(()) => Ok(Self { root }),
            // Another process was faster; its tree has the same bytes.
            Err(_) if root.is_dir() => Ok(Self { root }),
            Err(error) => Err(Error::io("rename", &tree, error)),
        }
    }

    /// A folder that the user unpacked; what earlier runs of `make` left in it is not part of it.
    pub fn folder(dir: &Utf8Path) -> Result<Self> {
        if !dir.join("Makefile").is_file() {
            return Err(Error::user(format!(
                "{dir} is not an unpacked ImageBuilder: it has no Makefile"
            ))
            .hint("give the folder that `make info` runs in, or the archive itself"));
        }
        let root = dir
            .canonicalize_utf8()
            .map_err(|error| Error::io("open", dir, error))?;
        Ok(Self { root })
    }

    /// Where it lies; to read, never to run `make` in.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Copies the tree to `into`, which must not exist; modes are normalised, times kept.
    /// Where the file system can share blocks (btrfs, xfs), the copy takes no space.
    pub fn copy(&self, into: &Utf8Path) -> Result<()> {
        std::fs::create_dir_all(into).map_err(|error| Error::io("create", into, error))?;
        for entry in self.entries() {
            let entry = entry?;
            let relative = self.relative(&entry);
            let to = into.as_std_path().join(relative);
            let io = |error| Error::io("copy", entry.path(), error);
            let kind = entry.file_type();
            if kind.is_dir() {
                std::fs::create_dir_all(&to).map_err(io)?;
                std::fs::set_permissions(&to, Permissions::from_mode(0o755)).map_err(io)?;
            } else if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).map_err(io)?;
                std::os::unix::fs::symlink(target, &to).map_err(io)?;
            } else if kind.is_file() {
                let metadata = entry
                    .metadata()
                    .map_err(|error| Error::io("read", entry.path(), error.into()))?;
                std::fs::copy(entry.path(), &to).map_err(io)?;
                std::fs::set_permissions(&to, Permissions::from_mode(normal_mode(metadata.mode())))
                    .map_err(io)?;
                std::fs::File::options()
                    .write(true)
                    .open(&to)
                    .and_then(|file| file.set_modified(metadata.modified()?))
                    .map_err(io)?;
            }
        }
        Ok(())
    }

    /// SHA-256 over paths, kinds and content in path order; times and owners do not count.
    pub fn hash(&self) -> Result<Sha256> {
        let mut hasher = sha2::Sha256::new();
        for entry in self.entries() {
            let entry = entry?;
            let path = self.relative(&entry).as_os_str().as_bytes();
            let kind = entry.file_type();
            let (tag, content) = if kind.is_symlink() {
                let target = std::fs::read_link(entry.path())
                    .map_err(|error| Error::io("read the link", entry.path(), error))?;
                (b'l', Sha256::of(target.as_os_str().as_bytes()))
            } else if kind.is_file() {
                let metadata = entry
                    .metadata()
                    .map_err(|error| Error::io("read", entry.path(), error.into()))?;
                let path = utf8(entry.path())?;
                (
                    if normal_mode(metadata.mode()) == 0o755 {
                        b'x'
                    } else {
                        b'f'
                    },
                    Sha256::of_file(path)?,
                )
            } else {
                continue;
            };
            hasher.update([tag]);
            hasher.update((path.len() as u64).to_le_bytes());
            hasher.update(path);
            hasher.update(content.0);
        }
        Ok(Sha256(hasher.finalize().into()))
    }

    /// A cheap hash over path, size and times of every file: the same one means the same tree to any sane eye.
    pub fn fingerprint(&self) -> Result<Sha256> {
        let mut hasher = sha2::Sha256::new();
        for entry in self.entries() {
            let entry = entry?;
            let metadata = entry
                .metadata()
                .map_err(|error| Error::io("read", entry.path(), error.into()))?;
            if metadata.is_dir() {
                continue;
            }
            hasher.update(self.relative(&entry).as_os_str().as_bytes());
            for number in [
                metadata.size() as i64,
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ] {
                hasher.update(number.to_le_bytes());
            }
        }
        Ok(Sha256(hasher.finalize().into()))
    }

    fn relative<'e>(&self, entry: &'e walkdir::DirEntry) -> &'e Path {
        entry.path().strip_prefix(&self.root).unwrap_or(entry.path())
    }

    fn entries(&self) -> impl Iterator<Item = Result<walkdir::DirEntry>> {
        let root = self.root.clone();
        WalkDir::new(&self.root)
            .min_depth(1)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(move |entry| {
                let relative = entry.path().strip_prefix(&root).unwrap_or(entry.path());
                !is_left_over(relative)
            })
            .map(|entry| {
                entry.map_err(|error| {
                    let path = error.path().map(Path::to_owned).unwrap_or_default();
                    Error::io("read", path, error.into())
                })
            })
    }
}

/// What earlier runs of `make` leave in a tree: outputs, root file systems, caches, local signing keys.
fn is_left_over(relative: &Path) -> bool {
    let parts: Vec<&str> = relative.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["bin" | "tmp" | "dl" | "logs" | ".git" | ".profiles.mk"] => true,
        ["keys", "local-private-key.pem" | "local-public-key.pem"] => true,
        [name] => name.starts_with("key-build"),
        ["build_dir", _, name] => {
            name.starts_with("root-") || name.starts_with("root.orig-") || *name == "json_info_files"
        }
        _ => false,
    }
}

fn normal_mode(mode: u32) -> u32 {
    if mode & 0o100 == 0 { 0o644 } else { 0o755 }
}

fn utf8(path: &Path) -> Result<&Utf8Path> {
    Utf8Path::from_path(path)
        .ok_or_else(|| Error::environment(format!("the file name {} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Utf8Path) -> Pristine {
        std::fs::create_dir_all(dir.join("scripts")).expect("mkdir");
        std::fs::write(dir.join("Makefile"), "info:\n").expect("write");
        std::fs::write(dir.join("scripts/run"), "#!/bin/sh\n").expect("write");
        std::fs::set_permissions(dir.join("scripts/run"), Permissions::from_mode(0o775)).expect("chmod");
        let _ = std::fs::remove_file(dir.join("scripts/alias"));
        std::os::unix::fs::symlink("run", dir.join("scripts/alias")).expect("link");
        Pristine::folder(dir).expect("has a Makefile")
    }

    fn temporary() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("UTF-8");
        (dir, path)
    }

    #[test]
    fn a_copy_has_the_same_hash_and_normal_modes() {
        let (_keep, dir) = temporary();
        let pristine = tree(&dir.join("a"));
        pristine.copy(&dir.join("b")).expect("copies");
        let copy = Pristine::folder(&dir.join("b")).expect("opens");
        assert_eq!(copy.hash().expect("hash"), pristine.hash().expect("hash"));
        let mode = std::fs::metadata(dir.join("b/scripts/run"))
            .expect("there")
            .mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(
            std::fs::metadata(dir.join("a/Makefile")).expect("there").mtime(),
            std::fs::metadata(dir.join("b/Makefile")).expect("there").mtime()
        );
    }

    #[test]
    fn leftovers_of_make_and_its_keys_do_not_count() {
        let (_keep, dir) = temporary();
        let pristine = tree(&dir.join("a"));
        let before = pristine.hash().expect("hash");
        for left in [
            "bin/x.img",
            "tmp/y",
            "key-build",
            "keys/local-private-key.pem",
            "build_dir/target-x/root-x86/etc/z",
        ] {
            let path = dir.join("a").join(left);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, "left over").expect("write");
        }
        assert_eq!(pristine.hash().expect("hash"), before);
        pristine.copy(&dir.join("b")).expect("copies");
        assert!(!dir.join("b/key-build").exists() && !dir.join("b/bin").exists());
    }

    #[test]
    fn one_changed_byte_changes_hash_and_fingerprint() {
        let (_keep, dir) = temporary();
        let pristine = tree(&dir.join("a"));
        let before = (
            pristine.hash().expect("hash"),
            pristine.fingerprint().expect("fingerprint"),
        );
        std::fs::write(dir.join("a/Makefile"), "info2:\n").expect("write");
        assert_ne!(pristine.hash().expect("hash"), before.0);
        assert_ne!(pristine.fingerprint().expect("fingerprint"), before.1);
    }
}
