//! What the server sets in the system, kept equal to what it should be: addresses, kernel settings, firewall.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tracing::{info, warn};

use super::client_system::netlink_failed;
use crate::Result;
use crate::config::{Forwarding, Ipv6, Protocol, ServerConfig};
use crate::netlink::{Family, Inventory, Netlink};
use crate::port;
use crate::system::filters::{self, Opening};
use crate::system::{self, Firewall, Guest, ServerFirewall, Settings, Undo};
use crate::wan::uplinks;

/// The server's part of the system.
#[derive(Debug)]
pub(super) struct ServerSystem {
    pub(super) undo: Undo,
    /// The kernel's number of the tunnel interface.
    pub(super) tunnel: u32,
    netlink: Netlink,
    firewall: Firewall,
    /// What the firewall was last told.
    table: Option<ServerFirewall>,
    /// What other packet filters must let through.
    opening: Option<Opening>,
    /// Addresses for which neighbours are answered, each with the kernel's number of the uplink.
    proxied: BTreeSet<(u32, Ipv6Addr)>,
}

impl ServerSystem {
    pub(super) fn open(undo: Undo, tunnel: u32) -> Result<Self> {
        Ok(Self {
            undo,
            tunnel,
            netlink: Netlink::open().map_err(netlink_failed)?,
            firewall: Firewall::default(),
            table: None,
            opening: None,
            proxied: BTreeSet::new(),
        })
    }

    /// Makes all of it what the configuration says.
    pub(super) fn apply(&mut self, config: &ServerConfig, guests: Vec<Guest>) -> Result<()> {
        let inventory = Inventory::read(&mut self.netlink).map_err(netlink_failed)?;
        let present = inventory
            .links
            .get(&self.tunnel)
            .map(|link| link.addresses.clone())
            .unwrap_or_default();
        system::set_addresses(&mut self.netlink, self.tunnel, &present, &config.address)?;
        if config.nat {
            let uplinks: Vec<String> = uplinks(&inventory, &config.common.interface)
                .into_iter()
                .map(|uplink| uplink.device)
                .collect();
            Settings::new(&mut self.undo).forward(&uplinks)?;
        }
        self.answer_neighbours(&inventory, config, &guests)?;
        self.set_firewall(config, guests)?;
        self.opening = config.open_filters.then(|| Opening {
            tunnel: config.common.interface.clone(),
            ports: config.listen.iter().map(SocketAddr::port).collect(),
        });
        self.open_filters();
        if config.nat {
            Settings::new(&mut self.undo).take_late_packets()?;
        }
        Ok(())
    }

    /// Answers the uplinks' neighbours for all inner IPv6 addresses, if these are to be a part of the uplinks' network.
    fn answer_neighbours(
        &mut self,
        inventory: &Inventory,
        config: &ServerConfig,
        guests: &[Guest],
    ) -> Result<()> {
        let mut wanted = BTreeSet::new();
        if config.ipv6 == Ipv6::Ndp {
            let own = config.address.iter().map(|network| network.address);
            let addresses: Vec<Ipv6Addr> = guests
                .iter()
                .flat_map(|guest| guest.addresses.iter().copied())
                .chain(own)
                .filter_map(|address| match address {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                })
                .collect();
            for uplink in uplinks(inventory, &config.common.interface) {
                if !uplink.has(Family::V6) {
                    continue;
                }
                Settings::new(&mut self.undo).answer_neighbours_on(&uplink.device)?;
                for address in &addresses {
                    self.undo.remember_neighbour(&uplink.device, *address)?;
                    self.netlink
                        .add_neighbour_proxy(uplink.index, *address)
                        .map_err(netlink_failed)?;
                    wanted.insert((uplink.index, *address));
                }
            }
        }
        for (link, address) in self.proxied.difference(&wanted) {
            self.netlink
                .remove_neighbour_proxy(*link, *address)
                .map_err(netlink_failed)?;
        }
        self.proxied = wanted;
        Ok(())
    }

    /// Makes the firewall what the configuration and these clients ask for.
    pub(super) fn set_firewall(&mut self, config: &ServerConfig, guests: Vec<Guest>) -> Result<()> {
        if !config.nat && !config.filter {
            self.table = None;
            return if self.firewall.is_set() {
                self.firewall = Firewall::default();
                Firewall::remove()
            } else {
                Ok(())
            };
        }
        let own = config.listen.iter().map(SocketAddr::port).collect();
        let table = ServerFirewall {
            tunnel: config.common.interface.clone(),
            networks: config.address.clone(),
            filter: config.filter,
            nat: config.nat,
            ipv6: config.ipv6,
            guests,
            automatic: config.forward == Forwarding::Auto,
            kept: kept(&own),
            own,
        };
        self.firewall.restore()?;
        self.firewall.set_server(&table)?;
        for (protocol, port) in table.kept.iter().filter(|kept| wanted(&table, **kept)) {
            warn!(
                "{}/{port} leads to a client, but a program of this machine has it, too, and hears nothing there",
                protocol.names().concat()
            );
        }
        self.table = Some(table);
        Ok(())
    }

    /// Some clients may come in even where this fails.
    fn open_filters(&mut self) {
        let Some(opening) = &self.opening else { return };
        match filters::open(&mut self.undo, opening) {
            Ok(rules) => {
                for rule in rules {
                    info!(rule = rule.text(), "another packet filter was opened");
                }
            }
            Err(error) => warn!("{error} (hint: {})", error.hint()),
        }
    }

    /// What changes without anybody telling us: programs that took a port, firewalls that were started again.
    pub(super) fn look_after(&mut self) {
        self.open_filters();
        let restored = self.firewall.restore();
        match restored {
            Ok(false) => {}
            Ok(true) => info!("the table inet sennit was gone, and is set again"),
            Err(error) => warn!("{error} (hint: {})", error.hint()),
        }
        let Some(table) = &mut self.table else { return };
        let kept = kept(&table.own);
        if table.kept != kept {
            table.kept = kept;
            if let Err(error) = self.firewall.set_server(table) {
                warn!("{error} (hint: {})", error.hint());
            }
        }
    }
}

/// Ports at which programs of this machine wait, but for the tunnel's own.
fn kept(own: &BTreeSet<u16>) -> BTreeSet<(Protocol, u16)> {
    let mut ports = port::waiting();
    ports.retain(|(protocol, port)| *protocol != Protocol::Udp || !own.contains(port));
    ports
}

/// Whether somebody's own forward takes this port away.
fn wanted(table: &ServerFirewall, (protocol, port): (Protocol, u16)) -> bool {
    let forwards = table.guests.iter().flat_map(|guest| &guest.forwards);
    table.nat
        && forwards
            .into_iter()
            .any(|forward| forward.protocol.meets(protocol) && (forward.first..=forward.last).contains(&port))
}
