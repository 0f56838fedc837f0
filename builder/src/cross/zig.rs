//! `cargo-zigbuild` with its zig: musl and a linker for every target, where rustup brings none.

use std::env;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::compiler::in_path;
use super::stamp::Facts;
use crate::project::Project;

/// An installed cargo-zigbuild that finds its zig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zig {
    /// The program. Its folder must come first in `PATH`: the `python3` there knows the package `ziglang`.
    pub(super) zigbuild: Utf8PathBuf,
    /// `cargo-zigbuild 0.24.0, zig 0.17.0`
    pub(super) version: String,
}

impl Zig {
    /// The one that `ci setup` installs into the project, else one in `PATH`.
    pub(super) fn find(project: &Project, facts: &mut Facts) -> Option<Self> {
        let own = project.root.join("target/tools/venv/bin/cargo-zigbuild");
        let zigbuild = if own.is_file() {
            own
        } else {
            in_path("cargo-zigbuild")?
        };
        let version = facts.ask(&format!("zig {zigbuild}"), || {
            let zigbuild_version = first_line(Command::new(&zigbuild).arg("--version"))?;
            let zig_version = zig_version(zigbuild.parent()?)?;
            // A new zig is written into the folder of packages, whose time of change tells.
            let packages = zigbuild.ancestors().nth(2)?.join("lib");
            Some((
                format!("{zigbuild_version}, zig {zig_version}"),
                vec![zigbuild.clone(), packages],
            ))
        })?;
        Some(Self { zigbuild, version })
    }

    /// `PATH` with this program's folder in front.
    pub(super) fn search_path(&self) -> std::ffi::OsString {
        let own = self
            .zigbuild
            .parent()
            .map(Utf8Path::as_std_path)
            .map(std::path::PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        env::join_paths(own.into_iter().chain(env::split_paths(&path))).unwrap_or(path)
    }
}

/// As cargo-zigbuild looks for it: a Python package, else `zig` in `PATH`.
fn zig_version(beside: &Utf8Path) -> Option<String> {
    let python = beside.join("python3");
    let python = if python.is_file() {
        python
    } else {
        "python3".into()
    };
    first_line(Command::new(python).args(["-m", "ziglang", "version"]))
        .or_else(|| first_line(Command::new("zig").arg("version")))
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
