//! On a server: ports that hosts behind clients asked for (UPnP, NAT-PMP, PCP at their router). Each goes to the first
//! client that asks, if nobody else has it.

use std::collections::{BTreeMap, BTreeSet};

use sennit_engine::ids::ClientId;

use crate::config::{Forward, Protocol};
use crate::leases;

/// Who has which port.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    /// What each client asks for.
    wanted: BTreeMap<ClientId, BTreeSet<Forward>>,
    /// In the order in which they were given.
    given: BTreeMap<Forward, ClientId>,
}

/// What a server's own ports and the clients' fixed ones leave free.
pub(super) struct Taken<'a> {
    /// Ports of the tunnel.
    pub(super) own: &'a BTreeSet<u16>,
    /// Ports on which a program of this machine waits.
    pub(super) kept: &'a BTreeSet<(Protocol, u16)>,
    /// Forwards that the configuration or the registry gives, and to whom.
    pub(super) fixed: &'a [(ClientId, Forward)],
}

impl Taken<'_> {
    /// Whether somebody else than this client has the port.
    fn is_taken(&self, client: ClientId, forward: &Forward) -> bool {
        let port = forward.first;
        forward.protocol.meets(Protocol::Udp) && self.own.contains(&port)
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
    /// A client asks for exactly these ports from now on. Returns those that it does not get.
    pub(super) fn ask(
        &mut self,
        client: ClientId,
        wanted: impl IntoIterator<Item = Forward>,
        taken: &Taken<'_>,
    ) -> Vec<Forward> {
        let wanted = wanted.into_iter().filter(|forward| forward.first == forward.last);
        self.wanted.insert(client, wanted.take(leases::MOST).collect());
        self.settle(taken);
        self.refused(client)
    }

    /// A client was locked out. True if it had a port.
    pub(super) fn forget(&mut self, client: ClientId, taken: &Taken<'_>) -> bool {
        self.wanted.remove(&client);
        self.settle(taken)
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

    /// Takes back what is not wanted any more or taken now, and gives what is free. True if that changed anything.
    pub(super) fn settle(&mut self, taken: &Taken<'_>) -> bool {
        let before = self.given.clone();
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
        before != self.given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwards(text: &str) -> Vec<Forward> {
        text.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn a_port_goes_to_the_first_who_asks_unless_somebody_has_it() {
        let (boat, van) = (ClientId(1), ClientId(2));
        let own = BTreeSet::from([7300]);
        let kept = BTreeSet::from([(Protocol::Tcp, 22)]);
        let fixed = [(van, "9000-9010".parse().unwrap())];
        let taken = Taken {
            own: &own,
            kept: &kept,
            fixed: &fixed,
        };
        let mut mappings = Mappings::default();
        let refused = mappings.ask(boat, forwards("tcp/8080 udp/8080 udp/7300 tcp/7300 tcp/22 udp/22 tcp/9005"), &taken);
        assert_eq!(refused, forwards("tcp/22 tcp/9005 udp/7300"));
        assert_eq!(mappings.ask(van, forwards("tcp/8080 tcp/9005"), &taken), forwards("tcp/8080"));
        // The first one does not want it any more: the other one gets it without asking again.
        mappings.ask(boat, forwards("udp/8080"), &taken);
        assert!(mappings.refused(van).is_empty());
        assert_eq!(mappings.of(boat).collect::<Vec<_>>(), forwards("udp/8080"));
        assert!(mappings.forget(van, &taken));
        assert!(mappings.of(van).next().is_none());
    }
}
