//! Runs cargo for the daemon with an environment and flags that are the same everywhere.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::clang::Clang;
use super::{Library, Remapped, Toolchain, elf};
use crate::project::{self, Project};
use crate::report::Report;
use crate::{Error, Result};

/// The cargo profile of the router's binary.
pub(super) const PROFILE: &str = "release-small";

/// May cargo fetch crates that its cache lacks?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Yes.
    Allowed,
    /// No: what is missing is an error.
    Offline,
}

/// Variables of the user that reach cargo: where things are and how to reach a server. Everything else could
/// change the binary (RUSTFLAGS, CARGO_PROFILE_…, CC, SOURCE_DATE_EPOCH, …) and is left out.
const KEPT_VARIABLES: &[&str] = &[
    "HOME",
    "PATH",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "CARGO_HTTP_CAINFO",
    "CARGO_HTTP_PROXY",
    "CARGO_BUILD_JOBS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// What a release's daemon knows of itself: where new servers get theirs. Part of [`Toolchain::inputs`].
pub(super) const RELEASE_VARIABLES: [&str; 2] = ["SENNIT_RELEASE_AMD64", "SENNIT_RELEASE_ARM64"];

impl Toolchain {
    /// Compiles the daemon for this target and returns the path of the stripped, static binary.
    /// Blocks for as long as cargo takes; cargo itself sees to it that two at once do not meet.
    pub fn build(&self, project: &Project, network: Network, report: &Report) -> Result<Utf8PathBuf> {
        let target_dir = project.work().join("cross");
        let log_path = target_dir.join(format!("{}.log", self.target));
        std::fs::create_dir_all(&target_dir).map_err(|error| Error::io("create", &target_dir, error))?;
        let log = File::create(&log_path).map_err(|error| Error::io("create", &log_path, error))?;

        let spinner = report.spinner(format!("Compiling sennit for {}", self.target));
        let mut command = self.command(project, &target_dir, network)?;
        let program = command.get_program().to_owned();
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .status()
            .map_err(|error| {
                Error::environment(format!("failed to start {}", program.display())).because(error)
            })?;
        spinner.finish_and_clear();
        if !status.success() {
            return Err(self.failure(&log_path));
        }
        let binary = target_dir.join(&self.target).join(PROFILE).join("sennit");
        let bytes = std::fs::read(&binary).map_err(|error| Error::io("read", &binary, error))?;
        if let Some(refusal) = elf::refusal(&bytes, &self.target) {
            return Err(
                Error::environment(format!("the compiled daemon {binary} is unusable: {refusal}")).hint(
                    format!(
                        "the toolchain is {}; try another: rustup target add {}",
                        self.describe(),
                        self.target
                    ),
                ),
            );
        }
        Ok(binary)
    }

    fn command(&self, project: &Project, target_dir: &Utf8Path, network: Network) -> Result<Command> {
        let mut command = match &self.library {
            Library::Prebuilt { .. } => {
                let mut command = clean_command(&self.compiler.cargo);
                command.arg("build").envs(Clang::variables(&self.target));
                command
            }
            Library::Source { zig, .. } => {
                let mut command = clean_command(&zig.zigbuild);
                let cache = project::cache_dir()?.join("zig");
                command
                    .args(["zigbuild", "-Zbuild-std=std,panic_abort"])
                    .env("CARGO", &self.compiler.cargo)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("PATH", zig.search_path())
                    .env("ZIG_GLOBAL_CACHE_DIR", cache.join("global"))
                    .env("CARGO_ZIGBUILD_CACHE_DIR", cache.join("wrappers"));
                command
            }
        };
        command
            .args(["--locked", "--package", "sennit", "--bin", "sennit"])
            .args([
                "--profile",
                PROFILE,
                "--target",
                &self.target,
                "--target-dir",
                target_dir.as_str(),
            ])
            .current_dir(&project.root)
            .env("RUSTC", &self.compiler.rustc)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_ENCODED_RUSTFLAGS", self.encoded_flags(project));
        if network == Network::Offline {
            command.arg("--offline");
        }
        Ok(command)
    }

    /// In the form that allows for spaces in paths.
    fn encoded_flags(&self, project: &Project) -> String {
        let remapped = self.remapped(project).into_iter();
        let remapped = remapped.map(|Remapped { from, to }| format!("--remap-path-prefix={from}={to}"));
        flags(&self.library)
            .into_iter()
            .map(str::to_owned)
            .chain(remapped)
            .collect::<Vec<_>>()
            .join("\x1f")
    }

    /// Later ones win over earlier ones where one folder lies in another.
    fn remapped(&self, project: &Project) -> Vec<Remapped> {
        let cargo_home = env::var("CARGO_HOME")
            .ok()
            .filter(|value| !value.is_empty())
            .map(Utf8PathBuf::from);
        let cargo_home =
            cargo_home.or_else(|| Some(Utf8PathBuf::from(env::var("HOME").ok()?).join(".cargo")));
        let library = self.compiler.sysroot.join("lib/rustlib/src/rust");
        let real_library = library.canonicalize_utf8().ok();
        let places = [
            (cargo_home, "/cargo"),
            (Some(library), "/rust"),
            (real_library, "/rust"),
            (Some(project.root.clone()), "/sennit"),
        ];
        places
            .into_iter()
            .filter_map(|(from, to)| Some(Remapped { from: from?, to }))
            .collect()
    }

    fn failure(&self, log_path: &Utf8Path) -> Error {
        let log = std::fs::read_to_string(log_path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let first_error = lines
            .iter()
            .position(|line| line.starts_with("error"))
            .unwrap_or(lines.len());
        let excerpt = lines[first_error..]
            .iter()
            .take(12)
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>();
        let error = Error::environment(format!("failed to compile sennit for {}", self.target))
            .excerpt(excerpt.join("\n"))
            .hint(format!("the full log is {log_path}"));
        if log.contains("--offline") || log.contains("network") {
            return error.hint("crates that are not in cargo's cache are fetched with: cargo fetch --locked");
        }
        error
    }
}

/// The compiler's flags, without the remapped folders, which differ between machines and change no byte.
pub(super) fn flags(library: &Library) -> Vec<&'static str> {
    match library {
        Library::Prebuilt { .. } => vec![
            "-Clinker=rust-lld",
            "-Clinker-flavor=ld.lld",
            "-Clink-self-contained=yes",
            "-Clink-arg=--build-id=none",
        ],
        Library::Source { .. } => vec!["-Clink-self-contained=no", "-Clink-arg=-Wl,--build-id=none"],
    }
}

fn clean_command(program: &Utf8Path) -> Command {
    let kept = KEPT_VARIABLES
        .iter()
        .chain(&RELEASE_VARIABLES)
        .filter_map(|&name| Some((OsString::from(name), env::var_os(name)?)));
    let mut command = Command::new(program);
    command.env_clear().envs(kept).env("LC_ALL", "C").env("TZ", "UTC");
    command
}
