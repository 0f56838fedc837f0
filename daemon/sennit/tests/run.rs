//! The real binary in network namespaces of its own. Those tests need root and say so when they are skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SENNIT: &str = env!("CARGO_BIN_EXE_sennit");

/// A network namespace that lives as long as this value.
struct Namespace {
    holder: Child,
}

impl Namespace {
    /// `None`, with a word on stderr, where this user may not make one.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root (a network namespace and a TUN device)");
            return None;
        }
        // `read` keeps the namespace until our end of the pipe closes; the line says that it exists.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (package util-linux) starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "unshare --net failed");
        Some(Self { holder })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    fn has_interface(&self, name: &str) -> bool {
        let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", self.holder.id())).unwrap();
        devices
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{name}:")))
    }

    fn sennit(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg(SENNIT)
            .args(arguments);
        Running::start(command)
    }

    /// Calls `action` on a thread inside the namespace.
    fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
                action()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A started daemon; killed with the test.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log until a line contains `text`, and returns that line.
    fn wait_for(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            if self.log.read_line(&mut seen).unwrap() == 0 {
                panic!("the log ended without {text:?}:\n{seen}");
            }
            if seen[start..].contains(text) {
                return seen[start..].to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; returns what was not read of the log yet.
    fn finish(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(directory: &TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("sennit.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_interface_appears_and_sigterm_removes_it() {
    let Some(namespace) = Namespace::new() else { return };
    let directory = TempDir::new().unwrap();
    let config = config(&directory, "interface = \"bond7\"\n");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&config)]);
    sennit.wait_for("running role=\"client\" interface=bond7 mtu=1500");
    assert!(namespace.has_interface("bond7"));
    sennit.wait_for("no server is joined");

    sennit.signal(Signal::TERM);
    let line = sennit.wait_for("stopping");
    assert!(line.contains("signal=\"SIGTERM\" interface=bond7"), "{line}");
    assert_eq!(sennit.finish().0.code(), Some(0));
    assert!(!namespace.has_interface("bond7"));
}

#[test]
fn sigint_stops_a_server_too() {
    let Some(namespace) = Namespace::new() else { return };
    let directory = TempDir::new().unwrap();
    let config = config(&directory, "");
    let mut sennit = namespace.sennit(&["run", "server", "--config", text(&config)]);
    sennit.wait_for("running role=\"server\" interface=sennit0");
    sennit.signal(Signal::INT);
    assert_eq!(sennit.finish().0.code(), Some(0));
    assert!(!namespace.has_interface("sennit0"));
}

#[test]
fn packets_that_enter_the_tunnel_are_taken_out_and_counted() {
    const PAYLOAD: usize = 1000;
    const IP_AND_UDP_HEADERS: usize = 28;
    let Some(namespace) = Namespace::new() else { return };
    let directory = TempDir::new().unwrap();
    let config = config(&directory, "log_level = \"trace\"\n");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&config)]);
    sennit.wait_for("no server is joined");
    namespace.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let index = rustix::net::netdevice::name_to_index(&socket, "sennit0").unwrap();
        let unspecified = Ipv4Addr::UNSPECIFIED;
        rustix::net::sockopt::set_ip_multicast_if_with_ifindex(&socket, &unspecified, &unspecified, index)
            .unwrap();
        socket.send_to(&[0; PAYLOAD], "224.0.0.9:9").unwrap();
    });
    sennit.wait_for(&format!("packet dropped length={}", PAYLOAD + IP_AND_UDP_HEADERS));
    sennit.signal(Signal::TERM);
    let line = sennit.wait_for("stopping");
    let bytes: usize = line.split("bytes=").nth(1).unwrap().trim().parse().unwrap();
    // The kernel may have sent some packets of its own (IPv6 neighbour discovery).
    assert!(
        bytes >= PAYLOAD + IP_AND_UDP_HEADERS && !line.contains("packets=0"),
        "{line}"
    );
}

