//! Which initiations a server computes: as many as it likes from anybody, then only from proved addresses, and of those only
//! some from each. So a flood costs hashes, not multiplications.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use super::cookie::CookieKeeper;
use super::keys::PublicKey;
use crate::time::Instant;

/// Without proof of the address: enough for a household, and for a crowd that comes back after the server's restart.
const UNPROVED: Rate = Rate::new(50, 100);
/// With proof, all together: what costs a twentieth of one slow core.
const PROVED: Rate = Rate::new(200, 200);
/// With proof, from one network: /32 of IPv4, /56 of IPv6.
const ONE_NETWORK: Rate = Rate::new(10, 20);
/// Networks that are counted at once. Past that, new ones must wait.
const NETWORKS: usize = 4096;

/// What to do with an initiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Read it.
    Compute,
    /// Send this back, and forget it.
    Prove(Vec<u8>),
    /// Forget it.
    Drop,
}

/// Stands before a server's [`super::Responder`].
#[derive(Debug)]
pub struct Gate {
    cookies: CookieKeeper,
    unproved: Spent,
    proved: Spent,
    networks: BTreeMap<Network, Spent>,
    swept: Instant,
}

impl Gate {
    /// A gate for the server with this public key.
    pub fn new(server: PublicKey, now: Instant, rng: &mut ChaCha12Rng) -> Self {
        Self {
            cookies: CookieKeeper::new(server, now, rng),
            unproved: Spent::default(),
            proved: Spent::default(),
            networks: BTreeMap::new(),
            swept: now,
        }
    }

    /// Judges an initiation that came from `remote`.
    pub fn admit(
        &mut self,
        datagram: &[u8],
        remote: SocketAddr,
        now: Instant,
        rng: &mut ChaCha12Rng,
    ) -> Admission {
        if !self.cookies.knows_us(datagram) {
            return Admission::Drop;
        }
        if self.cookies.proves_address(datagram, remote, now) {
            let admitted = self.network_may(remote.ip(), now) && self.proved.take(PROVED, now);
            return if admitted {
                Admission::Compute
            } else {
                Admission::Drop
            };
        }
        if self.unproved.take(UNPROVED, now) {
            return Admission::Compute;
        }
        self.cookies
            .cookie_reply(datagram, remote, now, rng)
            .map_or(Admission::Drop, Admission::Prove)
    }

    fn network_may(&mut self, address: IpAddr, now: Instant) -> bool {
        let network = Network::of(address);
        if let Some(spent) = self.networks.get_mut(&network) {
            return spent.take(ONE_NETWORK, now);
        }
        if self.networks.len() >= NETWORKS && now.since(self.swept) >= Duration::from_secs(1) {
            self.networks.retain(|_, spent| spent.0 > now);
            self.swept = now;
        }
        if self.networks.len() >= NETWORKS {
            return false;
        }
        self.networks.entry(network).or_default().take(ONE_NETWORK, now)
    }
}

/// Addresses that one customer of a provider can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    V4([u8; 4]),
    V6([u8; 7]),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }
}

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug)]
struct Rate {
    every: Duration,
    burst: Duration,
}

impl Rate {
    const fn new(a_second: u64, at_once: u64) -> Self {
        let every = 1_000_000_000 / a_second;
        Self {
            every: Duration::from_nanos(every),
            burst: Duration::from_nanos(every * at_once),
        }
    }
}

/// The time until which a rate is spent.
#[derive(Clone, Copy, Debug, Default)]
struct Spent(Instant);

impl Spent {
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let until = self.0.max(now) + rate.every;
        if until.since(now) > rate.burst {
            return false;
        }
        self.0 = until;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_burst_through_and_then_its_rate() {
        let mut spent = Spent::default();
        let rate = Rate::new(50, 100);
        let start = Instant::from_millis(5000);
        let taken = |spent: &mut Spent, now| (0..1000).filter(|_| spent.take(rate, now)).count();
        assert_eq!(taken(&mut spent, start), 100);
        assert_eq!(taken(&mut spent, start + Duration::from_millis(100)), 5);
        assert_eq!(taken(&mut spent, start + Duration::from_secs(1000)), 100);
    }

    #[test]
    fn a_customer_is_one_network_whatever_its_address() {
        let network = |text: &str| Network::of(text.parse().expect("an address"));
        assert_eq!(network("2001:db8:0:1200::1"), network("2001:db8:0:12ff:8000::"));
        assert_ne!(network("2001:db8:0:1200::1"), network("2001:db8:0:1300::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.2"), network("192.0.2.1"));
    }
}
