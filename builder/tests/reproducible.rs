//! The same build in two folders, under two umasks and time zones and with a cold cache, gives the same bytes.
//!
//! Needs the miniature (`cargo run --release -p ci -- miniature`); without it there is nothing to build from, and the
//! test says so. The daemon is given by its hash: that compiling it is reproducible is tests/cross.rs's question.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Instant;

use builder::digest::Sha256;
use camino::{Utf8Path, Utf8PathBuf};

/// What a build reads of a project.
const PARTS: [&str; 5] = ["Cargo.toml", "Cargo.lock", "daemon", "overlays", "profiles"];

/// Stands for the daemon: nothing here runs it.
const DAEMON: &[u8] = b"\x7fELF, as far as an image is concerned";

/// A project of its own, whose miniature is the one of this checkout.
struct Copy {
    root: Utf8PathBuf,
    cache: Utf8PathBuf,
    umask: &'static str,
    time_zone: &'static str,
}

impl Copy {
    fn new(root: Utf8PathBuf, umask: &'static str, time_zone: &'static str) -> Self {
        let checkout = checkout();
        for part in PARTS {
            copy(&checkout.join(part), &root.join(part));
        }
        std::fs::create_dir_all(root.join("images")).expect("mkdir");
        std::fs::create_dir_all(root.join("sources")).expect("mkdir");
        symlink(checkout.join("sources/miniature"), root.join("sources/miniature")).expect("link");
        Self {
            cache: root.join("cache"),
            root,
            umask,
            time_zone,
        }
    }

    /// Builds, and returns what was said.
    fn build(&self) -> String {
        let daemon = self.root.join("given-daemon");
        std::fs::write(&daemon, DAEMON).expect("write");
        let output = Command::new("sh")
            .args([
                "-c",
                "umask \"$0\" && exec \"$@\"",
                self.umask,
                env!("CARGO_BIN_EXE_builder"),
            ])
            .args([
                "--project",
                self.root.as_str(),
                "build",
                "--device",
                "pc",
                "--source",
                "miniature",
            ])
            .args([
                "--daemon",
                daemon.as_str(),
                "--daemon-sha256",
                &Sha256::of(DAEMON).to_string(),
            ])
            .env("SENNIT_CACHE", &self.cache)
            .env("TZ", self.time_zone)
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Name, hash and size of every file of the device's folder.
    fn outputs(&self) -> BTreeMap<String, Sha256> {
        let folder = self.root.join("images/miniature/pc");
        let entries = folder.read_dir_utf8().expect("outputs");
        entries
            .map(|entry| {
                let entry = entry.expect("lists");
                (
                    entry.file_name().to_owned(),
                    Sha256::of_file(entry.path()).expect("hashes"),
                )
            })
            .collect()
    }
}

#[test]
fn the_same_build_elsewhere_gives_the_same_bytes() {
    if !checkout().join("sources/miniature/site").is_dir() {
        eprintln!(
            "not tested: the miniature is not there; this makes it: cargo run --release -p ci -- miniature"
        );
        return;
    }
    let keep = tempfile::tempdir().expect("tempdir");
    let dir = Utf8Path::from_path(keep.path()).expect("UTF-8");
    let here = Copy::new(dir.join("here"), "022", "UTC");
    let there = Copy::new(
        dir.join("another-place/of-another-depth"),
        "077",
        "Pacific/Chatham",
    );
    std::thread::scope(|scope| {
        scope.spawn(|| here.build());
        scope.spawn(|| there.build());
    });
    let outputs = here.outputs();
    let image = outputs
        .keys()
        .find(|name| name.ends_with(".img.gz"))
        .expect("an image");
    assert_eq!(outputs, there.outputs());

    let begun = Instant::now();
    let said = here.build();
    assert!(said.contains("up to date"), "{said}");
    eprintln!("an identical build says so in {} ms", begun.elapsed().as_millis());

    // One byte more in an overlay is another image.
    let added = here.root.join("overlays/base/files/etc/one-byte");
    std::fs::write(&added, "1").expect("write");
    here.build();
    assert_ne!(here.outputs()[image], outputs[image]);

    // Without it, and with nothing downloaded or unpacked, it is the first one again.
    std::fs::remove_file(&added).expect("remove");
    std::fs::remove_dir_all(&here.cache).expect("wipes the cache");
    std::fs::remove_dir_all(here.root.join("target/builder")).expect("wipes the work folder");
    let said = here.build();
    assert!(said.contains("Built pc"), "{said}");
    assert_eq!(here.outputs(), outputs);
}

fn checkout() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the checkout")
        .to_owned()
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    std::fs::create_dir_all(to.parent().expect("has a parent")).expect("mkdir");
    if from.is_file() {
        std::fs::copy(from, to).expect("copies");
        return;
    }
    for entry in from.read_dir_utf8().expect("lists") {
        let entry = entry.expect("lists");
        if entry.file_name() != "target" {
            copy(entry.path(), &to.join(entry.file_name()));
        }
    }
}
