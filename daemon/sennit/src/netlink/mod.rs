//! Netlink: asks the kernel about links, addresses and routes, changes them, and hears when they change.
//!
//! An own codec for the dozen messages that are needed: netlink-packet-route parses everything that links can be, which
//! costs a router's flash hundreds of kilobytes, and refuses a whole dump for one attribute that it does not understand.

mod change;
mod codec;
mod inventory;
mod socket;

pub use change::{Address, Route, RouteKind, Rule};
pub use inventory::{DefaultRoute, Inventory, Link};
pub use socket::{Netlink, Watch};

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are set up.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn number(self) -> u8 {
        // The numbers are below 256.
        match self {
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::BOTH.into_iter().find(|family| family.number() == number)
    }
}
