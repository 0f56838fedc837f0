//! Changes: addresses, routes, rules and links, each set and removed so that doing it twice is no error.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use super::Family;
use super::codec::{
    FR_ACT_TO_TABLE, FRA_FWMARK, FRA_PRIORITY, FRA_PROTOCOL, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, IFA_ADDRESS,
    IFA_F_NODAD, IFA_F_NOPREFIXROUTE, IFA_FLAGS, IFA_LOCAL, IFLA_MTU, IFLA_TXQLEN, NDA_DST, NLM_F_CREATE,
    NLM_F_EXCL, NLM_F_REPLACE, NTF_PROXY, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTA_DST, RTA_OIF, RTA_PRIORITY,
    RTA_TABLE, RTM_DELADDR, RTM_DELNEIGH, RTM_DELROUTE, RTM_DELRULE, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK,
    RTM_NEWNEIGH, RTM_NEWROUTE, RTM_NEWRULE, RTN_UNICAST, RTN_UNREACHABLE, Request, number,
};
use super::socket::{Netlink, until_consistent};
use crate::config::Network;

/// Marks routes and rules as ours (`ip route show proto 73`).
const PROTOCOL: u8 = 73;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface, by the kernel's number.
    pub link: u32,
    /// The address with its prefix.
    pub network: Network,
}

/// What becomes of packets that a route matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// They leave by this link.
    Link(u32),
    /// They are refused.
    Unreachable,
}

/// A route in a table of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// IP version.
    pub family: Family,
    /// Destination; `None`: all.
    pub destination: Option<Network>,
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// Number of the table.
    pub table: u32,
    /// Lower is preferred.
    pub metric: u32,
}

/// A rule that says which table is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// IP version.
    pub family: Family,
    /// Lower is asked first.
    pub priority: u32,
    /// Only for packets with this mark.
    pub mark: Option<u32>,
    /// The table's default routes do not count.
    pub without_default: bool,
    /// The table that is asked.
    pub table: u32,
}

impl Netlink {
    /// Brings a link up with this MTU (bytes) and queue length (packets).
    pub fn bring_up(&mut self, link: u32, mtu: u16, queue_length: u32) -> io::Result<()> {
        self.change(RTM_NEWLINK, 0, |kind, flags| {
            let up = libc::IFF_UP as u32;
            let mut fixed = [0; 16];
            fixed[4..8].copy_from_slice(&link.to_ne_bytes());
            fixed[8..12].copy_from_slice(&up.to_ne_bytes());
            fixed[12..16].copy_from_slice(&up.to_ne_bytes());
            Request::new(kind, flags, &fixed)
                .with_number(IFLA_MTU, mtu.into())
                .with_number(IFLA_TXQLEN, queue_length)
        })
    }

    /// Gives a link an address.
    pub fn add_address(&mut self, address: Address) -> io::Result<()> {
        let outcome = self.change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, |kind, flags| {
            // Nobody else is on the link: an address in use cannot be found there.
            address_request(address, kind, flags)
                .with_number(IFA_FLAGS, IFA_F_NODAD | no_prefix_route(address))
        });
        forgive(outcome, &[libc::EEXIST])
    }

    /// Takes an address from a link.
    pub fn remove_address(&mut self, address: Address) -> io::Result<()> {
        let outcome = self.change(RTM_DELADDR, 0, |kind, flags| {
            address_request(address, kind, flags)
        });
        forgive(outcome, &[libc::EADDRNOTAVAIL, libc::ENODEV])
    }

    /// Has this machine answer neighbours on a link that ask for an address which is behind it.
    pub fn add_neighbour_proxy(&mut self, link: u32, address: Ipv6Addr) -> io::Result<()> {
        self.change(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, |kind, flags| {
            neighbour_request(link, address, kind, flags)
        })
    }

    /// Ends that.
    pub fn remove_neighbour_proxy(&mut self, link: u32, address: Ipv6Addr) -> io::Result<()> {
        let outcome = self.change(RTM_DELNEIGH, 0, |kind, flags| {
            neighbour_request(link, address, kind, flags)
        });
        forgive(outcome, &[libc::ENOENT, libc::ESRCH, libc::ENODEV])
    }

    /// Sets a route.
    pub fn add_route(&mut self, route: Route) -> io::Result<()> {
        self.change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, |kind, flags| {
            route_request(route, kind, flags)
        })
    }

    /// Removes a route.
    pub fn remove_route(&mut self, route: Route) -> io::Result<()> {
        let outcome = self.change(RTM_DELROUTE, 0, |kind, flags| route_request(route, kind, flags));
        forgive(outcome, &[libc::ESRCH, libc::ENOENT, libc::ENODEV])
    }

    /// The default routes of a table.
    pub fn default_routes_of(&mut self, family: Family, table: u32) -> io::Result<Vec<RouteKind>> {
        let fixed = [family.number(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        until_consistent(|| {
            let mut found = Vec::new();
            self.dump(RTM_GETROUTE, &fixed, |reply| {
                let is_default = reply.body.get(1) == Some(&0);
                if !is_default || number_of(reply.attributes(fixed.len()), RTA_TABLE) != Some(table) {
                    return;
                }
                match reply.body.get(7) {
                    Some(&RTN_UNREACHABLE) => found.push(RouteKind::Unreachable),
                    Some(&RTN_UNICAST) => {
                        found.extend(number_of(reply.attributes(fixed.len()), RTA_OIF).map(RouteKind::Link));
                    }
                    _ => {}
                }
            })?;
            Ok(found)
        })
    }

    /// Sets a rule.
    pub fn add_rule(&mut self, rule: Rule) -> io::Result<()> {
        let outcome = self.change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, |kind, flags| {
            rule_request(rule, kind, flags)
        });
        forgive(outcome, &[libc::EEXIST])
    }

    /// Removes a rule, as often as it is there.
    pub fn remove_rule(&mut self, rule: Rule) -> io::Result<()> {
        loop {
            match self.change(RTM_DELRULE, 0, |kind, flags| rule_request(rule, kind, flags)) {
                Ok(()) => {}
                outcome => return forgive(outcome, &[libc::ENOENT, libc::ESRCH]),
            }
        }
    }
}

