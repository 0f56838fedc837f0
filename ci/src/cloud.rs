//! `ci cloud`: what clouds rent out, for the tests of a new server: Debian with cloud-init on a disk, made by debootstrap.
//!
//! `target/cloud/` has `disk.raw`, `vmlinuz`, `initrd.img` and `archive/`, the packages that a server installs. The release is
//! that of this machine, so that programs compiled here run there; its mirror is the one that this machine uses.

use std::process::{Command, Stdio};

use sha2::Digest;

use crate::host::{project, say, step};
use crate::{Failure, Result, setup};

/// What a fresh clone has of it.
const SCRIPT: &str = include_str!("../cloud/make");

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Make it again even if nothing changed
    #[arg(long)]
    force: bool,
}

/// Makes the disk where there is none of this script, or says why it cannot be.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = project().join("target/cloud");
    let archive = archive()?;
    let inputs = format!(
        "{:x} {} {}\n",
        sha2::Sha256::digest(SCRIPT),
        archive.mirror,
        archive.suite
    );
    let made = folder.join("made");
    if !arguments.force && std::fs::read_to_string(&made).is_ok_and(|made| made == inputs) {
        say("the cloud's disk is up to date: target/cloud");
        return Ok(());
    }
    let root = rustix::process::geteuid().is_root();
    if !root && !setup::may_become_root() {
        return Err(Failure::environment(
            "only root may make the cloud's disk (debootstrap); run as root: target/release/ci cloud",
        ));
    }
    let new = folder.with_extension("new");
    let script = project().join("ci/cloud/make");
    let as_root = |words: &[&str]| {
        let words = if root {
            words.to_vec()
        } else {
            [&["sudo", "-n"], words].concat()
        };
        let mut command = Command::new(words[0]);
        // What it says would fill screens; it stands in a file.
        command.args(&words[1..]).stdout(Stdio::null());
        command
    };
    step(
        "nothing is left of an earlier try",
        &mut as_root(&["rm", "-rf", new.as_str(), folder.as_str()]),
    )?;
    std::fs::create_dir_all(&new).map_err(|error| Failure::io("make", &new, error))?;
    let log = new.join("log");
    let line = format!(
        "exec unshare --mount sh {script} {new} {} {} > {log} 2>&1",
        archive.mirror, archive.suite
    );
    step(
        &format!(
            "Debian {} with cloud-init in target/cloud (log: {log})",
            archive.suite
        ),
        &mut as_root(&["sh", "-c", &line]),
    )?;
    std::fs::write(new.join("made"), inputs).map_err(|error| Failure::io("write", &made, error))?;
    std::fs::rename(&new, &folder).map_err(|error| Failure::io("rename", &new, error))
}

/// For `ci test`: where the disk cannot be made, the test that needs it skips itself.
pub(crate) fn run_if_possible() -> Result<()> {
    let root = rustix::process::geteuid().is_root() || setup::may_become_root();
    match archive() {
        Ok(_) if root => run(&Arguments::default()),
        Ok(_) => {
            say("not tested without root: a new server in a cloud");
            Ok(())
        }
        Err(failure) => {
            say(&format!("not tested: a new server in a cloud; {failure}"));
            Ok(())
        }
    }
}

/// Where this machine gets its Debian.
struct Archive {
    mirror: String,
    suite: String,
}

fn archive() -> Result<Archive> {
    if let Some(archive) = listed()? {
        return Ok(archive);
    }
    // The package lists of a fresh machine are empty.
    setup::update_lists();
    listed()?.ok_or_else(|| {
        Failure::environment(
            "this machine uses no archive of Debian's, of which the cloud's disk could be made",
        )
    })
}

/// What apt has lists of.
fn listed() -> Result<Option<Archive>> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(LABEL) $(COMPONENT) $(CODENAME) $(REPO_URI)",
            "Created-By: Packages",
        ])
        .output()
        .map_err(|error| Failure::environment(format!("failed to start apt-get: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["Debian", "Debian", "main", suite, mirror] if !suite.contains('-') => Some(Archive {
                mirror: mirror.to_owned(),
                suite: suite.to_owned(),
            }),
            _ => None,
        }))
}
