//! The daemon is really compiled: static, for the right processor, and the same bytes from any folder.
//! Needs what `ci setup` installs; compiles in the project's own `target/builder`, so that later builds have it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::process::Command;

use builder::cross::{Network, Toolchain};
use builder::project::Project;
use builder::report::Report;
use camino::{Utf8Path, Utf8PathBuf};

const TARGET: &str = "aarch64-unknown-linux-musl";

fn project() -> Project {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Project {
        root: root.to_owned(),
    }
}

fn compile(project: &Project) -> (Toolchain, Utf8PathBuf) {
    let toolchain = Toolchain::detect(project, TARGET).unwrap();
    let binary = toolchain
        .build(project, Network::Allowed, &Report::silent())
        .unwrap();
    (toolchain, binary)
}

/// A clone as another person has it: other place, other depth, other times of change.
fn copy_of_sources(target: &Utf8Path) -> Project {
    let root = project().root;
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files failed");
    for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let (from, to) = (root.join(name), target.join(name));
        if from.is_file() {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
        }
    }
    Project {
        root: target.to_owned(),
    }
}

#[test]
fn the_daemon_is_the_same_program_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Utf8Path::from_path(folder.path())
        .unwrap()
        .join("some where/else");
    let (toolchain, here) = compile(&project());
    let (other_toolchain, there) = compile(&copy_of_sources(&elsewhere));
    assert_eq!(toolchain.inputs(), other_toolchain.inputs());
    let (here_bytes, there_bytes) = (std::fs::read(&here).unwrap(), std::fs::read(&there).unwrap());
    assert!(
        here_bytes == there_bytes,
        "{here} and {there} differ ({})",
        toolchain.describe()
    );

    let text = String::from_utf8_lossy(&here_bytes);
    for place in [
        project().root.as_str(),
        elsewhere.as_str(),
        toolchain_home().as_str(),
    ] {
        assert!(!text.contains(place), "{place} is in the binary");
    }

    match Command::new("qemu-aarch64-static")
        .arg(&here)
        .arg("--version")
        .output()
    {
        Ok(output) => assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            concat!("sennit ", env!("CARGO_PKG_VERSION"), "\n")
        ),
        Err(error) => eprintln!("not run: qemu-aarch64-static (package qemu-user-static): {error}"),
    }
}

fn toolchain_home() -> String {
    std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap()))
}
