//! `sennit check`: what keeps this machine from working as a role, each finding with its remedy.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::geteuid;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use super::printer::show;
use super::{Daemon, check_server};
use crate::config::{self, ClientConfig, KeySource};
use crate::control::{Caller, Request};
use crate::error::Exit;
use crate::netlink::{Inventory, Netlink};
use crate::role::Role;
use crate::sys::datagrams::set_option;
use crate::udp::MARK;
use crate::wan::uplinks;
use crate::{Error, Result};

/// Prints a line for each thing looked at.
#[derive(Default)]
pub(super) struct Findings {
    problems: usize,
}

impl Findings {
    pub(super) fn good(&mut self, what: &str) {
        show(&format!("ok       {what}"));
    }

    /// Worth knowing, no fault of this machine.
    pub(super) fn note(&mut self, what: &str) {
        show(&format!("note     {what}"));
    }

    pub(super) fn bad(&mut self, what: &str, hint: &str) {
        self.problems += 1;
        show(&format!("problem  {what}\n         hint: {hint}"));
    }

    pub(super) fn take<T>(&mut self, outcome: Result<T>, good: impl FnOnce(&T) -> String) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.good(&good(&value));
                Some(value)
            }
            Err(error) => {
                self.bad(&error.to_string(), error.hint());
                None
            }
        }
    }
}

/// Exit code 3 if something was found.
pub(super) fn run(daemon: &Daemon, role: Option<Role>) -> Result<Exit> {
    let status = daemon
        .call()
        .and_then(|mut caller: Caller| caller.ask(&Request::Status {}))
        .ok();
    let running = status.as_ref().and_then(|status| match status["role"].as_str() {
        Some("server") => Some(Role::Server),
        Some("client") => Some(Role::Client),
        _ => None,
    });
    let role = role.or(running).unwrap_or(Role::Client);
    let mut findings = Findings::default();
    privileges(&mut findings);
    match role {
        Role::Client => client(&mut findings, daemon.file(), status.as_ref())?,
        Role::Server => check_server::server(&mut findings, daemon, status.as_ref()),
    }
    match &status {
        Some(status) => connection(&mut findings, status),
        None => findings.bad(
            "no sennit is running here",
            &format!("start it: sennit run {}", role.name()),
        ),
    }
    Ok(if findings.problems == 0 {
        Exit::Ok
    } else {
        Exit::Found
    })
}

fn privileges(findings: &mut Findings) {
    if geteuid().is_root() {
        findings.good("this user is root");
    } else {
        findings.bad("this user is not root", "run sennit as root");
    }
    let device = Path::new("/dev/net/tun");
    match std::fs::File::open(device) {
        Ok(_) => findings.good("the kernel has TUN devices"),
        Err(error) => findings.bad(
            &format!("failed to open {}: {error}", device.display()),
            "install kmod-tun (OpenWrt) or run modprobe tun",
        ),
    }
    let nft = Command::new("nft")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match nft {
        Ok(status) if status.success() => findings.good("the program nft is there"),
        _ => findings.bad(
            "the program nft is missing: the firewall cannot be set",
            "install the package nftables",
        ),
    }
}

pub(super) fn key(findings: &mut Findings, key: &KeySource) {
    findings.take(key.load(), |key| {
        format!("this machine's public key is {}", key.public())
    });
}

