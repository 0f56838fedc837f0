//! Inner addresses for new clients: the lowest that nobody has, in each of the server's networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Network;

/// Addresses that are looked at in one network: more than any server has clients.
const MOST: u32 = 1 << 16;

/// One free address of each network, or nothing if the first network is full. Where it is free the same host number in all:
/// 10.73.0.7 and fd73::7 are easier to remember.
pub fn free_addresses(networks: &[Network], is_taken: impl Fn(IpAddr) -> bool) -> Option<Vec<IpAddr>> {
    let first = networks.first()?;
    let free = |network: &Network, host: u32| {
        address(network, host).filter(|address| *address != network.address && !is_taken(*address))
    };
    let in_all = (2..MOST).find(|host| networks.iter().all(|network| free(network, *host).is_some()));
    if let Some(host) = in_all {
        return Some(
            networks
                .iter()
                .filter_map(|network| free(network, host))
                .collect(),
        );
    }
    // A network that is too small for everybody is done without, but not the first.
    let host = (2..MOST).find(|host| free(first, *host).is_some())?;
    Some(
        networks
            .iter()
            .filter_map(|network| free(network, host))
            .collect(),
    )
}

/// The `host`th address of a network, if it has one that a host can have.
fn address(network: &Network, host: u32) -> Option<IpAddr> {
    match network.address {
        IpAddr::V4(base) => {
            let size = 1u64 << (32 - u32::from(network.prefix));
            // The last one is the broadcast address.
            (u64::from(host) + 1 < size).then(|| {
                let base = u64::from(u32::from(base)) / size * size;
                Ipv4Addr::from((base + u64::from(host)) as u32).into()
            })
        }
        IpAddr::V6(base) => {
            let bits = 128 - u32::from(network.prefix);
            let size = 1u128.checked_shl(bits);
            size.is_none_or(|size| u128::from(host) < size).then(|| {
                let mask = size.map_or(u128::MAX, |size| size - 1);
                Ipv6Addr::from(u128::from(base) & !mask | u128::from(host)).into()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        let network = |text: &&str| Network::try_from((*text).to_owned()).unwrap();
        texts.iter().map(network).collect()
    }

    fn free(of: &[&str], taken: &[&str]) -> Option<Vec<String>> {
        let taken: Vec<IpAddr> = taken.iter().map(|text| text.parse().unwrap()).collect();
        let found = free_addresses(&networks(of), |address| taken.contains(&address))?;
        Some(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_lowest_host_number_that_is_free_in_all_networks() {
        let both = ["10.73.0.1/24", "fd73::1/64"];
        assert_eq!(free(&both, &[]).unwrap(), ["10.73.0.2", "fd73::2"]);
        assert_eq!(
            free(&both, &["10.73.0.2", "fd73::3"]).unwrap(),
            ["10.73.0.4", "fd73::4"]
        );
    }

    #[test]
    fn the_servers_own_address_is_nobody_elses() {
        assert_eq!(free(&["10.73.0.2/24"], &[]).unwrap(), ["10.73.0.3"]);
    }

    #[test]
    fn a_full_network_has_none() {
        assert_eq!(free(&["10.0.0.1/30"], &[]).unwrap(), ["10.0.0.2"]);
        assert_eq!(free(&["10.0.0.1/30"], &["10.0.0.2"]), None);
        assert_eq!(free(&["10.0.0.1/32"], &[]), None);
        assert_eq!(free(&[], &[]), None);
        // The second one being full is no obstacle.
        assert_eq!(free(&["10.0.0.1/24", "fd73::1/127"], &[]).unwrap(), ["10.0.0.2"]);
    }
}
