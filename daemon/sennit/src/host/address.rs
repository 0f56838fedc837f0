//! By which addresses the Internet reaches this machine.

use std::net::IpAddr;

use crate::config::InterfaceName;
use crate::netlink::Inventory;
use crate::system::special;
use crate::wan::uplinks;
use crate::{Error, Result};

/// What the interfaces with a default route have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicAddresses {
    /// The interfaces, the preferred one first.
    pub interfaces: Vec<String>,
    /// Addresses that everybody can send to: at most one of each IP version, IPv4 first.
    pub public: Vec<IpAddr>,
    /// Addresses behind somebody's NAT.
    pub private: Vec<IpAddr>,
}

impl PublicAddresses {
    /// Looks at the interfaces with a default route, the tunnel's own excepted.
    pub fn find(inventory: &Inventory, tunnel: &InterfaceName) -> Result<Self> {
        let uplinks = uplinks(inventory, tunnel);
        let links = uplinks
            .iter()
            .filter_map(|uplink| inventory.links.get(&uplink.index));
        let mut found = Self::default();
        for link in links {
            found.interfaces.push(link.name.clone());
            for network in &link.addresses {
                let address = network.address;
                if !special::is_public(address) {
                    found.private.push(address);
                } else if !found
                    .public
                    .iter()
                    .any(|known| known.is_ipv4() == address.is_ipv4())
                {
                    found.public.push(address);
                }
            }
        }
        found.public.sort();
        if found.interfaces.is_empty() {
            return Err(Error::environment(
                "this machine has no default route: it does not reach the Internet",
                "connect it first; `ip route show default` must show a route",
            ));
        }
        Ok(found)
    }

    /// What clients must know, or what is to be done about it.
    pub fn or_advice(&self) -> Result<&[IpAddr]> {
        if !self.public.is_empty() {
            return Ok(&self.public);
        }
        let interfaces = self.interfaces.join(", ");
        Err(match self.private.first() {
            Some(private) => Error::user(
                format!(
                    "{interfaces} has only the private address {private}: clouds that do this keep the public one \
                     outside the machine"
                ),
                "name the public address that the cloud shows for this machine: sennit server init --address ADDRESS",
            ),
            None => Error::environment(
                format!("{interfaces} has a default route, but no address"),
                "see `ip address`; or name the public address: sennit server init --address ADDRESS",
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;
    use crate::netlink::{DefaultRoute, Family, Link};

    fn machine(addresses: &[&str], route: bool) -> Inventory {
        let addresses = addresses
            .iter()
            .map(|text| Network::try_from((*text).to_owned()).unwrap())
            .collect();
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            loopback: false,
            up: true,
            carrier: true,
            mtu: 1500,
            addresses,
        };
        let default_route = DefaultRoute {
            metric: 0,
            family: Family::V4,
            link: 2,
        };
        Inventory {
            links: [(2, link)].into(),
            default_routes: route.then_some(default_route).into_iter().collect(),
        }
    }

    #[test]
    fn one_public_address_of_each_version_is_taken_beside_private_ones() {
        let addresses = [
            "10.16.0.5/16",
            "203.0.113.5/20",
            "203.0.113.6/20",
            "2001:db8::5/64",
            "2001:db8::6/64",
        ];
        let found = PublicAddresses::find(&machine(&addresses, true), &InterfaceName::default()).unwrap();
        let wanted: Vec<IpAddr> = ["203.0.113.5", "2001:db8::5"].map(|a| a.parse().unwrap()).into();
        assert_eq!(found.or_advice().unwrap(), wanted);
        assert_eq!(found.interfaces, ["eth0"]);
    }

    #[test]
    fn a_clouds_nat_and_a_missing_route_are_explained() {
        let name = InterfaceName::default();
        let found = PublicAddresses::find(&machine(&["172.31.4.9/20"], true), &name).unwrap();
        let error = found.or_advice().unwrap_err();
        assert!(error.to_string().contains("172.31.4.9"), "{error}");
        assert!(error.hint().contains("--address"), "{}", error.hint());
        let error = PublicAddresses::find(&machine(&["203.0.113.5/24"], false), &name).unwrap_err();
        assert!(error.to_string().contains("no default route"), "{error}");
    }
}
