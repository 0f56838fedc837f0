//! Network namespaces and running daemons for tests. Needs root; says so where it is not.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

pub mod bond;
pub mod transfer;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub const SENNIT: &str = env!("CARGO_BIN_EXE_sennit");

/// What is waited for takes moments; this only ends a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network namespace that lives as long as this value.
pub struct Namespace {
    holder: Child,
    own_files: bool,
}

/// Gives a mount namespace an `/etc` of its own, a copy, and empty folders for what daemons keep.
const OWN_FILES: &str = "mount -t tmpfs tmpfs /run && cp -a /etc /run/etc && mount --bind /run/etc /etc && \
                         rm -rf /etc/sennit && mount -t tmpfs tmpfs /var/lib";

impl Namespace {
    /// `None`, with a word on stderr, where this user may not make one.
    pub fn new() -> Option<Self> {
        Self::make(&["--net"], "true", false)
    }

    /// A namespace that also has `/etc/sennit`, `/run/sennit` and `/var/lib/sennit` of its own.
    pub fn machine() -> Option<Self> {
        Self::make(&["--net", "--mount"], OWN_FILES, true)
    }

    fn make(kinds: &[&str], prepare: &str, own_files: bool) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root (a network namespace and a TUN device)");
            return None;
        }
        // `read` keeps the namespace until our end of the pipe closes; the line says that it exists.
        let script = format!("{prepare} && ip link set lo up && echo ready && read -r _");
        let mut holder = Command::new("unshare")
            .args(kinds)
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (package util-linux) starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "unshare failed");
        Some(Self { holder, own_files })
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    pub fn has_interface(&self, name: &str) -> bool {
        let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", self.holder.id())).unwrap();
        devices
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{name}:")))
    }

    /// A program that will run inside.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        if self.own_files {
            command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        }
        command.arg(program).args(arguments);
        command
    }

    /// Runs a program inside; it must succeed. Returns what it wrote.
    pub fn run(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.command(words[0], &words[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Hands a text to `nft`.
    pub fn nft(&self, rules: &str) {
        let status = self.command("nft", &[rules]).status().unwrap();
        assert!(status.success(), "nft refused:\n{rules}");
    }

    pub fn sennit(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(SENNIT, arguments))
    }

    /// Calls `action` on a thread inside the namespace.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
                action()
            });
            inside.join().unwrap()
        })
    }

    /// A cable from here to another namespace: `name` at both ends, with these addresses.
    pub fn connect(&self, name: &str, own: &str, other: &Self, others: &str) {
        let (here, there) = (self.holder.id(), other.holder.id());
        let script = format!(
            "ip link add {name} netns {here} type veth peer name {name} netns {there} && \
             nsenter --net=/proc/{here}/ns/net sh -c 'ip addr add {own} dev {name} && ip link set {name} up' && \
             nsenter --net=/proc/{there}/ns/net sh -c 'ip addr add {others} dev {name} && ip link set {name} up'"
        );
        assert!(
            Command::new("sh")
                .args(["-c", &script])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A started daemon; killed with the test. Its log goes to a file, so that it never waits for us to read.
pub struct Running {
    child: Child,
    log: tempfile::NamedTempFile,
    read: usize,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = command.stderr(log.reopen().unwrap()).spawn().unwrap();
        Self { child, log, read: 0 }
    }

    /// Reads the log on until a line contains `text`, and returns that line.
    pub fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap().is_some();
            let log = self.whole_log();
            while let Some(length) = log[self.read..].find('\n') {
                let line = &log[self.read..self.read + length];
                self.read += length + 1;
                if line.contains(text) {
                    return line.to_owned();
                }
            }
            assert!(
                !ended && start.elapsed() < PATIENCE,
                "no {text:?} in the log:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; returns the whole log.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.whole_log())
    }

    /// Waits for the end.
    pub fn wait_end(&mut self) {
        self.child.wait().unwrap();
    }

    /// SIGKILL, and the end.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        self.finish();
    }

    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of a daemon:\n{}", self.whole_log());
        }
    }
}

/// The files of one daemon: configuration, control socket, state.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration: these lines after those that keep the daemon in this folder.
    pub fn configure(&self, text: &str) -> PathBuf {
        let own = format!(
            "control = {:?}\nstate_dir = {:?}\n",
            self.path("control"),
            self.path("state")
        );
        let path = self.path("sennit.toml");
        std::fs::write(&path, format!("{own}{text}")).unwrap();
        path
    }

    /// Makes a private key in this folder; returns the public one.
    pub fn key(&self) -> String {
        let output = Command::new(SENNIT)
            .args(["keygen", "--out", text(&self.path("key"))])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Calls a command that speaks to the daemon of this folder.
    pub fn sennit(&self, arguments: &[&str]) -> std::process::Output {
        let config = self.path("sennit.toml");
        let mut command = Command::new(SENNIT);
        command.args(arguments).args(["--config", text(&config)]);
        command.output().unwrap()
    }

    pub fn status(&self) -> Value {
        let output = self.sennit(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Asks for the state until it is as wanted.
    pub fn wait_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "not in time: {what}\n{status:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs a program of this machine; it must succeed. Returns what it wrote.
pub fn run_here(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asks again until the answer is yes; a condition of another process can only be polled.
pub fn wait(what: &str, mut answer: impl FnMut() -> bool) {
    let start = Instant::now();
    while !answer() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "not within 20 s: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether a program is there; says so if it is not.
pub fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("skipped: needs the program {program}");
    }
    found
}

/// All that a daemon could have changed, once the kernel has made up its mind about its own addresses.
pub fn picture(namespace: &Namespace) -> String {
    wait("no address is tentative", || {
        !namespace.run("ip addr show").contains("tentative")
    });
    let mut picture = String::new();
    for line in [
        "ip link show",
        "ip addr show",
        "ip rule",
        "ip -6 rule",
        "ip route show table all",
        "ip -6 route show table all",
        "nft list ruleset",
        "sysctl -a -r net.(ipv4|ipv6).conf.*(rp_filter|forwarding|accept_ra)$",
        "sysctl net.ipv4.ip_forward",
    ] {
        picture.push_str(&namespace.run(line));
    }
    picture
}
