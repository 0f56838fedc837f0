//! The lab's network: a client with several WANs, an emulated link behind each, one server, hosts beside them.
//!
//! ```text
//! lan ── client ═╦═ wan0 namespace (emulator) ═╦═ server 203.0.113.5
//!                ╚═ wan1 namespace (emulator) ═╝
//! neighbour0 ────── wan0 namespace, beside the client
//! ```
//! In the WANs' namespaces stands no IP stack: the emulator carries frames between two interfaces, so that it is a
//! wire with a rate. The gateway of each WAN is the server's end of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::emulator::{LinkPlan, Port};
use crate::link::Shape;
use crate::namespace::Namespace;
use crate::scenario::Scenario;
use crate::sys::ethtool;
use crate::{Error, Result};

/// The server's one public address, the same over every WAN.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
/// Its IPv6 address.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 5);
/// UDP ports of the contestants' tunnels at the server.
pub const TUNNEL_PORTS: [u16; 3] = [7300, 7301, 51820];
/// The client's address in its LAN.
pub const LAN_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// The host behind the client.
pub const LAN_HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
/// More WANs make no sense on one machine, and the addresses below would run out at 250.
pub const MAX_WANS: usize = 16;

/// The client's interface to a WAN.
pub fn wan_interface(wan: usize) -> String {
    format!("wan{wan}")
}

/// The client's address in a WAN.
pub fn wan_address(wan: usize) -> IpAddr {
    Ipv4Addr::new(10, 71, wan as u8, 2).into()
}

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Shapes of each WAN, up and down.
    pub wans: Vec<(Shape, Shape)>,
    /// WANs with a neighbour on them.
    pub neighbours: Vec<usize>,
    /// Without emulator: the client's WAN interfaces end at the server, with all offloads.
    pub bare: bool,
}

impl Plan {
    /// The links of a scenario, with these neighbours.
    pub fn of(scenario: &Scenario, neighbours: Vec<usize>) -> Self {
        Self {
            wans: scenario
                .links
                .iter()
                .map(|link| (link.up.clone(), link.down.clone()))
                .collect(),
            neighbours,
            bare: scenario.bare,
        }
    }
}

/// The network, removed when this value is dropped.
#[derive(Debug)]
pub struct Topology {
    /// Where the contestant's client runs.
    pub client: Namespace,
    /// Where its server runs.
    pub server: Namespace,
    /// A host behind the client.
    pub lan: Namespace,
    /// Hosts beside the client on one WAN, by the WAN's number.
    pub neighbours: Vec<(usize, Namespace)>,
    /// The namespaces in which the emulator stands.
    pub wans: Vec<Namespace>,
    plan: Plan,
}

