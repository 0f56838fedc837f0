//! Sends this machine's traffic into the tunnel: a routing table of its own and three rules for each IP version.
//!
//! 1. The tunnel's own datagrams (by their mark) ask the table `main`, and leave by the WAN that their socket is bound to.
//! 2. Everything else asks `main` too, but only for routes that are no default routes: the LAN stays reachable.
//! 3. The rest asks our table: a default route into the tunnel, and `unreachable` behind it. If the interface is gone or
//!    down, packets are refused instead of leaving by a WAN.

use std::io;

use crate::netlink::{Family, Netlink, Route, RouteKind, Rule};
use crate::udp::MARK;
use crate::{Error, Result};

/// Number of the routing table.
pub const TABLE: u32 = 7373;
/// Priority of the first rule; the others follow.
pub const RULE_PRIORITY: u32 = 7300;

const MAIN: u32 = 254;
const TUNNEL_METRIC: u32 = 100;
/// The last that the kernel takes before its own.
const UNREACHABLE_METRIC: u32 = 4_000_000;

/// Sets and removes the table and the rules.
#[derive(Debug)]
pub struct Routing {
    netlink: Netlink,
}

impl Routing {
    /// Works in the network namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let netlink = Netlink::open().map_err(|error| failed("open netlink", &error))?;
        Ok(Self { netlink })
    }

    /// Sends everything into the tunnel interface with this number. Setting it twice changes nothing.
    ///
    /// Without an inner IPv6 address (`ipv6` is false) IPv6 is refused at once, so that programs take IPv4. IPv4 always
    /// has its route: the kernel's check of return paths refuses what comes from a source that is unreachable, the
    /// server's answers among it.
    pub fn set(&mut self, tunnel: u32, ipv6: bool) -> Result<()> {
        for family in Family::BOTH {
            let outcome = self.set_family(family, tunnel, family == Family::V4 || ipv6);
            match outcome {
                // A kernel without IPv6 has no routes that could leak.
                Err(error) if family == Family::V6 && is_unsupported(&error) => {}
                outcome => outcome.map_err(|error| failed("set the routes into the tunnel", &error))?,
            }
        }
        Ok(())
    }

    /// Removes the table and the rules.
    pub fn remove(&mut self) -> Result<()> {
        for family in Family::BOTH {
            match self.remove_family(family) {
                Err(error) if family == Family::V6 && is_unsupported(&error) => {}
                outcome => outcome.map_err(|error| failed("remove the routes into the tunnel", &error))?,
            }
        }
        Ok(())
    }

    fn set_family(&mut self, family: Family, tunnel: u32, usable: bool) -> io::Result<()> {
        // Each change of a route is told to all listeners, us among them: what is right already is not set again.
        let present = self.netlink.default_routes_of(family, TABLE)?;
        // The way out before the way in: the rules come last, when there is somewhere to go.
        if !present.contains(&RouteKind::Unreachable) {
            self.netlink.add_route(unreachable(family))?;
        }
        let inside = present.contains(&RouteKind::Link(tunnel));
        if usable && !inside {
            self.netlink.add_route(into_tunnel(family, tunnel))?;
        } else if !usable && inside {
            self.netlink.remove_route(into_tunnel(family, tunnel))?;
        }
        for rule in rules(family) {
            self.netlink.add_rule(rule)?;
        }
        Ok(())
    }

    fn remove_family(&mut self, family: Family) -> io::Result<()> {
        for rule in rules(family).into_iter().rev() {
            self.netlink.remove_rule(rule)?;
        }
        for kind in self.netlink.default_routes_of(family, TABLE)? {
            match kind {
                RouteKind::Link(link) => self.netlink.remove_route(into_tunnel(family, link))?,
                RouteKind::Unreachable => self.netlink.remove_route(unreachable(family))?,
            }
        }
        Ok(())
    }
}

fn rules(family: Family) -> [Rule; 3] {
    let rule = |offset, mark, without_default, table| Rule {
        family,
        priority: RULE_PRIORITY + offset,
        mark,
        without_default,
        table,
    };
    [
        rule(0, Some(MARK), false, MAIN),
        rule(1, None, true, MAIN),
        rule(2, None, false, TABLE),
    ]
}

fn into_tunnel(family: Family, tunnel: u32) -> Route {
    Route {
        family,
        destination: None,
        kind: RouteKind::Link(tunnel),
        table: TABLE,
        metric: TUNNEL_METRIC,
    }
}

fn unreachable(family: Family) -> Route {
    Route {
        family,
        destination: None,
        kind: RouteKind::Unreachable,
        table: TABLE,
        metric: UNREACHABLE_METRIC,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES)
    )
}

fn failed(what: &str, error: &io::Error) -> Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => "run sennit as root, or give it CAP_NET_ADMIN",
        Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
            "the kernel lacks policy routing (CONFIG_IP_MULTIPLE_TABLES); set route = \"none\" to do without"
        }
        _ => "set route = \"none\" to leave the routes as they are",
    };
    Error::environment(format!("failed to {what}: {error}"), hint)
}
