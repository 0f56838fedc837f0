//! The Rust compilers of this machine: version, sysroot, and the standard libraries they have.

use std::env;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::TARGETS;
use super::sources::tree_digest;
use super::stamp::Facts;
use crate::project::Project;
use crate::{Error, Result};

/// One compiler with the cargo that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compiler {
    pub(super) rustc: Utf8PathBuf,
    pub(super) cargo: Utf8PathBuf,
    pub(super) sysroot: Utf8PathBuf,
    /// All of `rustc -vV`: release, commit, LLVM.
    pub(super) version: String,
    /// The targets of [`TARGETS`] whose standard library is installed.
    pub(super) prebuilt: Vec<String>,
    /// Hash over the sources of the standard library, where they are installed.
    pub(super) library_digest: Option<String>,
}

impl Compiler {
    pub(super) fn has_prebuilt(&self, target: &str) -> bool {
        self.prebuilt.iter().any(|installed| installed == target)
    }
}

/// The compilers to consider, the preferred one first.
pub(super) fn candidates(project: &Project, facts: &mut Facts) -> Result<Vec<Compiler>> {
    if let Some(rustc) = variable("SENNIT_RUSTC") {
        let rustc = Utf8PathBuf::from(rustc);
        return match examine(project, &rustc, facts) {
            Some(compiler) => Ok(vec![compiler]),
            None => Err(Error::user(format!(
                "SENNIT_RUSTC={rustc} is no Rust compiler with cargo beside it"
            ))
            .hint("name a rustc by its full path, or unset the variable")),
        };
    }
    // Debian's own stands beside one by rustup, and may be the only one with sources.
    let mut places: Vec<Utf8PathBuf> = in_path("rustc")
        .into_iter()
        .chain(["/usr/bin/rustc".into()])
        .collect();
    places.dedup();
    Ok(places
        .iter()
        .filter_map(|rustc| examine(project, rustc, facts))
        .collect())
}

/// A program of this name in `PATH`.
pub(super) fn in_path(program: &str) -> Option<Utf8PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .filter_map(|folder| Utf8PathBuf::from_path_buf(folder.join(program)).ok())
        .find(|path| path.is_file())
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn examine(project: &Project, rustc: &Utf8Path, facts: &mut Facts) -> Option<Compiler> {
    // rustup's `rustc` is a proxy: which compiler it starts is decided by this variable and by files.
    let choice = variable("RUSTUP_TOOLCHAIN").unwrap_or_default();
    let question = format!("compiler {rustc} in {} with toolchain {choice:?}", project.root);
    let answer = facts.ask(&question, || {
        let compiler = ask_compiler(project, rustc)?;
        let installed = compiler.sysroot.join("lib/rustlib");
        let mut files = vec![
            rustc.to_owned(),
            compiler.cargo.clone(),
            compiler.sysroot.join("bin/rustc"),
            project.root.join("rust-toolchain.toml"),
            project.root.join("rust-toolchain"),
            installed.join("src/rust/library/Cargo.lock"),
        ];
        files.extend(TARGETS.iter().map(|target| installed.join(target).join("lib")));
        let rustup =
            variable("RUSTUP_HOME").or_else(|| variable("HOME").map(|home| format!("{home}/.rustup")));
        files.extend(rustup.map(|folder| Utf8PathBuf::from(folder).join("settings.toml")));
        Some((serde_json::to_string(&compiler).ok()?, files))
    })?;
    serde_json::from_str(&answer).ok()
}

fn ask_compiler(project: &Project, rustc: &Utf8Path) -> Option<Compiler> {
    let ask = |arguments: &[&str]| {
        let output = Command::new(rustc)
            .args(arguments)
            .current_dir(&project.root)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).ok())?
    };
    let cargo = rustc.with_file_name("cargo");
    if !cargo.is_file() {
        return None;
    }
    let version = ask(&["-vV"])?.trim_end().to_owned();
    let sysroot = Utf8PathBuf::from(ask(&["--print", "sysroot"])?.trim_end());
    let installed = sysroot.join("lib/rustlib");
    let prebuilt = TARGETS
        .iter()
        .filter(|target| has_std(&installed.join(target).join("lib")));
    let prebuilt = prebuilt.map(|&target| target.to_owned()).collect();
    let library = installed.join("src/rust/library");
    let library_digest = match library.join("std/src/lib.rs").is_file() {
        true => Some(tree_digest(&library).ok()?.to_string()),
        false => None,
    };
    Some(Compiler {
        rustc: rustc.to_owned(),
        cargo,
        sysroot,
        version,
        prebuilt,
        library_digest,
    })
}

/// A target's folder may be there without its library (Debian ships the host's folder with tools only).
fn has_std(folder: &Utf8Path) -> bool {
    let Ok(entries) = folder.read_dir_utf8() else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().starts_with("libstd-") && entry.file_name().ends_with(".rlib"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_of_this_test_is_found_and_then_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let project = Project {
            root: folder.to_owned(),
        };
        let rustc = in_path("rustc").expect("cargo test needs a rustc");
        let mut facts = Facts::load(folder.join("facts.json"));
        let found = examine(&project, &rustc, &mut facts).unwrap();
        assert!(found.version.starts_with("rustc 1.") && found.version.contains("commit-hash"));
        facts.store();

        let mut facts = Facts::load(folder.join("facts.json"));
        let remembered = std::time::Instant::now();
        assert_eq!(examine(&project, &rustc, &mut facts).unwrap(), found);
        assert!(
            remembered.elapsed().as_millis() < 50,
            "it started the compiler again"
        );
    }

    #[test]
    fn a_folder_without_std_is_no_target() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        assert!(!has_std(&folder.join("absent")));
        std::fs::write(folder.join("libcore-1.rlib"), "").unwrap();
        assert!(!has_std(folder));
        std::fs::write(folder.join("libstd-1.rlib"), "").unwrap();
        assert!(has_std(folder));
    }
}
