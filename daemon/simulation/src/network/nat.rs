//! The address translator of a WAN: gives the client an outside address, and sometimes another one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sennit_engine::time::Instant;

/// How a translator behaves.
#[derive(Clone, Debug, Default)]
pub struct NatSettings {
    /// A mapping unused for longer is forgotten; `None`: never.
    pub forgets_after: Option<Duration>,
    /// Times at which it forgets its mapping (a restart, an address change).
    pub rebinds: Vec<Duration>,
    /// A new mapping has another address, not only another port.
    pub changes_address: bool,
}

/// The translator of one WAN.
#[derive(Debug)]
pub struct Nat {
    settings: NatSettings,
    wan: u8,
    /// How many mappings there were.
    generation: u16,
    mapped: bool,
    used: Instant,
    rebinds_done: usize,
}

impl Nat {
    /// The translator of the WAN number `wan`.
    pub fn new(settings: NatSettings, wan: u8) -> Self {
        Self {
            settings,
            wan,
            generation: 0,
            mapped: false,
            used: Instant::ZERO,
            rebinds_done: 0,
        }
    }

    /// A datagram goes out: the source that the server sees.
    pub fn outward(&mut self, now: Instant) -> SocketAddr {
        self.expire(now);
        if !self.mapped {
            self.mapped = true;
            self.generation += 1;
        }
        self.used = now;
        self.outside()
    }

    /// Whether a datagram to `destination` passes inward.
    pub fn inward(&mut self, now: Instant, destination: SocketAddr) -> bool {
        self.expire(now);
        let passes = self.mapped && destination == self.outside();
        if passes {
            self.used = now;
        }
        passes
    }

    fn outside(&self) -> SocketAddr {
        let host = if self.settings.changes_address {
            self.generation as u8
        } else {
            1
        };
        let address = IpAddr::V4(Ipv4Addr::new(198, 51, 100 + self.wan, host));
        SocketAddr::new(address, 20_000 + self.generation)
    }

    fn expire(&mut self, now: Instant) {
        while let Some(rebind) = self.settings.rebinds.get(self.rebinds_done)
            && Instant::ZERO + *rebind <= now
        {
            self.mapped = false;
            self.rebinds_done += 1;
        }
        if (self.settings.forgets_after).is_some_and(|limit| now.since(self.used) > limit) {
            self.mapped = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebound_translator_shows_another_port_and_refuses_the_old_one() {
        let settings = NatSettings {
            rebinds: vec![Duration::from_secs(5)],
            ..NatSettings::default()
        };
        let mut nat = Nat::new(settings, 0);
        let before = nat.outward(Instant::from_millis(1000));
        assert!(nat.inward(Instant::from_millis(4000), before));
        assert!(!nat.inward(Instant::from_millis(6000), before));
        let after = nat.outward(Instant::from_millis(6000));
        assert_ne!(before, after);
        assert!(nat.inward(Instant::from_millis(6001), after));
        assert!(!nat.inward(Instant::from_millis(6001), before));
    }

    #[test]
    fn an_unused_mapping_is_forgotten() {
        let settings = NatSettings {
            forgets_after: Some(Duration::from_secs(30)),
            ..NatSettings::default()
        };
        let mut nat = Nat::new(settings, 0);
        let outside = nat.outward(Instant::ZERO);
        assert!(nat.inward(Instant::from_millis(29_000), outside));
        assert!(nat.inward(Instant::from_millis(58_000), outside));
        assert!(!nat.inward(Instant::from_millis(89_000), outside));
    }
}