fn client(findings: &mut Findings, file: Option<&Path>, status: Option<&Value>) -> Result<()> {
    let config = findings.take(config::read::<ClientConfig>(file), |_| {
        "the configuration is right".to_owned()
    });
    let Some(config) = config else { return Ok(()) };
    let Some(server) = &config.server else {
        findings.bad(
            "no server is set",
            "sennit setup client --server HOST --server-key PUBLIC_KEY",
        );
        return Ok(());
    };
    key(findings, &config.key);
    match (server.address.host.as_str(), server.address.port).to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
            findings.good(&format!("the server is at {}", addresses.join(", ")));
        }
        // While the tunnel is not up, names can only be asked of a running daemon's memory.
        Err(_) if status.is_some_and(|status| status["server"].is_string()) => {
            findings.good("the server's address is known from an earlier time");
        }
        Err(error) => findings.bad(
            &format!(
                "the server's name {} is not resolved: {error}",
                server.address.host
            ),
            "check the name, and that this machine has a name server",
        ),
    }
    let inventory = Netlink::open()
        .and_then(|mut netlink| Inventory::read(&mut netlink))
        .map_err(|error| {
            Error::environment(
                format!("failed to ask the kernel about interfaces: {error}"),
                "run sennit as root",
            )
        })?;
    let found: Vec<_> = uplinks(&inventory, &config.common.interface)
        .into_iter()
        .filter(|uplink| config.wans.take(&uplink.device))
        .collect();
    if found.is_empty() {
        findings.bad(
            "no interface has a default route: there is no WAN",
            "connect one; ip route show default lists them; check the keys wans.include and wans.exclude",
        );
    }
    for uplink in found {
        match uplink.obstacle {
            None => findings.good(&format!(
                "WAN {} has a default route and an address",
                uplink.device
            )),
            Some(obstacle) => findings.bad(
                &format!("WAN {} cannot be used: {}", uplink.device, obstacle.text()),
                "check its cable, its signal, its address (ip addr)",
            ),
        }
    }
    Ok(())
}

/// What the running daemon says.
fn connection(findings: &mut Findings, status: &Value) {
    match status["state"].as_str() {
        Some("connected" | "running") => findings.good("the daemon runs"),
        Some("connecting") => findings.bad(
            "the daemon runs, but the server does not answer",
            "on the server: sennit check; does its firewall let the UDP port in? do both ends know one another's public key?",
        ),
        Some("no_server") => {}
        state => findings.bad(&format!("the daemon runs, but is {}", state.unwrap_or("silent")), "sennit status says more"),
    }
    for wan in status["wans"].as_array().into_iter().flatten() {
        let name = wan["name"].as_str().unwrap_or("?");
        let states: Vec<&str> = wan["paths"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|path| path["state"].as_str())
            .collect();
        if states.contains(&"active") {
            findings.good(&format!("the server answers over WAN {name}"));
        } else if wan["priority"] != "off" {
            let why = wan["why"].as_str().unwrap_or("no reason given");
            let server = status["server"].as_str().and_then(|server| server.parse().ok());
            let complaint = server.and_then(|server| knock(name, server).err());
            let (why, hint) = match complaint {
                Some(ErrorKind::ConnectionRefused) => (
                    "nothing listens on its UDP port".to_owned(),
                    "start it there: sennit run server",
                ),
                Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => (
                    "a router says that there is no route to it".to_owned(),
                    "is the server's address right, and does this WAN reach the internet?",
                ),
                _ => match silent_neighbour(name) {
                    Some(neighbour) => (
                        format!("its gateway {neighbour} does not answer"),
                        "is that address right (ip route show default), and what is at the other end of the cable?",
                    ),
                    None => (
                        why.to_owned(),
                        "does this WAN let UDP through to the server's port?",
                    ),
                },
            };
            findings.bad(
                &format!("the server does not answer over WAN {name}: {why}"),
                hint,
            );
        }
    }
}

/// Sends the server a byte that it will not answer, and waits for a router or its own kernel to complain.
fn knock(device: &str, server: SocketAddr) -> Result<(), ErrorKind> {
    /// As long as the kernel looks for a gateway's link address.
    const PATIENCE: Duration = Duration::from_secs(4);
    let complaint = || -> std::io::Result<()> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
        let (level, option) = if server.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        } else {
            (libc::IPPROTO_IP, libc::IP_RECVERR)
        };
        // Without it only some complaints are told.
        set_option(socket.as_fd(), level, option, 1)?;
        socket.bind_device(Some(device.as_bytes()))?;
        socket.set_mark(MARK)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(&server.into())?;
        socket.send(&[0])?;
        let mut answer = [std::mem::MaybeUninit::uninit(); 1];
        socket.recv(&mut answer).map(|_| ())
    };
    match complaint().map_err(|error| error.kind()) {
        Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        outcome => outcome,
    }
}

/// An IPv4 neighbour on this interface whose link address the kernel has asked for in vain.
fn silent_neighbour(device: &str) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/arp").ok()?;
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect());
    rows.into_iter().find_map(|row: Vec<&str>| match row[..] {
        [address, _, "0x0", .., last] if last == device => Some(address.to_owned()),
        _ => None,
    })
}
