//! Disks that are full or read-only. They need a small file system of their own, which only root can mount.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Test, content, wanted};
use crate::server::{Answer, Server};

/// A tmpfs that vanishes with the test.
struct Disk(Utf8PathBuf);

impl Disk {
    /// `None` where this process may not mount one; that is said, not hidden.
    fn mount(at: &Utf8Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs", at.as_str()])
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            _ => {
                println!("skipped: only root can mount a small disk");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(
            Command::new("mount")
                .args(["-o", &options, self.0.as_str()])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_the_next_run_continues() {
    let test = Test::new();
    let Some(disk) = Disk::mount(&test.cache, "size=400k") else {
        return;
    };
    let server = Server::start(content(), vec![]);
    let error = test.fetch(&server, &wanted(&content())).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(
        error.hints()[0].contains("free some disk space"),
        "{:?}",
        error.hints()
    );
    assert_eq!(test.kept(), 0);
    disk.remount("size=8m");
    test.fetch(&server, &wanted(&content())).unwrap();
    assert!(
        server.ranges()[1].is_some_and(|from| from > 0),
        "{:?}",
        server.ranges()
    );
}

#[test]
fn a_read_only_cache_serves_what_it_has_and_says_why_it_takes_no_more() {
    let test = Test::new();
    let Some(disk) = Disk::mount(&test.cache, "size=8m") else {
        return;
    };
    let server = Server::start(content(), vec![Answer::Good]);
    test.fetch(&server, &wanted(&content())).unwrap();
    disk.remount("ro");
    test.fetch(&server, &wanted(&content())).unwrap();
    let error = test.fetch(&server, &wanted(b"another")).unwrap_err();
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    assert!(error.hints()[0].contains("read-only"), "{:?}", error.hints());
}
