//! Network namespaces of the lab's own: made, entered by threads, and removed with all that runs in them.
//!
//! **Invariant:** no thread enters a namespace but those started here, and no interface is made outside of one,
//! so that the machine's own network is never touched.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{JoinHandle, Scope, ScopedJoinHandle};

use crate::sys::thread::enter_network;
use crate::{Error, Result};

/// All namespaces of the lab are called so; the process id of their maker follows.
const PREFIX: &str = "sennit-lab-";
const FOLDER: &str = "/run/netns";

/// A network namespace, removed when this value is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: PathBuf,
}

impl Namespace {
    /// Makes a namespace for `role`; `run` tells apart those that one process makes.
    pub fn new(run: u32, role: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{run}-{role}", std::process::id());
        ip(&["netns", "add", &name], "")?;
        let made = Self {
            file: Path::new(FOLDER).join(&name),
            name,
        };
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs commands of `ip`, one a line, inside.
    pub fn ip(&self, commands: &str) -> Result<()> {
        ip(&["-n", &self.name, "-batch", "-"], commands).map(|_| ())
    }

    /// Sets `net.…` values inside: one `key=value` a line.
    pub fn sysctl(&self, settings: &'static str) -> Result<()> {
        self.run(move || {
            for (key, value) in settings.lines().filter_map(|line| line.trim().split_once('=')) {
                let file = format!("/proc/sys/{}", key.replace('.', "/"));
                std::fs::write(&file, value).map_err(|error| {
                    Error::environment(format!("failed to write {file}: {error}"), "run the lab as root")
                })?;
            }
            Ok(())
        })
    }

    /// A command that will run inside; its process id is that of the program itself.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a program inside to its end, and returns what it wrote on stdout.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output();
        finished(program, arguments, output)
    }

    /// Does something in a thread that stands in the namespace, and waits for it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.spawn(work)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a thread that stands in the namespace; threads that it starts stand there as well.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = self.file.clone();
        std::thread::Builder::new()
            .spawn(move || entered(&file).and_then(|()| work()))
            .map_err(|error| Error::environment(format!("failed to start a thread: {error}"), ""))
    }

    /// Like [`Self::spawn`], for work that borrows.
    pub fn spawn_scoped<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        work: impl FnOnce() -> Result<T> + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, Result<T>> {
        let file = self.file.clone();
        scope.spawn(move || entered(&file).and_then(|()| work()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; `sennit-lab clean` tries again.
        remove(&self.name);
    }
}

/// Removes what earlier runs left behind, and returns the names. Those of living processes stay unless `all`.
pub fn clean(all: bool) -> Vec<String> {
    let left = std::fs::read_dir(FOLDER)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut names: Vec<String> = left
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.retain(|name| {
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else {
            return false;
        };
        all || !is_lab(owner)
    });
    names.sort();
    for name in &names {
        remove(name);
    }
    names
}

/// Whether that process id belongs to a running lab (a number may have come to another program since).
fn is_lab(process: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.contains("lab"))
}

fn remove(name: &str) {
    if let Ok(processes) = ip(&["netns", "pids", name], "") {
        for process in processes.lines().filter_map(|line| line.trim().parse().ok()) {
            let own = process == std::process::id() as i32;
            if let Some(process) = rustix::process::Pid::from_raw(process).filter(|_| !own) {
                // It may have ended by itself meanwhile.
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
        }
    }
    let _ = ip(&["netns", "delete", name], "");
}

fn entered(file: &Path) -> Result<()> {
    enter_network(file).map_err(|error| {
        Error::environment(
            format!("failed to enter {}: {error}", file.display()),
            "run the lab as root",
        )
    })
}

fn ip(arguments: &[&str], input: &str) -> Result<String> {
    let child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = child.and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    });
    finished("ip", arguments, output)
}

fn finished(program: &str, arguments: &[&str], output: std::io::Result<Output>) -> Result<String> {
    let said = |reason: String| format!("failed to run {program} {}: {reason}", arguments.join(" "));
    let output = output.map_err(|error| {
        Error::environment(
            said(error.to_string()),
            format!("apt-get install {}", package_of(program)),
        )
    })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::environment(
            said(reason),
            "run the lab as root, on a kernel with network namespaces",
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The Debian package that brings a program.
fn package_of(program: &str) -> &str {
    match program {
        "ip" => "iproute2",
        "nft" => "nftables",
        "wg" => "wireguard-tools",
        other => other,
    }
}
