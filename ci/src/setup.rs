//! What the machine must have for demo, test and builds, and how it gets there: Debian's packages.
//!
//! Nothing is installed without being listed first; without root or passwordless sudo the one command is printed.

use std::process::{Command, Stdio};

use crate::host::{has, say};
use crate::{Failure, Result, toolchain};

/// Something a command of this crate, or the builder, calls.
struct Need {
    /// Debian package.
    package: &'static str,
    /// How its presence is seen: a program in `PATH`, or an absolute path.
    sign: &'static str,
    /// Who needs it.
    reason: &'static str,
}

const fn need(package: &'static str, sign: &'static str, reason: &'static str) -> Need {
    Need {
        package,
        sign,
        reason,
    }
}

/// Debian 12 and later.
const NEEDS: &[Need] = &[
    need("build-essential", "cc", "linker of Rust programs, make"),
    need("clang", "clang", "the daemon's ciphers for routers"),
    need("gawk", "gawk", "ImageBuilder"),
    need("zstd", "zstd", "ImageBuilder archives"),
    need("python3", "/usr/bin/python3", "ImageBuilder"),
    need("gnupg", "gpg", "signatures of the miniature"),
    need("dpkg", "dpkg-deb", "miniature: unpacks Debian's packages"),
    need("qemu-system-x86", "qemu-system-x86_64", "boot tests of PC images"),
    need(
        "qemu-system-arm",
        "qemu-system-aarch64",
        "boot tests of arm64 images",
    ),
    need(
        "qemu-efi-aarch64",
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "UEFI of arm64 boot tests",
    ),
    need("iproute2", "ip", "network tests: namespaces, addresses, routes"),
    need("util-linux", "nsenter", "network tests: namespaces"),
    need("nftables", "nft", "network tests: the daemon's firewall"),
    need("conntrack", "conntrack", "network tests: a server that forgets"),
    need("iptables", "iptables", "network tests: other packet filters"),
    need("ufw", "ufw", "network tests: other packet filters"),
    // (Not firewalld, whose package starts it on this very machine; its test runs where it is there already.)
    need(
        "miniupnpd-nftables",
        "miniupnpd",
        "network tests: UPnP, the router's side",
    ),
    need("miniupnpc", "upnpc", "network tests: UPnP, a host's side"),
    need("natpmpc", "natpmpc", "network tests: NAT-PMP, a host's side"),
    need("ethtool", "ethtool", "network tests: offload settings"),
    need("iputils-ping", "ping", "network tests: echo requests"),
    need("procps", "sysctl", "network tests: kernel settings"),
    need(
        "busybox-static",
        "/usr/share/doc/busybox-static",
        "tests of the router's scripts",
    ),
    need("debootstrap", "debootstrap", "tests of a new server: its disk"),
    need(
        "dpkg-dev",
        "dpkg-scanpackages",
        "tests of a new server: its mirror",
    ),
    need(
        "qemu-utils",
        "qemu-img",
        "tests of a new server: copies of its disk",
    ),
    need("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd", "UEFI of PC boot tests"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only list, install nothing
    #[arg(long)]
    list: bool,
}

/// Lists what is missing; installs it unless `--list`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for need in NEEDS {
            let state = if present(need) { "here" } else { "missing" };
            say(&format!("{state:8} {:22} {}", need.package, need.reason));
        }
        toolchain::list();
        return Ok(());
    }
    ensure()
}

/// Installs what is missing, after listing it.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !present(need)).collect();
    if !missing.is_empty() {
        say("missing on this machine:");
        for need in &missing {
            say(&format!("    {:22} {}", need.package, need.reason));
        }
        let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
        install(&packages)?;
    }
    toolchain::ensure(install)
}

/// Installs Debian packages.
fn install(packages: &[&str]) -> Result<()> {
    let line = format!(
        "apt-get install --yes --no-install-recommends {}",
        packages.join(" ")
    );
    if !has("apt-get") {
        return Err(Failure::environment(format!(
            "this is not a Debian or Ubuntu system: install what these packages bring: {}",
            packages.join(" ")
        )));
    }
    let sudo = if rustix::process::geteuid().is_root() {
        ""
    } else if may_become_root() {
        "sudo -n "
    } else {
        return Err(Failure::environment(format!(
            "packages are missing and this user may not install them; run: sudo sh -c 'apt-get update && {line}'"
        )));
    };
    say(&format!("installing: {sudo}{line}"));
    // The package lists of a fresh machine are empty or old: a second try follows an update.
    let environment = "DEBIAN_FRONTEND=noninteractive";
    let install = format!("{sudo}env {environment} {line}");
    let update = format!("{sudo}apt-get update");
    if quiet(&install) || (quiet(&update) && shown(&install)) {
        return Ok(());
    }
    Err(Failure::environment(format!(
        "`{sudo}{line}` failed; its messages are above"
    )))
}

/// Fetches the lists of packages, where this user may; whether that worked.
pub(crate) fn update_lists() -> bool {
    let root = rustix::process::geteuid().is_root();
    quiet(if root {
        "apt-get update"
    } else {
        "sudo -n apt-get update"
    })
}

/// Whether sudo asks for no password.
pub(crate) fn may_become_root() -> bool {
    quiet("sudo -n true")
}

fn present(need: &Need) -> bool {
    if need.sign.starts_with('/') {
        std::path::Path::new(need.sign).exists()
    } else {
        has(need.sign)
    }
}

fn quiet(line: &str) -> bool {
    status(line, Stdio::null(), Stdio::null())
}

fn shown(line: &str) -> bool {
    status(line, Stdio::inherit(), Stdio::inherit())
}

fn status(line: &str, stdout: Stdio, stderr: Stdio) -> bool {
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else { return false };
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .status()
        .is_ok_and(|status| status.success())
}
