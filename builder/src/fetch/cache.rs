//! The content-addressed cache: `sha256/ab/abcdef…`, shared by all devices, projects and running builders.
//!
//! **Invariant:** a file below `sha256/` was whole and had its hash when it got its name, and is read-only.
//! **Invariant:** one `partial/HASH` has one writer at a time, over all processes: it is locked while it grows.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use sha2::Digest as _;

use crate::digest::Sha256;
use crate::report::Report;
use crate::{Error, Result};

/// Larger files are refused where a lock does not know the size.
const MAX_UNKNOWN_SIZE: u64 = 4 << 30;

pub(super) fn path(root: &Utf8Path, sha256: Sha256) -> Utf8PathBuf {
    let name = sha256.to_string();
    root.join("sha256").join(&name[..2]).join(name)
}

pub(super) struct Cache {
    root: Utf8PathBuf,
    /// Hashed in this process. Each file is hashed once a process, not only sized: disks lose bits, users edit files,
    /// and 50 MB cost less than unpacking them; twice in a process would tell nothing new.
    checked: Mutex<HashSet<Sha256>>,
}

pub(super) enum Begun {
    /// Somebody else has finished it.
    There(Utf8PathBuf),
    Part(Part),
}

impl Cache {
    pub(super) fn new(root: Utf8PathBuf) -> Self {
        Self {
            root,
            checked: Mutex::default(),
        }
    }

    /// The path of a file that is there with the right bytes. One that went bad is removed.
    pub(super) fn take(
        &self,
        sha256: Sha256,
        size: Option<u64>,
        report: &Report,
    ) -> Result<Option<Utf8PathBuf>> {
        let path = path(&self.root, sha256);
        let found = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(Error::environment(format!("{path} is not a file")).hint("remove it")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let right_size = size.is_none_or(|size| size == found);
        if right_size && (self.checked().contains(&sha256) || Sha256::of_file(&path)? == sha256) {
            self.checked().insert(sha256);
            return Ok(Some(path));
        }
        report.warn(format!(
            "{path} was damaged since it was downloaded; it is fetched again"
        ));
        std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        Ok(None)
    }

    /// Begins, or continues, the download of a file; waits where another builder is at it.
    pub(super) fn begin(
        &self,
        sha256: Sha256,
        size: Option<u64>,
        label: &str,
        report: &Report,
    ) -> Result<Begun> {
        let folder = self.root.join("partial");
        std::fs::create_dir_all(&folder).map_err(|error| Error::io("create", &folder, error))?;
        let part = Part::open(folder.join(sha256.to_string()), sha256, size, || {
            report.done(format!("Waiting for another builder, which downloads {label}"));
        })?;
        match self.take(sha256, size, report)? {
            Some(path) => {
                part.discard();
                Ok(Begun::There(path))
            }
            None => Ok(Begun::Part(part)),
        }
    }

    /// Gives a whole part its final name.
    pub(super) fn finish(&self, part: Part) -> Result<Utf8PathBuf> {
        if part.digest() != part.sha256 {
            return Err(Error::bug(format!(
                "{} is to be kept and has another hash",
                part.path
            )));
        }
        let path = path(&self.root, part.sha256);
        let fail = |error| Error::io("write", &path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        }
        part.file
            .set_permissions(std::fs::Permissions::from_mode(0o444))
            .map_err(fail)?;
        part.file.sync_all().map_err(fail)?;
        std::fs::rename(&part.path, &path).map_err(fail)?;
        self.checked().insert(part.sha256);
        Ok(path)
    }

    pub(super) fn store(&self, bytes: &[u8]) -> Result<(Sha256, Utf8PathBuf)> {
        let sha256 = Sha256::of(bytes);
        let path = path(&self.root, sha256);
        let there = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64);
        if !there || Sha256::of_file(&path)? != sha256 {
            crate::atomic::write(&path, bytes, 0o444)?;
        }
        self.checked().insert(sha256);
        Ok((sha256, path))
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashSet<Sha256>> {
        // A set of digests is never half-changed.
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being downloaded, locked against other builders, hashed as it grows.
pub(super) struct Part {
    path: Utf8PathBuf,
    file: File,
    hasher: sha2::Sha256,
    length: u64,
    sha256: Sha256,
    size: Option<u64>,
}

/// Why bytes did not get into a [`Part`].
pub(super) enum Unwritten {
    /// There are more than the file has.
    TooMany,
    Disk(Error),
}

impl Part {
    /// Opens `path` and locks it; calls `waiting` if another process has it. What is there already is hashed.
    fn open(path: Utf8PathBuf, sha256: Sha256, size: Option<u64>, waiting: impl Fn()) -> Result<Self> {
        let fail = |error| Error::io("write", &path, error);
        let file = loop {
            let mut options = File::options();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(fail)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    file.lock().map_err(fail)?;
                }
                Err(TryLockError::Error(error)) => return Err(fail(error)),
            }
            // While we waited, the other one may have renamed the file that we opened.
            let (ours, named) = (file.metadata().map_err(fail)?, std::fs::metadata(&path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
                break file;
            }
        };
        let mut part = Self {
            path,
            file,
            hasher: sha2::Sha256::new(),
            length: 0,
            sha256,
            size,
        };
        part.hash_what_is_there()?;
        if part.length > part.limit() {
            part.restart()?;
        }
        Ok(part)
    }

    fn hash_what_is_there(&mut self) -> Result<()> {
        self.length = std::io::copy(&mut self.file, &mut self.hasher).map_err(|error| self.fail(error))?;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn digest(&self) -> Sha256 {
        Sha256(self.hasher.clone().finalize().into())
    }

    /// The file's size, where the lock knows it.
    pub(super) fn known_size(&self) -> Option<u64> {
        self.size
    }

    /// The file's size, or what it must not exceed.
    pub(super) fn limit(&self) -> u64 {
        self.size.unwrap_or(MAX_UNKNOWN_SIZE)
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        if self.length + bytes.len() as u64 > self.limit() {
            return Err(Unwritten::TooMany);
        }
        self.file
            .write_all(bytes)
            .map_err(|error| Unwritten::Disk(self.fail(error)))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what was received.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(|error| self.fail(error))?;
        self.hasher = sha2::Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Removes it; nobody needs it any more.
    fn discard(self) {
        // Left behind it costs disk space and nothing else.
        let _ = std::fs::remove_file(&self.path);
    }

    fn fail(&self, error: std::io::Error) -> Error {
        Error::io("write", &self.path, error)
    }
}
