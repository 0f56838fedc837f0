//! How much each client uses, and how fast it may be: counts by calendar month, keeps the counts in the registry, and slows
//! a client down that has used up its quota.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sennit_engine::ids::ClientId;
use sennit_engine::settings::{BytesPerSecond, Limits};
use sennit_engine::{Server as Engine, Usage as Counters};
use serde_json::{Value, json};
use tracing::info;

use crate::Result;
use crate::config::{ClientEntry, ClientLimits, Rate};
use crate::data::Handle;
use crate::join::{ToClient, encode};
use crate::key::PublicKey;
use crate::registry::{Month, Registry, Traffic, Usage};

/// Counts are written this often, if they changed: so much a power loss can cost.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Counts and limits of all clients.
pub(super) struct Meter {
    data: Handle<Engine>,
    clients: BTreeMap<ClientId, Metered>,
    saved_at: Instant,
}

#[derive(Debug)]
struct Metered {
    key: PublicKey,
    usage: Usage,
    /// The engine's counters at the last look.
    seen: Counters,
    unsaved: bool,
    wanted: ClientLimits,
    /// The quota is used up.
    slowed: bool,
    in_force: Limits,
}

impl Metered {
    fn count(&mut self, month: Month, counters: Counters) {
        // Counters begin anew with a client that was locked out and let in again.
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let traffic = Traffic {
            up: since(counters.up, self.seen.up),
            down: since(counters.down, self.seen.down),
        };
        self.seen = counters;
        if traffic != Traffic::default() {
            self.usage.add(month, traffic);
            self.unsaved = true;
        }
    }

    /// What may be used now.
    fn limits(&mut self, month: Month, slow: Rate) -> Limits {
        let used = self.usage.of(month).total();
        self.slowed = self.wanted.quota.is_some_and(|quota| used >= quota);
        let limit = |wanted: Rate| {
            let wanted = wanted.bytes_per_second();
            let slow = slow.bytes_per_second().filter(|_| self.slowed);
            [wanted, slow].into_iter().flatten().min().map(BytesPerSecond)
        };
        Limits {
            up: limit(self.wanted.up),
            down: limit(self.wanted.down),
        }
    }
}

impl Meter {
    pub(super) fn new(data: Handle<Engine>) -> Self {
        Self {
            data,
            clients: BTreeMap::new(),
            saved_at: Instant::now(),
        }
    }

    /// Counts what was used since the last look, and makes limits what they should be. `slow`: what is left to a client
    /// without quota.
    pub(super) async fn look(
        &mut self,
        registry: &Registry,
        clients: impl Iterator<Item = (ClientId, ClientEntry)>,
        slow: Rate,
        month: Month,
    ) -> Result<()> {
        let clients: BTreeMap<ClientId, ClientEntry> = clients.collect();
        let ids: Vec<ClientId> = clients.keys().copied().collect();
        let asked = self.data.ask(move |engine, _| {
            let counters = ids.iter().map(|id| (*id, engine.usage(*id)));
            counters.collect::<BTreeMap<_, _>>()
        });
        let counters = asked.await.unwrap_or_default();
        // What is not saved of one that left is saved with it.
        let gone = |id: &ClientId| !clients.contains_key(id);
        if self.clients.iter().any(|(id, client)| gone(id) && client.unsaved) {
            self.save(registry)?;
        }
        self.clients.retain(|id, _| !gone(id));
        for (id, entry) in clients {
            let client = match self.clients.entry(id) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(Metered {
                    key: entry.keys.public,
                    usage: registry.usage(&entry.keys.public)?,
                    seen: Counters::default(),
                    unsaved: false,
                    wanted: ClientLimits::default(),
                    slowed: false,
                    in_force: Limits::default(),
                }),
            };
            client.count(month, counters.get(&id).copied().unwrap_or_default());
            client.wanted = entry.limits;
            let was_slowed = client.slowed;
            let limits = client.limits(month, slow);
            if client.slowed != was_slowed {
                let name = &entry.name;
                if client.slowed {
                    info!(
                        client = name,
                        "has used up its quota of this month and is slowed down"
                    );
                } else {
                    info!(client = name, "is not slowed down any more");
                }
            }
            if client.in_force != limits {
                client.in_force = limits;
                self.data.engine(move |engine, _| {
                    engine.set_limits(id, limits);
                });
                tell(&self.data, id, limits);
            }
        }
        if self.saved_at.elapsed() >= SAVE_EVERY {
            self.save(registry)?;
        }
        Ok(())
    }

    /// A client is there, and does not know its limit.
    pub(super) fn greet(&self, id: ClientId) {
        if let Some(client) = self.clients.get(&id) {
            tell(&self.data, id, client.in_force);
        }
    }

    /// Keeps the counts.
    pub(super) fn save(&mut self, registry: &Registry) -> Result<()> {
        self.saved_at = Instant::now();
        let changed = || self.clients.values().filter(|client| client.unsaved);
        if changed().next().is_none() {
            return Ok(());
        }
        registry.set_usages(changed().map(|client| (&client.key, &client.usage)))?;
        for client in self.clients.values_mut() {
            client.unsaved = false;
        }
        Ok(())
    }

    /// What `status` says of one client.
    pub(super) fn status(&self, id: ClientId, month: Month) -> Value {
        let Some(client) = self.clients.get(&id) else {
            return Value::Null;
        };
        let used = client.usage.of(month);
        let bits = |rate: Option<BytesPerSecond>| rate.map(|rate| rate.0.saturating_mul(8));
        json!({
            "month": month.to_string(),
            "used_up": used.up,
            "used_down": used.down,
            "quota": client.wanted.quota,
            "slowed": client.slowed,
            "limit_up": bits(client.in_force.up),
            "limit_down": bits(client.in_force.down),
        })
    }
}

/// Tells a client what it may send.
fn tell(data: &Handle<Engine>, id: ClientId, limits: Limits) {
    let message = encode(&ToClient::Limits {
        up: limits.up.map(|rate| rate.0),
    });
    data.engine(move |engine, _| {
        // Whoever is not there is told when it comes.
        let _ = engine.send_control(id, &message);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn who_has_used_up_its_quota_is_slowed_until_the_next_month() {
        let (november, december) = (Month::of(1_763_800_000), Month::of(1_766_000_000));
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        let mut client = Metered {
            key: PrivateKey::generate().unwrap().public(),
            usage: Usage::default(),
            seen: Counters::default(),
            unsaved: false,
            wanted: ClientLimits {
                up: rate("500 kbit/s"),
                down: rate("20 Mbit/s"),
                quota: Some(1000),
            },
            slowed: false,
            in_force: Limits::default(),
        };
        let slow = rate("1 Mbit/s");
        client.count(november, Counters { up: 400, down: 599 });
        assert_eq!(
            client.limits(november, slow).down,
            Some(BytesPerSecond(2_500_000))
        );
        client.count(november, Counters { up: 401, down: 599 });
        let limits = client.limits(november, slow);
        assert_eq!(limits.down, Some(BytesPerSecond(125_000)));
        assert_eq!(limits.up, Some(BytesPerSecond(62_500)), "the lower one counts");
        assert!(client.slowed);
        assert_eq!(
            client.limits(december, slow).down,
            Some(BytesPerSecond(2_500_000))
        );
        // Locked out and let in again.
        client.count(december, Counters { up: 5, down: 0 });
        assert_eq!(client.usage.of(december), Traffic { up: 5, down: 0 });
    }
}