#[test]
fn sighup_takes_a_new_configuration_and_refuses_a_bad_one() {
    let Some(namespace) = Namespace::new() else { return };
    let directory = TempDir::new().unwrap();
    let path = config(&directory, "interface = \"old0\"\n");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&path)]);
    sennit.wait_for("no server is joined");

    config(&directory, "interface = \"new0\"\n");
    sennit.signal(Signal::HUP);
    sennit.wait_for("configuration read again changed=true");
    assert!(namespace.has_interface("new0") && !namespace.has_interface("old0"));

    config(&directory, "interfaces = \"x\"\n");
    sennit.signal(Signal::HUP);
    let line = sennit.wait_for("the new configuration is refused");
    assert!(
        line.contains("sennit.toml:1:1: unknown field `interfaces`"),
        "{line}"
    );
    assert!(namespace.has_interface("new0"));

    config(&directory, "interface = \"lo\"\n");
    sennit.signal(Signal::HUP);
    sennit.wait_for("the interface lo is already in use");
    assert!(namespace.has_interface("new0"));

    config(&directory, "interface = \"new0\"\nlog_level = \"warn\"\n");
    sennit.signal(Signal::HUP);
    sennit.signal(Signal::TERM);
    let (status, rest) = sennit.finish();
    assert_eq!(status.code(), Some(0), "{rest}");
}

#[test]
fn an_interface_in_use_is_named() {
    let Some(namespace) = Namespace::new() else { return };
    let directory = TempDir::new().unwrap();
    let config = config(&directory, "");
    let mut first = namespace.sennit(&["run", "client", "--config", text(&config)]);
    first.wait_for("no server is joined");
    let (status, log) = namespace
        .sennit(&["run", "client", "--config", text(&config)])
        .finish();
    assert_eq!(status.code(), Some(2));
    assert!(
        log.contains("error: the interface sennit0 is already in use\nhint: stop the other sennit"),
        "{log}"
    );
}

#[test]
fn an_interface_that_somebody_removes_ends_the_daemon() {
    let Some(namespace) = Namespace::new() else { return };
    let directory = TempDir::new().unwrap();
    let config = config(&directory, "");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&config)]);
    sennit.wait_for("no server is joined");
    namespace.enter(|| {
        let removed = Command::new("ip").args(["link", "del", "sennit0"]).status();
        assert!(removed.expect("ip (package iproute2) starts").success());
    });
    let (status, log) = sennit.finish();
    assert_eq!(status.code(), Some(2));
    assert!(
        log.contains("error: the tunnel interface sennit0 is gone"),
        "{log}"
    );
}

#[test]
fn a_bad_configuration_is_the_users_error() {
    let directory = TempDir::new().unwrap();
    let config = config(&directory, "\nlog_level = 5\n");
    let mut command = Command::new(SENNIT);
    command.args(["run", "client", "--config", text(&config)]);
    let (status, log) = Running::start(command).finish();
    assert_eq!(status.code(), Some(1));
    assert!(
        log.contains(&format!("error: {}:2:13: ", config.display())),
        "{log}"
    );
    assert!(log.contains("\nhint: correct that line"), "{log}");
}

#[test]
fn check_reads_the_configuration_and_opens_nothing() {
    let directory = TempDir::new().unwrap();
    let good = config(&directory, "interface = \"bond1\"\n");
    let output = Command::new(SENNIT)
        .args(["run", "client", "--check", "--config", text(&good)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{}: ok\n", good.display())
    );
}

#[test]
fn usage_errors_exit_with_1_and_the_version_is_printed() {
    let code = |arguments: &[&str]| {
        Command::new(SENNIT)
            .args(arguments)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(code(&["run", "referee"]), Some(1));
    assert_eq!(code(&[]), Some(1));
    assert_eq!(code(&["--help"]), Some(0));
    let version = Command::new(SENNIT).arg("--version").output().unwrap();
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        concat!("sennit ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
