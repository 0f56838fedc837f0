//! On a server: ports that hosts behind clients asked for (UPnP, NAT-PMP, PCP at their router). Each goes to the first
//! client that asks, if nobody else has it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use sennit_engine::ids::ClientId;

use crate::config::{Forward, Protocol};
use crate::leases;

/// Ports that clients may ask for: those of services (SSH, web, mail) are nobody's, even while the service restarts.
const ASKABLE: RangeInclusive<u16> = 1024..=65000;

/// Who has which port.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    /// What each client asks for.
    wanted: BTreeMap<ClientId, BTreeSet<Forward>>,
    /// In the order in which they were given.
    given: BTreeMap<Forward, ClientId>,
}

/// What a server's own ports and the clients' fixed ones leave free.
pub(super) struct Taken {
    /// Ports of the tunnel.
    pub(super) own: BTreeSet<u16>,
    /// Ports on which a program of this machine waits.
    pub(super) kept: BTreeSet<(Protocol, u16)>,
    /// Forwards that the configuration or the registry gives, and to whom.
    pub(super) fixed: Vec<(ClientId, Forward)>,
}

impl Taken {
    /// Whether somebody else than this client has the port.
    fn is_taken(&self, client: ClientId, forward: &Forward) -> bool {
        let port = forward.first;
        !ASKABLE.contains(&port)
            || forward.protocol.meets(Protocol::Udp) && self.own.contains(&port)
            || self
                .kept
                .iter()
                .any(|(protocol, kept)| *kept == port && protocol.meets(forward.protocol))
            || self
                .fixed
                .iter()
                .any(|(of, fixed)| *of != client && fixed.meets(forward))
    }
}

impl Mappings {
    /// A client asks for exactly these ports from now on; [`Self::settle`] decides.
    pub(super) fn ask(&mut self, client: ClientId, wanted: Vec<Forward>) {
        let wanted = wanted.into_iter().filter(|forward| forward.first == forward.last);
        self.wanted.insert(client, wanted.take(leases::MOST).collect());
    }

    /// A client was locked out.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.wanted.remove(&client);
    }

    /// What a client has.
    pub(super) fn of(&self, client: ClientId) -> impl Iterator<Item = Forward> + '_ {
        let own = move |(forward, of): (&Forward, &ClientId)| (*of == client).then_some(*forward);
        self.given.iter().filter_map(own)
    }

    /// What a client asks for and does not have.
    pub(super) fn refused(&self, client: ClientId) -> Vec<Forward> {
        let wanted = self.wanted.get(&client).into_iter().flatten();
        wanted
            .filter(|forward| self.given.get(forward) != Some(&client))
            .copied()
            .collect()
    }

    /// Takes back what is not wanted any more or taken now, and gives what is free.
    pub(super) fn settle(&mut self, taken: &Taken) {
        let wanted = &self.wanted;
        self.given.retain(|forward, client| {
            let still = wanted.get(client).is_some_and(|wanted| wanted.contains(forward));
            still && !taken.is_taken(*client, forward)
        });
        for (client, wanted) in &self.wanted {
            for forward in wanted {
                let free = !self.given.keys().any(|given| given.meets(forward));
                if free && !taken.is_taken(*client, forward) {
                    self.given.insert(*forward, *client);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwards(text: &str) -> Vec<Forward> {
        text.split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    }

    #[test]
    fn a_port_goes_to_the_first_who_asks_unless_somebody_has_it() {
        let (boat, van) = (ClientId(1), ClientId(2));
        let taken = Taken {
            own: BTreeSet::from([7300]),
            kept: BTreeSet::from([(Protocol::Tcp, 2222)]),
            fixed: vec![(van, "9000-9010".parse().unwrap())],
        };
        let mut mappings = Mappings::default();
        let mut ask = |client, text| {
            mappings.ask(client, forwards(text));
            mappings.settle(&taken);
            mappings.refused(client)
        };
        let refused = ask(
            boat,
            "tcp/8080 udp/8080 udp/7300 tcp/7300 tcp/2222 udp/2222 tcp/9005 tcp/22",
        );
        assert_eq!(refused, forwards("tcp/22 tcp/2222 tcp/9005 udp/7300"));
        assert_eq!(ask(van, "tcp/8080 tcp/9005"), forwards("tcp/8080"));
        // The first one does not want it any more: the other one gets it without asking again.
        ask(boat, "udp/8080");
        assert!(mappings.refused(van).is_empty());
        assert_eq!(mappings.of(boat).collect::<Vec<_>>(), forwards("udp/8080"));
        mappings.forget(van);
        mappings.settle(&taken);
        assert!(mappings.of(van).next().is_none());
    }
}
