//! What compiles the daemon for routers: rustup's targets, or where those cannot be had, Debian's Rust with its sources
//! and zig by pip. The builder looks for both by itself; this only brings them.

use std::path::Path;
use std::process::{Command, Stdio};

use camino::Utf8PathBuf;

use crate::host::{has, project, say, step};
use crate::{Failure, Result};

/// What routers run.
pub(crate) const TARGETS: [&str; 2] = ["aarch64-unknown-linux-musl", "x86_64-unknown-linux-musl"];

/// A Rust with the sources of its standard library (Debian 12 and later, from its security archive).
pub(crate) const DEBIAN_RUST: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-llvm", "rust-web-src"];
const DEBIAN_LIBRARY_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/std/src/lib.rs";

/// The linker and musl for targets without rustup, and the cargo command that uses them.
const PYTHON_PACKAGES: [&str; 2] = ["ziglang==0.17.0", "cargo-zigbuild==0.24.0"];

/// Makes sure that the daemon can be compiled; `install` gets Debian packages onto this machine.
pub(crate) fn ensure(install: impl Fn(&[&str]) -> Result<()>) -> Result<()> {
    let missing: Vec<&str> = TARGETS.into_iter().filter(|target| !has_target(target)).collect();
    let zigbuild = venv().join("bin/cargo-zigbuild");
    if missing.is_empty() || (Path::new(DEBIAN_LIBRARY_SOURCE).exists() && zigbuild.exists()) {
        return Ok(());
    }
    say(&format!(
        "missing on this machine: Rust's standard library for {}",
        missing.join(", ")
    ));
    if has("rustup") {
        let added = step(
            "rustup target add",
            Command::new("rustup").args(["target", "add"]).args(&missing),
        );
        if added.is_ok() {
            return Ok(());
        }
        say("rustup could not add the targets: taking Debian's Rust with its sources, and zig, instead");
    }
    install(&DEBIAN_RUST)?;
    install(&["python3-venv"])?;
    python_programs(&PYTHON_PACKAGES).map(drop).map_err(|failure| {
        Failure::environment(format!(
            "neither rustup nor pip could bring what compiles for routers ({failure}); with a network, run: \
             rustup target add {}",
            missing.join(" ")
        ))
    })
}

/// Where programs by pip live, apart from the user's own.
fn venv() -> Utf8PathBuf {
    project().join("target/tools/venv")
}

/// Installs packages by pip and answers the folder of their programs; quick when they are there.
pub(crate) fn python_programs(packages: &[&str]) -> Result<Utf8PathBuf> {
    let venv = venv();
    let pip = venv.join("bin/pip");
    if !pip.exists() {
        step(
            "python environment in target/tools/venv",
            Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv),
        )?;
    }
    step(
        &packages.join(", "),
        Command::new(pip).args(["install", "--quiet"]).args(packages),
    )?;
    Ok(venv.join("bin"))
}

/// One line a target for `setup --list`.
pub(crate) fn list() {
    for target in TARGETS {
        let state = if has_target(target) { "here" } else { "missing" };
        say(&format!(
            "{state:8} {:22} the daemon for routers (rustup target {target})",
            "rust std"
        ));
    }
}

/// True if the default compiler has the target's standard library.
fn has_target(target: &str) -> bool {
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(project())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(sysroot) = sysroot else { return false };
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    Path::new(&sysroot)
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .is_dir()
}
