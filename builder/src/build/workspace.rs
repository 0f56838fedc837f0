//! Where a run works: locks against other runs, folders that vanish with it, and what a killed run left behind.
//!
//! Locks are `flock`s: the kernel drops them with the process, however it ends, so that nothing stale can block.

use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};

use crate::project::Project;
use crate::report::Report;
use crate::{Error, Result};

/// A folder of one run, removed when it is dropped, or by the next run if this one is killed.
pub(super) struct RunFolder {
    path: Utf8PathBuf,
    /// Removes it.
    _dir: tempfile::TempDir,
    /// Held for as long as the folder is in use.
    _alive: File,
}

/// The file whose lock says that a run folder is in use.
const ALIVE: &str = ".alive";

impl RunFolder {
    /// Makes a folder for this run, and removes those that killed runs left.
    pub(super) fn create(project: &Project) -> Result<Self> {
        let parent = project.work().join("run");
        std::fs::create_dir_all(&parent).map_err(|error| Error::io("create", &parent, error))?;
        // Held while folders are made or swept, so that no run sweeps a folder that another is just making.
        let guard = open_lock_file(&parent.join(".lock"))?;
        flock(&guard, FlockOperation::LockExclusive)
            .map_err(|error| Error::io("lock", parent.join(".lock"), error.into()))?;
        sweep(&parent)?;
        let dir = tempfile::Builder::new()
            .prefix("")
            .tempdir_in(&parent)
            .map_err(|error| Error::io("create a folder in", &parent, error))?;
        let path = Utf8Path::from_path(dir.path())
            .ok_or_else(|| Error::bug("a temporary folder in a UTF-8 path is not UTF-8"))?
            .to_owned();
        let alive = open_lock_file(&path.join(ALIVE))?;
        flock(&alive, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::io("lock", path.join(ALIVE), error.into()))?;
        Ok(Self {
            path,
            _dir: dir,
            _alive: alive,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }
}

fn sweep(parent: &Utf8Path) -> Result<()> {
    for entry in parent
        .read_dir_utf8()
        .map_err(|error| Error::io("read", parent, error))?
    {
        let entry = entry.map_err(|error| Error::io("read", parent, error))?;
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let in_use = File::open(entry.path().join(ALIVE))
            .is_ok_and(|alive| flock(&alive, FlockOperation::NonBlockingLockExclusive).is_err());
        if !in_use {
            std::fs::remove_dir_all(entry.path())
                .map_err(|error| Error::io("remove", entry.path(), error))?;
        }
    }
    Ok(())
}

/// The right to build one device of one source in one project; waits for another run that has it.
pub(super) struct DeviceLock {
    /// Held for its lock.
    _file: File,
}

impl DeviceLock {
    /// Takes the lock. Take several in the order of their names, so that two runs never wait for one another.
    pub(super) fn take(project: &Project, source: &str, device: &str, report: &Report) -> Result<Self> {
        let path = project.work().join("locks").join(format!("{source}-{device}"));
        let file = open_lock_file(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            report.warn(format!("another run builds {device}; waiting for it"));
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|error| Error::io("lock", &path, error.into()))?;
        }
        Ok(Self { _file: file })
    }
}

fn open_lock_file(path: &Utf8Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
    }
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| Error::io("open", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("UTF-8");
        (dir, Project { root })
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_a_living_one_is_not() {
        let (_keep, project) = project();
        let living = RunFolder::create(&project).expect("first");
        let killed = project.work().join("run/killed");
        std::fs::create_dir_all(killed.join("tree")).expect("mkdir");
        std::fs::write(killed.join(ALIVE), "").expect("write");
        let second = RunFolder::create(&project).expect("second");
        assert!(!killed.exists());
        assert!(living.path().exists() && second.path().exists());
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_device_is_built_by_one_run_at_a_time() {
        let (_keep, project) = project();
        let report = Report::silent();
        let first = DeviceLock::take(&project, "openwrt", "pc", &report).expect("first");
        let _other = DeviceLock::take(&project, "openwrt", "rpi4", &report).expect("another device");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (report, project) = (&report, &project);
            scope.spawn(move || {
                let second = DeviceLock::take(project, "openwrt", "pc", report).expect("second");
                sender.send(()).expect("sends");
                drop(second);
            });
            assert!(receiver.try_recv().is_err(), "it waits");
            drop(first);
            receiver.recv().expect("then it goes on");
        });
    }
}
