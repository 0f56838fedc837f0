//! What there is: links, addresses and default routes, read from the kernel at one moment.

use std::collections::BTreeMap;
use std::io;

use super::Family;
use super::codec::{
    IFA_ADDRESS, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_FLAGS, IFA_LOCAL, IFLA_IFNAME,
    IFLA_MTU, IFLA_OPERSTATE, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_DST, RTA_MULTIPATH, RTA_OIF,
    RTA_PRIORITY, RTA_TABLE, RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
    RTN_UNICAST, RTNH_F_DEAD, Reply, address, number, short,
};
use super::socket::{Netlink, until_consistent};
use crate::config::Network;

const LINK_FIXED: usize = 16;
const ADDRESS_FIXED: usize = 8;
const ROUTE_FIXED: usize = 12;
const OPERSTATE_UNKNOWN: u8 = 0;
const OPERSTATE_UP: u8 = 6;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The loopback interface.
    pub loopback: bool,
    /// Set up by the administrator.
    pub up: bool,
    /// Has a carrier: the cable is in, the radio is associated.
    pub carrier: bool,
    /// The largest packet that it sends, bytes; 0 if the kernel does not say.
    pub mtu: u32,
    /// Addresses that reach further than the link, usable ones only; those that are not deprecated first.
    pub addresses: Vec<Network>,
}

/// A default route of the table `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefaultRoute {
    /// Lower is preferred.
    pub metric: u32,
    /// IP version.
    pub family: Family,
    /// The link that it leaves by.
    pub link: u32,
}

/// Links, their addresses, and the default routes of the table `main`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// By the kernel's number.
    pub links: BTreeMap<u32, Link>,
    /// The preferred one first.
    pub default_routes: Vec<DefaultRoute>,
}

impl Inventory {
    /// Reads all from the kernel.
    pub fn read(netlink: &mut Netlink) -> io::Result<Self> {
        until_consistent(|| {
            let mut inventory = Self::default();
            netlink.dump(RTM_GETLINK, &[0; LINK_FIXED], |reply| {
                inventory.links.extend(link(reply).map(|link| (link.index, link)));
            })?;
            let mut addresses = Vec::new();
            netlink.dump(RTM_GETADDR, &[0; ADDRESS_FIXED], |reply| {
                addresses.extend(usable_address(reply))
            })?;
            // Stable: among equals the kernel's order stays, which is the order of preference.
            addresses.sort_by_key(|(_, deprecated, _)| *deprecated);
            for (index, _, address) in addresses {
                if let Some(link) = inventory.links.get_mut(&index) {
                    link.addresses.push(address);
                }
            }
            netlink.dump(RTM_GETROUTE, &[0; ROUTE_FIXED], |reply| {
                inventory.default_routes.extend(default_routes(reply));
            })?;
            inventory.default_routes.sort();
            Ok(inventory)
        })
    }

    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }
}

fn link(reply: Reply<'_>) -> Option<Link> {
    if reply.kind != RTM_NEWLINK {
        return None;
    }
    let flags = number(reply.body, 8)?;
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    let mut name = None;
    let mut state = OPERSTATE_UNKNOWN;
    let mut mtu = 0;
    for (kind, value) in reply.attributes(LINK_FIXED) {
        match kind {
            IFLA_IFNAME => name = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()),
            IFLA_MTU => mtu = number(value, 0)?,
            IFLA_OPERSTATE => state = *value.first()?,
            _ => {}
        }
    }
    Some(Link {
        index: number(reply.body, 4)?,
        name: name?,
        loopback: has(libc::IFF_LOOPBACK),
        up: has(libc::IFF_UP),
        // Drivers that know no state (ppp, some modems) say "unknown".
        carrier: has(libc::IFF_LOWER_UP) && matches!(state, OPERSTATE_UP | OPERSTATE_UNKNOWN),
        mtu,
        addresses: Vec::new(),
    })
}

/// Link, whether it is deprecated, and the address.
fn usable_address(reply: Reply<'_>) -> Option<(u32, bool, Network)> {
    let &[_family, prefix, flags, scope, ..] = reply.body else {
        return None;
    };
    if reply.kind != RTM_NEWADDR || scope != RT_SCOPE_UNIVERSE {
        return None;
    }
    let mut flags = u32::from(flags);
    let mut found = None;
    for (kind, value) in reply.attributes(ADDRESS_FIXED) {
        match kind {
            // On a link with two ends IFA_ADDRESS is the other one's.
            IFA_LOCAL => found = address(value),
            IFA_ADDRESS if found.is_none() => found = address(value),
            IFA_FLAGS => flags = number(value, 0)?,
            _ => {}
        }
    }
    if flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0 {
        return None;
    }
    let network = Network {
        address: found?,
        prefix,
    };
    Some((number(reply.body, 4)?, flags & IFA_F_DEPRECATED != 0, network))
}

fn default_routes(reply: Reply<'_>) -> Vec<DefaultRoute> {
    let mut routes = Vec::new();
    let &[family, prefix, _, _, table, _, _, kind, ..] = reply.body else {
        return routes;
    };
    let Some(family) = Family::from_number(family) else {
        return routes;
    };
    if reply.kind != RTM_NEWROUTE || prefix != 0 || kind != RTN_UNICAST {
        return routes;
    }
    // A route without carrier counts: its link says that, and is the same WAN when the carrier is back.
    let dead = |flags: u32| flags & RTNH_F_DEAD != 0;
    let mut table = u32::from(table);
    let mut metric = 0;
    let mut links = Vec::new();
    for (kind, value) in reply.attributes(ROUTE_FIXED) {
        match kind {
            RTA_DST => return routes,
            RTA_TABLE => table = number(value, 0).unwrap_or(table),
            RTA_PRIORITY => metric = number(value, 0).unwrap_or(0),
            RTA_OIF if !number(reply.body, 8).is_some_and(dead) => links.extend(number(value, 0)),
            RTA_MULTIPATH => links.extend(next_hops(value)),
            _ => {}
        }
    }
    if table == RT_TABLE_MAIN {
        routes.extend(
            links
                .into_iter()
                .map(|link| DefaultRoute { metric, family, link }),
        );
    }
    routes
}

/// The links of a route with several next hops: `struct rtnexthop`, each with attributes of its own.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut links = Vec::new();
    while let (Some(length), Some(flags), Some(link)) = (short(bytes, 0), bytes.get(2), number(bytes, 4)) {
        if u32::from(*flags) & RTNH_F_DEAD == 0 {
            links.push(link);
        }
        let length = usize::from(length).next_multiple_of(4);
        if length < 8 {
            break;
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    links
}