fn number_of<'a>(mut attributes: impl Iterator<Item = (u16, &'a [u8])>, wanted: u16) -> Option<u32> {
    let (_, value) = attributes.find(|(kind, _)| *kind == wanted)?;
    number(value, 0)
}

fn forgive(outcome: io::Result<()>, errors: &[i32]) -> io::Result<()> {
    match outcome {
        Err(error) if error.raw_os_error().is_some_and(|code| errors.contains(&code)) => Ok(()),
        outcome => outcome,
    }
}

/// A host's address needs no route to its network.
fn no_prefix_route(address: Address) -> u32 {
    if address.network == Network::host(address.network.address) {
        IFA_F_NOPREFIXROUTE
    } else {
        0
    }
}

fn address_request(address: Address, kind: u16, flags: u16) -> Request {
    let Network { address: ip, prefix } = address.network;
    let mut fixed = [Family::of(ip).number(), prefix, 0, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&address.link.to_ne_bytes());
    Request::new(kind, flags, &fixed)
        .with_address(IFA_LOCAL, ip)
        .with_address(IFA_ADDRESS, ip)
}

fn neighbour_request(link: u32, address: Ipv6Addr, kind: u16, flags: u16) -> Request {
    let mut fixed = [Family::V6.number(), 0, 0, 0, 0, 0, 0, 0, 0, 0, NTF_PROXY, 0];
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    Request::new(kind, flags, &fixed).with_address(NDA_DST, address.into())
}

fn route_request(route: Route, kind: u16, flags: u16) -> Request {
    let (route_kind, scope) = match (route.kind, route.family) {
        (RouteKind::Unreachable, _) => (RTN_UNREACHABLE, RT_SCOPE_UNIVERSE),
        (RouteKind::Link(_), Family::V4) => (RTN_UNICAST, RT_SCOPE_LINK),
        (RouteKind::Link(_), Family::V6) => (RTN_UNICAST, RT_SCOPE_UNIVERSE),
    };
    let prefix = route.destination.map_or(0, |network| network.prefix);
    let fixed = [
        route.family.number(),
        prefix,
        0,
        0,
        0,
        PROTOCOL,
        scope,
        route_kind,
        0,
        0,
        0,
        0,
    ];
    let mut request = Request::new(kind, flags, &fixed)
        .with_number(RTA_TABLE, route.table)
        .with_number(RTA_PRIORITY, route.metric);
    if let Some(network) = route.destination {
        request = request.with_address(RTA_DST, masked(network));
    }
    match route.kind {
        RouteKind::Link(link) => request.with_number(RTA_OIF, link),
        RouteKind::Unreachable => request,
    }
}

/// The network's address: host bits are zero, as the kernel wants them.
fn masked(network: Network) -> IpAddr {
    match network.address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(network.prefix))
                .unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

fn rule_request(rule: Rule, kind: u16, flags: u16) -> Request {
    let fixed = [
        rule.family.number(),
        0,
        0,
        0,
        0,
        0,
        0,
        FR_ACT_TO_TABLE,
        0,
        0,
        0,
        0,
    ];
    let mut request = Request::new(kind, flags, &fixed)
        .with_number(FRA_PRIORITY, rule.priority)
        .with_number(FRA_TABLE, rule.table)
        .with(FRA_PROTOCOL, &[PROTOCOL]);
    if let Some(mark) = rule.mark {
        request = request.with_number(FRA_FWMARK, mark);
    }
    if rule.without_default {
        request = request.with_number(FRA_SUPPRESS_PREFIXLEN, 0);
    }
    request
}
