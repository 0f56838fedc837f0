//! What the client sets in the system, kept equal to what it should be: addresses, routes, firewall, kernel settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

use crate::config::{ClientConfig, Network, RoutePolicy};
use crate::netlink::{Inventory, Netlink};
use crate::system::{self, ClientFirewall, Firewall, Routing, Settings, Undo, write_atomically};
use crate::tun::Tun;
use crate::wan::{Uplink, uplinks};
use crate::{Error, Result};

const FILE: &str = "inner-addresses";

/// The client's part of the system.
#[derive(Debug)]
pub(super) struct ClientSystem {
    pub(super) undo: Undo,
    netlink: Netlink,
    routing: Routing,
    firewall: Firewall,
    tunnel: u32,
    /// The inner addresses, and the file that keeps them.
    addresses: Vec<Network>,
    file: PathBuf,
    routed: bool,
    /// A missing program is told once.
    complained: bool,
}

impl ClientSystem {
    pub(super) fn open(undo: Undo, tun: &Tun, state_dir: &Path) -> Result<Self> {
        let file = state_dir.join(FILE);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let addresses = text
            .lines()
            .filter_map(|line| Network::try_from(line.to_owned()).ok());
        let netlink = Netlink::open().map_err(netlink_failed)?;
        let mut system = Self {
            undo,
            netlink,
            routing: Routing::open()?,
            firewall: Firewall::default(),
            tunnel: 0,
            addresses: addresses.collect(),
            file,
            routed: false,
            complained: false,
        };
        system.set_tunnel(tun)?;
        Ok(system)
    }

    /// The tunnel interface is this one from now on. It gets the addresses that the server said last: connections of
    /// an earlier process find what they had.
    pub(super) fn set_tunnel(&mut self, tun: &Tun) -> Result<()> {
        self.tunnel = tun.index();
        self.put_addresses()
    }

    /// The inner addresses.
    pub(super) fn addresses(&self) -> &[Network] {
        &self.addresses
    }

    /// The server has said which addresses are this client's.
    pub(super) fn set_addresses(&mut self, addresses: Vec<Network>) -> Result<()> {
        if addresses != self.addresses {
            let lines: String = addresses.iter().map(|network| format!("{network}\n")).collect();
            write_atomically(&self.file, lines.as_bytes())?;
            self.addresses = addresses;
        }
        self.put_addresses()
    }

    fn put_addresses(&mut self) -> Result<()> {
        let inventory = Inventory::read(&mut self.netlink).map_err(netlink_failed)?;
        let present = inventory
            .links
            .get(&self.tunnel)
            .map(|link| link.addresses.clone());
        debug!(wanted = ?self.addresses, ?present, "addresses of the tunnel interface");
        system::set_addresses(
            &mut self.netlink,
            self.tunnel,
            &present.unwrap_or_default(),
            &self.addresses,
        )
    }

    /// The interfaces with a default route.
    pub(super) fn uplinks(&mut self, config: &ClientConfig) -> Result<Vec<Uplink>> {
        let inventory = Inventory::read(&mut self.netlink).map_err(netlink_failed)?;
        Ok(uplinks(&inventory, &config.common.interface))
    }

    /// Makes routes, firewall and settings what they should be. `through`: traffic goes into the tunnel (or waits for
    /// it); otherwise it goes the way that it went without us.
    pub(super) fn apply(&mut self, config: &ClientConfig, uplinks: &[Uplink], through: bool) -> Result<()> {
        let through = through && config.route == RoutePolicy::Default;
        if through {
            let ipv6 = self.addresses.iter().any(|network| network.address.is_ipv6());
            self.routing.set(self.tunnel, ipv6)?;
        } else if self.routed {
            self.routing.remove()?;
        }
        self.routed = through;
        let table = ClientFirewall {
            tunnel: config.common.interface.clone(),
            uplinks: if through {
                uplinks.iter().map(|uplink| uplink.device.clone()).collect()
            } else {
                BTreeSet::new()
            },
            sources: self.addresses.iter().map(|network| network.address).collect(),
        };
        match self.firewall.set_client(&table) {
            Ok(()) => {
                self.complained = false;
                Settings::new(&mut self.undo).take_late_packets()?;
            }
            Err(error) if !self.complained => {
                warn!(
                    "{error} (hint: {}); hosts behind this machine cannot use the tunnel",
                    error.hint()
                );
                self.complained = true;
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Kernel settings of a WAN. What fails costs less than a WAN.
    pub(super) fn prepare_wan(&mut self, device: &str) {
        if let Err(error) = Settings::new(&mut self.undo).accept_answers_on(device) {
            warn!("{error} (hint: {})", error.hint());
        }
    }

    /// Kernel settings for the hosts behind this machine.
    pub(super) fn prepare_lan(&mut self, config: &ClientConfig, uplinks: &[Uplink]) {
        if config.lan.is_empty() {
            return;
        }
        let uplinks: Vec<String> = uplinks.iter().map(|uplink| uplink.device.clone()).collect();
        let mut settings = Settings::new(&mut self.undo);
        let mut outcomes = vec![settings.forward(&uplinks)];
        outcomes.extend(config.lan.iter().map(|port| settings.join_packets_on(port)));
        for error in outcomes.into_iter().filter_map(Result::err) {
            warn!("{error} (hint: {})", error.hint());
        }
    }
}

pub(super) fn netlink_failed(error: std::io::Error) -> Error {
    Error::environment(
        format!("failed to ask the kernel about interfaces: {error}"),
        "check the limits of this process (ulimit -a); in a container, allow netlink sockets",
    )
}
