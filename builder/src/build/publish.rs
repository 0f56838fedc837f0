//! Puts a whole folder of outputs in place at once: a reader sees the old one or the new one, never a mix.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{Error, Result};

/// A folder in the making, beside the one that it will replace.
///
/// The caller holds the device's lock: the names beside the final folder are this run's alone.
pub(super) struct Outgoing {
    place: Utf8PathBuf,
    new: Utf8PathBuf,
    /// Modification time of all files, so that it depends on nothing but the inputs.
    time: SystemTime,
}

impl Outgoing {
    /// Begins a folder that will be `place`; first repairs what a killed run left there.
    pub(super) fn begin(place: &Utf8Path, epoch: u64) -> Result<Self> {
        repair(place)?;
        let new = beside(place, "new");
        std::fs::create_dir_all(&new)
            .and_then(|()| std::fs::set_permissions(&new, Permissions::from_mode(0o755)))
            .map_err(|error| Error::io("create", &new, error))?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
        Ok(Self {
            place: place.to_owned(),
            new,
            time,
        })
    }

    /// Moves a finished file in, or copies it where it lies on another file system.
    pub(super) fn take(&self, name: &str, from: &Utf8Path) -> Result<Utf8PathBuf> {
        let to = self.new.join(name);
        if std::fs::rename(from, &to).is_err() {
            std::fs::copy(from, &to).map_err(|error| Error::io("copy", from, error))?;
        }
        self.finish(&to)?;
        Ok(to)
    }

    /// Writes a small file.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let to = self.new.join(name);
        std::fs::write(&to, content).map_err(|error| Error::io("write", &to, error))?;
        self.finish(&to)
    }

    fn finish(&self, file: &Utf8Path) -> Result<()> {
        std::fs::File::options()
            .write(true)
            .open(file)
            .and_then(|opened| {
                opened.set_permissions(Permissions::from_mode(0o644))?;
                opened.set_modified(self.time)
            })
            .map_err(|error| Error::io("finish", file, error))
    }

    /// Swaps it in and removes the old one.
    pub(super) fn publish(self) -> Result<()> {
        let (new, place) = (&self.new, &self.place);
        if !place.exists() {
            return std::fs::rename(new, place).map_err(|error| Error::io("rename", new, error));
        }
        if renameat_with(
            CWD,
            new.as_std_path(),
            CWD,
            place.as_std_path(),
            RenameFlags::EXCHANGE,
        )
        .is_err()
        {
            // Some file systems cannot swap; `repair` mends it if the run dies between the two steps.
            let old = beside(place, "old");
            std::fs::rename(place, &old).map_err(|error| Error::io("rename", place, error))?;
            std::fs::rename(new, place).map_err(|error| Error::io("rename", new, error))?;
        }
        repair(place)
    }
}

/// Removes what is beside `place`; brings the old folder back if a run died before the new one had its name.
fn repair(place: &Utf8Path) -> Result<()> {
    let old = beside(place, "old");
    if old.exists() && !place.exists() {
        std::fs::rename(&old, place).map_err(|error| Error::io("rename", &old, error))?;
    }
    for left in [old, beside(place, "new")] {
        match std::fs::remove_dir_all(&left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &left, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn beside(place: &Utf8Path, end: &str) -> Utf8PathBuf {
    place.with_file_name(format!(".{}.{end}", place.file_name().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let place = Utf8PathBuf::from_path_buf(dir.path().join("pc")).expect("UTF-8");
        (dir, place)
    }

    fn publish(place: &Utf8Path, name: &str) {
        let outgoing = Outgoing::begin(place, 1_700_000_000).expect("begins");
        outgoing.write(name, "content").expect("writes");
        outgoing.publish().expect("publishes");
    }

    fn names(place: &Utf8Path) -> Vec<String> {
        let mut names: Vec<String> = place
            .read_dir_utf8()
            .expect("lists")
            .map(|entry| entry.expect("entry").file_name().to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_new_folder_replaces_the_old_one_as_a_whole() {
        let (keep, place) = place();
        publish(&place, "one");
        publish(&place, "two");
        assert_eq!(names(&place), ["two"]);
        assert_eq!(names(Utf8Path::from_path(keep.path()).expect("UTF-8")), ["pc"]);
        let metadata = std::fs::metadata(place.join("two")).expect("there");
        let since = metadata
            .modified()
            .expect("mtime")
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("past");
        assert_eq!(
            (since.as_secs(), metadata.permissions().mode() & 0o777),
            (1_700_000_000, 0o644)
        );
    }

    #[test]
    fn the_old_folder_stays_until_the_new_one_is_whole() {
        let (_keep, place) = place();
        publish(&place, "one");
        let outgoing = Outgoing::begin(&place, 0).expect("begins");
        outgoing.write("two", "half").expect("writes");
        drop(outgoing);
        assert_eq!(names(&place), ["one"]);
        publish(&place, "three");
        assert_eq!(names(&place), ["three"], "nothing of the broken run is in it");
    }

    #[test]
    fn a_run_that_died_between_two_renames_is_repaired() {
        let (_keep, place) = place();
        publish(&place, "one");
        std::fs::rename(&place, beside(&place, "old")).expect("rename");
        let _outgoing = Outgoing::begin(&place, 0).expect("begins");
        assert_eq!(names(&place), ["one"]);
    }
}
