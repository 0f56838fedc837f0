//! Addresses that are not the Internet: what a server's clients do not reach unless that is allowed, and what they never
//! reach. Touches nothing.

use std::net::IpAddr;

use crate::config::Network;

/// Private networks, and others that no public way leads to (IANA's registries of special-purpose addresses).
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    // Between providers and their customers, and inside some clouds.
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "fc00::/7",
];

/// This machine, its links, multicast, and the addresses at which clouds tell their machines secrets.
const NEVER: &[&str] = &[
    "0.0.0.0/8",
    "127.0.0.0/8",
    // Link-local: the metadata services of nearly all clouds.
    "169.254.0.0/16",
    // Those of Alibaba, Oracle and Azure.
    "100.100.100.200/32",
    "192.0.0.0/24",
    "168.63.129.16/32",
    "224.0.0.0/3",
    "::/96",
    "::ffff:0:0/96",
    // Those of Amazon and Google.
    "fd00:ec2::/32",
    "fd20:ce::/32",
    "fe80::/10",
    "ff00::/8",
];

fn parsed(table: &'static [&'static str]) -> impl Iterator<Item = Network> {
    // The tables are right: a test reads them.
    table
        .iter()
        .filter_map(|text| Network::try_from((*text).to_owned()).ok())
}

/// Networks that clients reach only if that is allowed.
pub fn private() -> impl Iterator<Item = Network> {
    parsed(PRIVATE)
}

/// Networks that clients never reach.
pub fn never() -> impl Iterator<Item = Network> {
    parsed(NEVER)
}

/// Whether the whole Internet can send to this address.
pub fn is_public(address: IpAddr) -> bool {
    !private().chain(never()).any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_can_be_read() {
        assert_eq!(private().count(), PRIVATE.len());
        assert_eq!(never().count(), NEVER.len());
    }

    #[test]
    fn public_is_what_everybody_can_send_to() {
        let public = |address: &str| is_public(address.parse().unwrap());
        for address in ["203.0.113.5", "8.8.8.8", "172.32.0.1", "2001:db8::5"] {
            assert!(public(address), "{address}");
        }
        for address in [
            "10.0.0.5",
            "172.31.255.1",
            "100.100.100.200",
            "169.254.169.254",
            "255.255.255.255",
            "fd00:ec2::254",
            "fe80::1",
            "::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!public(address), "{address}");
        }
    }
}
