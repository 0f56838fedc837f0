//! Who carries the traffic: plain forwarding, WireGuard, and the bond itself. One file each.

mod aggligator;
pub mod bond;
mod direct;
mod instructions;
mod mptcp;
pub mod process;
mod sennit;
mod shovel;
mod wireguard;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub use instructions::Instructions;
pub use process::Process;
pub use sennit::{find_program, program_file, start_server, status};

use crate::scenario::{Scenario, Side, Variant};
use crate::topology::Topology;
use crate::traffic::{Reach, quic};
use crate::{Error, Result};

/// Those that the lab knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The kernel forwards, each WAN by itself: what there is without a bond.
    Direct,
    /// Multipath TCP of the kernel.
    Mptcp,
    /// A proxy that aggregates TCP connections.
    Aggligator,
    /// WireGuard in user space over the first WAN.
    WireguardGo,
    /// A newer build of it, which the user names.
    WireguardGoCurrent,
    /// TUN, cipher and UDP without any protocol: the limit of the shape.
    Shovel,
    /// The bond.
    Sennit,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Direct,
        Self::Mptcp,
        Self::Aggligator,
        Self::WireguardGo,
        Self::WireguardGoCurrent,
        Self::Shovel,
        Self::Sennit,
    ];

    /// What it is called in scenarios and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Mptcp => "mptcp",
            Self::Aggligator => "aggligator",
            Self::WireguardGo => "wireguard-go",
            Self::WireguardGoCurrent => "wireguard-go-current",
            Self::Shovel => "shovel",
            Self::Sennit => "sennit",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// All names, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether it can carry the bulk transfers of a variant.
    pub fn carries(self, variant: &Variant) -> bool {
        !matches!(self, Self::Mptcp | Self::Aggligator) || variant.congestion != quic::NAME
    }

    /// Which version of it is installed, as far as it can be said.
    pub fn version(self, tools: &Tools) -> String {
        match self {
            Self::Direct | Self::Mptcp => "this kernel".to_owned(),
            Self::Shovel => "this program".to_owned(),
            Self::Aggligator => program_version(Path::new(aggligator::PROGRAM)),
            Self::WireguardGo => program_version(Path::new(wireguard::PROGRAM)),
            Self::WireguardGoCurrent => match &tools.wireguard_go {
                Some(program) => program_version(program),
                None => "not named".to_owned(),
            },
            Self::Sennit => "see the program".to_owned(),
        }
    }

    /// Starts it, and waits until it carries packets.
    pub fn start(
        self,
        topology: &Topology,
        scenario: &Scenario,
        variant: &Variant,
        tools: &Tools,
    ) -> Result<Started> {
        match self {
            Self::Direct => direct::start(topology, scenario),
            Self::Mptcp => mptcp::start(topology, scenario),
            Self::Aggligator => aggligator::start(topology, variant),
            Self::WireguardGo => wireguard::start(topology, scenario, self, Path::new(wireguard::PROGRAM)),
            Self::WireguardGoCurrent => {
                let program = tools.wireguard_go.as_deref().ok_or_else(|| {
                    Error::environment(
                        "no current build of wireguard-go was named",
                        "build one from its public source, and name it with --wireguard-go FILE",
                    )
                })?;
                wireguard::start(topology, scenario, self, program)
            }
            Self::Shovel => shovel::start(topology, scenario),
            Self::Sennit => sennit::start(topology, scenario, variant, tools),
        }
    }
}

/// Programs that a run needs.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// The `sennit` program, if one was found.
    pub sennit: Option<PathBuf>,
    /// A current build of wireguard-go, if one was named.
    pub wireguard_go: Option<PathBuf>,
}

/// A running contestant; its processes end when this value is dropped.
#[derive(Debug)]
pub struct Started {
    /// How the server is reached: once, or once a WAN.
    pub reaches: Vec<Reach>,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Its tunnel interface at the client and at the server, if it has one.
    pub tunnel: Option<(String, String)>,
    /// The control sockets of its ends.
    pub controls: Vec<(Side, PathBuf)>,
    /// Configuration, keys and logs; removed at the end.
    folder: Option<TempDir>,
}

impl Started {
    /// Fails if a process has ended by itself, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// The folder of its files.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Processes of one end.
    pub fn side(&mut self, side: Side) -> impl Iterator<Item = &mut Process> {
        self.processes
            .iter_mut()
            .filter(move |process| process.side == side)
    }
}

/// What a program says it is, in its first line.
fn program_version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text
        .ok()
        .and_then(|text| Some(text.lines().next()?.trim().to_owned()));
    line.filter(|line| !line.is_empty())
        .unwrap_or_else(|| "not installed".to_owned())
}

fn temporary_folder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("sennit-lab-")
        .tempdir()
        .map_err(|error| {
            Error::environment(
                format!("failed to make a temporary folder: {error}"),
                "set TMPDIR to a folder with room",
            )
        })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)
        .map_err(|error| Error::environment(format!("failed to write {}: {error}", path.display()), ""))
}

/// Lets LAN hosts out through the client's `interface`, under the address that `rule` says.
fn translate(topology: &Topology, interface: &str, rule: &str) -> Result<()> {
    let table = format!(
        "table ip lab {{\n chain out {{\n type nat hook postrouting priority 100\n \
         ip saddr 192.168.77.0/24 oifname \"{interface}\" {rule}\n }}\n}}"
    );
    topology.client.output("nft", &[&table])?;
    Ok(())
}