impl Topology {
    /// Builds it.
    pub fn new(plan: Plan) -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err(Error::environment(
                "the lab makes network namespaces, which only root may",
                "sudo sennit-lab …",
            ));
        }
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let mut neighbours = Vec::new();
        for wan in &plan.neighbours {
            neighbours.push((*wan, Namespace::new(run, &format!("neighbour{wan}"))?));
        }
        let wans: Result<Vec<_>> = (0..plan.wans.len())
            .map(|wan| Namespace::new(run, &format!("wan{wan}")))
            .collect();
        let made = Self {
            client: Namespace::new(run, "client")?,
            server: Namespace::new(run, "server")?,
            lan: Namespace::new(run, "lan")?,
            neighbours,
            wans: wans?,
            plan,
        };
        made.hosts()?;
        for wan in 0..made.wans.len() {
            if made.plan.bare {
                made.bare_wan(wan)?
            } else {
                made.emulated_wan(wan)?
            }
            made.addresses(wan)?;
        }
        Ok(made)
    }

    /// What the emulator needs to know of each link.
    pub fn links(&self) -> Vec<LinkPlan<'_>> {
        if self.plan.bare {
            return Vec::new();
        }
        let links = self.wans.iter().zip(&self.plan.wans).enumerate();
        links
            .map(|(wan, (namespace, (up, down)))| {
                let mut near = vec![Port {
                    interface: "near".into(),
                    host: mac(wan, 2),
                }];
                if self.neighbours.iter().any(|(at, _)| *at == wan) {
                    near.push(Port {
                        interface: "side".into(),
                        host: mac(wan, 3),
                    });
                }
                LinkPlan {
                    namespace,
                    near,
                    far: "far".into(),
                    up: up.clone(),
                    down: down.clone(),
                }
            })
            .collect()
    }

    /// Pulls the plug of a WAN at the client's side, or puts it in: the client sees its carrier go and come.
    pub fn plug(&self, wan: usize, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        match self.wans.get(wan).filter(|_| !self.plan.bare) {
            Some(namespace) => namespace.ip(&format!("link set near {state}")),
            None => self.server.ip(&format!("link set net{wan} {state}")),
        }
    }

    fn hosts(&self) -> Result<()> {
        for host in [&self.client, &self.server, &self.lan]
            .into_iter()
            .chain(self.neighbours.iter().map(|(_, n)| n))
        {
            // What a run learns about a path must not help the next; routers announce nothing here.
            host.sysctl(
                "net.ipv4.tcp_no_metrics_save=1
                net.ipv4.conf.all.rp_filter=0
                net.ipv4.conf.default.rp_filter=0
                net.ipv6.conf.all.accept_ra=0
                net.ipv6.conf.default.accept_ra=0
                net.ipv6.conf.default.accept_dad=0",
            )?;
        }
        for router in [&self.client, &self.server] {
            router.sysctl("net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1")?;
        }
        self.server.ip(&format!(
            "addr add {SERVER}/32 dev lo\naddr add {SERVER_V6}/128 dev lo"
        ))?;
        self.client.ip(&format!(
            "link add lan0 type veth peer name eth0 netns {}\naddr add {LAN_GATEWAY}/24 dev lan0\nlink set lan0 up",
            self.lan.name()
        ))?;
        self.lan.ip(&format!(
            "addr add {LAN_HOST}/24 dev eth0\nlink set eth0 up\nroute add default via {LAN_GATEWAY}"
        ))?;
        // A LAN host sends and a router receives packet by packet.
        for (host, interface) in [(&self.lan, "eth0"), (&self.client, "lan0")] {
            no_offloads(host, interface.to_owned())?;
        }
        Ok(())
    }

    fn emulated_wan(&self, wan: usize) -> Result<()> {
        let here = &self.wans[wan];
        here.sysctl("net.ipv6.conf.all.disable_ipv6=1\nnet.ipv6.conf.default.disable_ipv6=1")?;
        let mut ends = vec![
            (&self.client, wan_interface(wan), "near", 2),
            (&self.server, format!("net{wan}"), "far", 1),
        ];
        if let Some((_, neighbour)) = self.neighbours.iter().find(|(at, _)| *at == wan) {
            ends.push((neighbour, wan_interface(wan), "side", 3));
        }
        for (host, interface, port, number) in ends {
            here.ip(&format!(
                "link add {port} numtxqueues 1 numrxqueues 1 arp off type veth peer name {interface} \
                 numtxqueues 1 numrxqueues 1 address {} netns {}",
                mac_text(mac(wan, number)),
                host.name()
            ))?;
            no_offloads(here, port.to_owned())?;
            no_offloads(host, interface)?;
            here.ip(&format!("link set {port} up"))?;
        }
        Ok(())
    }

    fn bare_wan(&self, wan: usize) -> Result<()> {
        self.client.ip(&format!(
            "link add {} address {} type veth peer name net{wan} address {} netns {}",
            wan_interface(wan),
            mac_text(mac(wan, 2)),
            mac_text(mac(wan, 1)),
            self.server.name()
        ))
    }

    fn addresses(&self, wan: usize) -> Result<()> {
        self.server.ip(&format!(
            "addr add 10.71.{wan}.1/24 dev net{wan}\naddr add 2001:db8:71:{wan}::1/64 dev net{wan} nodad\n\
             link set net{wan} up"
        ))?;
        let mut hosts = vec![(&self.client, 2)];
        hosts.extend(
            self.neighbours
                .iter()
                .filter(|(at, _)| *at == wan)
                .map(|(_, neighbour)| (neighbour, 3)),
        );
        for (host, number) in hosts {
            let interface = wan_interface(wan);
            host.ip(&format!(
                "addr add 10.71.{wan}.{number}/24 dev {interface}\n\
                 addr add 2001:db8:71:{wan}::{number}/64 dev {interface} nodad\n\
                 link set {interface} up\n\
                 route add default via 10.71.{wan}.1 dev {interface} metric {metric}\n\
                 route add default via 2001:db8:71:{wan}::1 dev {interface} metric {metric}",
                metric = 100 + wan
            ))?;
        }
        Ok(())
    }
}

fn no_offloads(host: &Namespace, interface: String) -> Result<()> {
    host.run(move || {
        ethtool::no_offloads(&interface).map_err(|error| {
            Error::environment(
                format!("failed to turn off the segmentation offloads of {interface}: {error}"),
                "use a kernel whose veth interfaces have them switchable (any since 4.0)",
            )
        })
    })
}

/// The address of a host's interface in a WAN.
fn mac(wan: usize, host: u8) -> [u8; 6] {
    [0x02, 0x5e, 0, 0, wan as u8, host]
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
