//! Which interfaces are WANs: those with a default route in the table `main`, and what each of them lacks for use.
//! Decides from an [`Inventory`] and touches nothing.

use std::net::IpAddr;

use crate::config::InterfaceName;
use crate::netlink::{Family, Inventory};

/// An interface with a default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Name of the interface.
    pub device: String,
    /// The kernel's number of it: another one is another device, even of the same name.
    pub index: u32,
    /// The addresses that it sends from, at most one for each IP version that has a default route.
    pub addresses: Vec<IpAddr>,
    /// What keeps it from being used.
    pub obstacle: Option<Obstacle>,
}

/// What keeps an interface from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It has been set down.
    Down,
    /// No cable, no radio link.
    NoCarrier,
    /// No address that reaches further than the link.
    NoAddress,
}

impl Obstacle {
    /// For status and log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Down => "the interface is down",
            Self::NoCarrier => "no carrier",
            Self::NoAddress => "no address",
        }
    }
}

impl Uplink {
    /// Whether it can be used now, with this IP version.
    pub fn has(&self, family: Family) -> bool {
        self.obstacle.is_none()
            && self
                .addresses
                .iter()
                .any(|address| Family::of(*address) == family)
    }
}

/// All interfaces with a default route but the tunnel's own, the preferred one first.
pub fn uplinks(inventory: &Inventory, tunnel: &InterfaceName) -> Vec<Uplink> {
    let mut uplinks: Vec<Uplink> = Vec::new();
    for route in &inventory.default_routes {
        let Some(link) = inventory.links.get(&route.link) else {
            continue;
        };
        if link.loopback || link.name == tunnel.as_str() {
            continue;
        }
        let of_family = |address: &IpAddr| Family::of(*address) == route.family;
        let address = link
            .addresses
            .iter()
            .map(|network| network.address)
            .find(of_family);
        if let Some(known) = uplinks.iter_mut().find(|uplink| uplink.index == link.index) {
            if !known.addresses.iter().any(of_family) {
                known.addresses.extend(address);
            }
        } else {
            uplinks.push(Uplink {
                device: link.name.clone(),
                index: link.index,
                addresses: address.into_iter().collect(),
                obstacle: None,
            });
        }
    }
    for uplink in &mut uplinks {
        let Some(link) = inventory.links.get(&uplink.index) else {
            continue;
        };
        uplink.addresses.sort();
        uplink.obstacle = if !link.up {
            Some(Obstacle::Down)
        } else if !link.carrier {
            Some(Obstacle::NoCarrier)
        } else if uplink.addresses.is_empty() {
            Some(Obstacle::NoAddress)
        } else {
            None
        };
    }
    uplinks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;
    use crate::netlink::{DefaultRoute, Link};

    fn link(index: u32, name: &str, carrier: bool, addresses: &[&str]) -> (u32, Link) {
        let addresses = addresses
            .iter()
            .map(|text| Network::try_from((*text).to_owned()).unwrap())
            .collect();
        (
            index,
            Link {
                index,
                name: name.to_owned(),
                loopback: name == "lo",
                up: true,
                carrier,
                mtu: 1500,
                addresses,
            },
        )
    }

    fn route(link: u32, metric: u32, family: Family) -> DefaultRoute {
        DefaultRoute { metric, family, link }
    }

    #[test]
    fn every_interface_with_a_default_route_is_found_once() {
        let inventory = Inventory {
            links: [
                link(1, "lo", true, &[]),
                link(2, "eth0", true, &["192.0.2.2/24", "2001:db8::2/64"]),
                link(3, "eth1", true, &["198.51.100.2/24"]),
                link(4, "br-lan", true, &["192.168.1.1/24"]),
                link(5, "sennit0", true, &["10.73.0.2/24"]),
                link(6, "wwan0", false, &[]),
            ]
            .into(),
            default_routes: vec![
                route(5, 0, Family::V4),
                route(2, 10, Family::V4),
                route(2, 10, Family::V6),
                route(3, 20, Family::V4),
                route(6, 30, Family::V4),
            ],
        };
        let found = uplinks(&inventory, &InterfaceName::default());
        let names: Vec<_> = found.iter().map(|uplink| uplink.device.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1", "wwan0"]);
        assert!(found[0].has(Family::V4) && found[0].has(Family::V6));
        assert!(found[1].has(Family::V4) && !found[1].has(Family::V6));
        assert_eq!(found[2].obstacle, Some(Obstacle::NoCarrier));
    }

    #[test]
    fn an_address_without_a_default_route_of_its_version_does_not_count() {
        let inventory = Inventory {
            links: [link(2, "eth0", true, &["2001:db8::2/64"])].into(),
            default_routes: vec![route(2, 0, Family::V4)],
        };
        let found = uplinks(&inventory, &InterfaceName::default());
        assert_eq!(found[0].obstacle, Some(Obstacle::NoAddress));
    }
}
