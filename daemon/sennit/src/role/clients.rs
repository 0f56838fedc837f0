//! A server's clients: those of the configuration and those of the registry, and the guests that hold a join code. Tells
//! the engine who may connect, and does what guests ask for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sennit_engine::Server as Engine;
use sennit_engine::handshake;
use sennit_engine::ids::ClientId;
use tracing::{info, warn};

use crate::Result;
use crate::config::{ClientEntry, ClientLimits, Network, PeerKeys, ServerConfig};
use crate::data::Handle;
use crate::join::{FirstContact, ToClient, ToServer, encode};
use crate::key::PublicKey;
use crate::registry::{self, Client, Refusal, Registry, free_addresses};
use crate::system::Guest;

/// A guest that was answered has this long to hear it; then its session is forgotten.
const FAREWELL: Duration = Duration::from_secs(10);

/// And is answered no more often than this in that time: somebody may have lost the answer, or be out to keep us busy.
const MOST_ANSWERS: usize = 8;

/// Who may connect.
pub(super) struct Clients {
    registry: Registry,
    data: Handle<Engine>,
    /// Clients by their names, with the number that the engine knows them by.
    known: BTreeMap<String, (ClientId, ClientEntry)>,
    /// Holders of join codes, with the key that the code stands for.
    guests: BTreeMap<ClientId, PublicKey>,
    /// Guests that were answered, and when.
    answered: Vec<(ClientId, Instant)>,
    first_contact: Option<FirstContact>,
    next: u32,
}

impl Clients {
    pub(super) fn open(config: &ServerConfig, data: Handle<Engine>) -> Result<Self> {
        let registry = Registry::open(&config.common.state_dir)?;
        let first_contact = FirstContact::open(&registry, registry::now())?;
        if let Some(contact) = &first_contact {
            info!("waiting for the client that this server was made for");
            let key = handshake::PrivateKey::from_bytes(contact.key.as_bytes());
            data.engine(move |engine, now| engine.set_private_key(now, key));
        }
        Ok(Self {
            registry,
            data,
            known: BTreeMap::new(),
            guests: BTreeMap::new(),
            answered: Vec::new(),
            first_contact,
            next: 0,
        })
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Clients by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, ClientId, &ClientEntry)> {
        self.known
            .iter()
            .map(|(name, (id, entry))| (name.as_str(), *id, entry))
    }

    /// Clients as the firewall knows them.
    pub(super) fn guests(&self) -> Vec<Guest> {
        let guest = |(_, entry): &(ClientId, ClientEntry)| Guest {
            addresses: entry.address.clone(),
            allow: entry.allow.clone(),
            forwards: entry.forward.clone(),
        };
        self.known.values().map(guest).collect()
    }

    pub(super) fn name(&self, client: ClientId) -> String {
        let found = self.known.iter().find(|(_, (id, _))| *id == client);
        match found {
            Some((name, _)) => name.clone(),
            None => "(guest)".to_owned(),
        }
    }

    /// Tells the engine who may connect. Sessions of clients that stay are not disturbed; returns the clients that went.
    pub(super) fn admit(&mut self, config: &ServerConfig) -> Result<Vec<ClientId>> {
        let entries = self.entries(config)?;
        let mut gone = Vec::new();
        self.known.retain(|name, (id, known)| {
            // A name that now stands for another key is another client.
            let stays = entries
                .iter()
                .any(|entry| entry.name == *name && entry.keys.public == known.keys.public);
            if !stays {
                gone.push((*id, name.clone()));
            }
            stays
        });
        for (id, name) in &gone {
            info!(client = name, "locked out");
            self.remove(*id);
        }
        for entry in entries {
            if self
                .known
                .get(&entry.name)
                .is_some_and(|(_, known)| *known == entry)
            {
                continue;
            }
            let id = match self.known.get(&entry.name) {
                Some((id, _)) => *id,
                None => self.next_id(),
            };
            let engine_entry = engine_entry(&entry, &config.address);
            self.data
                .engine(move |engine, _| engine.set_client(id, engine_entry));
            self.known.insert(entry.name.clone(), (id, entry));
        }
        self.admit_guests()?;
        Ok(gone.into_iter().map(|(id, _)| id).collect())
    }

    /// Those of the configuration go first: a name, key or address of theirs is nobody else's.
    fn entries(&self, config: &ServerConfig) -> Result<Vec<ClientEntry>> {
        let mut entries = config.clients.clone();
        for client in self.registry.clients()? {
            let clash = entries.iter().any(|entry| {
                entry.name == client.name
                    || entry.keys.public == client.public_key
                    || entry
                        .address
                        .iter()
                        .any(|address| client.addresses.contains(address))
            });
            if clash {
                warn!(
                    client = client.name,
                    "another client has its name, key or address: it may not connect"
                );
            } else {
                entries.push(entry(client));
            }
        }
        Ok(entries)
    }

    /// Holders of codes may connect, those of used and expired ones too: to be told why they may not join. They have no
    /// inner address, so that nothing of theirs leaves the tunnel.
    fn admit_guests(&mut self) -> Result<()> {
        let keys: Vec<PublicKey> = self
            .registry
            .invites()?
            .iter()
            .map(|invite| invite.public_key)
            .collect();
        let gone: Vec<ClientId> = self
            .guests
            .iter()
            .filter(|(_, key)| !keys.contains(key))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.guests.remove(&id);
            self.remove(id);
        }
        for key in keys {
            if !self.guests.values().any(|known| *known == key) {
                let id = self.next_id();
                self.guests.insert(id, key);
                self.set_guest(id, &key);
            }
        }
        Ok(())
    }

    fn set_guest(&self, id: ClientId, key: &PublicKey) {
        let entry = sennit_engine::ClientEntry {
            public_key: handshake::PublicKey(*key.as_bytes()),
            preshared_key: None,
            addresses: Vec::new(),
        };
        self.data.engine(move |engine, _| engine.set_client(id, entry));
    }

    fn remove(&self, id: ClientId) {
        self.data.engine(move |engine, _| engine.remove_client(id));
    }

    fn next_id(&mut self) -> ClientId {
        let id = ClientId(self.next);
        self.next += 1;
        id
    }

    /// A client connected. Returns whether it is one, and no guest.
    pub(super) fn connected(&self, id: ClientId, config: &ServerConfig) -> Result<bool> {
        if self.contact_of(id).is_some() {
            let public_key = config.key.load()?.public();
            self.say(id, ToClient::Identity { public_key });
        }
        Ok(!self.guests.contains_key(&id))
    }

    /// Somebody said something. Returns whether there is a new client.
    pub(super) fn hear(&mut self, id: ClientId, message: &[u8], config: &ServerConfig) -> Result<bool> {
        match serde_json::from_slice(message).unwrap_or(ToServer::Unknown) {
            ToServer::Register { public_key, name } => {
                let Some(invite) = self.guests.get(&id).copied() else {
                    return Ok(false);
                };
                if self.answered.iter().filter(|(guest, _)| *guest == id).count() >= MOST_ANSWERS {
                    return Ok(false);
                }
                let answer = self.register(&invite, &public_key, name.as_deref(), config);
                let joined = matches!(answer, ToClient::Registered { .. });
                if joined {
                    self.admit(config)?;
                }
                self.say(id, answer);
                self.answered.push((id, Instant::now()));
                Ok(joined)
            }
            ToServer::Pinned {} => {
                if let Some((name, entry)) = self.contact_of(id) {
                    let answer = ToClient::Registered {
                        name: name.to_owned(),
                        addresses: entry.address.clone(),
                    };
                    info!(client = name, "first contact: the code counts no more");
                    self.end_first_contact(config)?;
                    self.say(id, answer);
                }
                Ok(false)
            }
            // Of ports somebody else takes care.
            ToServer::Ports { .. } | ToServer::Unknown => Ok(false),
        }
    }

    /// What is due with time: guests that were answered go, a first contact that nobody made ends.
    pub(super) fn tick(&mut self, config: &ServerConfig) -> Result<()> {
        let (gone, waiting) = std::mem::take(&mut self.answered)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, at)| at.elapsed() >= FAREWELL);
        self.answered = waiting;
        for (id, _) in gone {
            if let Some(key) = self.guests.get(&id) {
                self.remove(id);
                self.set_guest(id, key);
            }
        }
        let now = registry::now();
        if self
            .first_contact
            .as_ref()
            .is_some_and(|contact| contact.has_expired(now))
        {
            warn!(
                "nobody came in time: the code of the first contact counts no more (sennit invite makes one)"
            );
            self.end_first_contact(config)?;
        }
        Ok(())
    }

    fn register(
        &self,
        invite: &PublicKey,
        key: &PublicKey,
        name: Option<&str>,
        config: &ServerConfig,
    ) -> ToClient {
        if config.clients.iter().any(|client| client.keys.public == *key) {
            return ToClient::Refused { why: Refusal::Known };
        }
        let addresses = |clients: &[Client]| -> Option<Vec<IpAddr>> {
            let taken = |address| {
                config.has_address(address)
                    || clients.iter().any(|client| client.addresses.contains(&address))
            };
            free_addresses(&config.address, taken)
        };
        match (self.registry).register(invite, key, name, registry::now(), addresses) {
            Ok(Ok(Client { name, addresses, .. })) => {
                info!(client = name, "joined by a code");
                ToClient::Registered { name, addresses }
            }
            Ok(Err(why)) => {
                info!(%why, "a join code was refused");
                ToClient::Refused { why }
            }
            Err(error) => {
                warn!("{error} (hint: {})", error.hint());
                ToClient::Refused { why: Refusal::Failed }
            }
        }
    }

    /// The client that the first contact is with, if this is it.
    fn contact_of(&self, id: ClientId) -> Option<(&str, &ClientEntry)> {
        let contact = self.first_contact.as_ref()?;
        let (name, _, entry) = self.iter().find(|(_, known, _)| *known == id)?;
        (entry.keys.public == contact.client).then_some((name, entry))
    }

    fn end_first_contact(&mut self, config: &ServerConfig) -> Result<()> {
        let Some(contact) = self.first_contact.take() else {
            return Ok(());
        };
        contact.burn(&self.registry)?;
        let key = handshake::PrivateKey::from_bytes(config.key.load()?.as_bytes());
        self.data
            .engine(move |engine, now| engine.set_private_key(now, key));
        Ok(())
    }

    pub(super) fn say(&self, id: ClientId, message: ToClient) {
        let message = encode(&message);
        self.data.engine(move |engine, _| {
            // Whoever left meanwhile asks again.
            let _ = engine.send_control(id, &message);
        });
    }
}

fn entry(client: Client) -> ClientEntry {
    ClientEntry {
        name: client.name,
        keys: PeerKeys {
            public: client.public_key,
            preshared: None,
        },
        address: client.addresses,
        forward: client.forwards,
        allow: client.allow,
        limits: ClientLimits {
            up: client.limit_up,
            down: client.limit_down,
            quota: client.quota,
        },
    }
}

/// A client gets its addresses with the prefix of the server's network, so that it reaches the server's inner address.
fn engine_entry(client: &ClientEntry, networks: &[Network]) -> sennit_engine::ClientEntry {
    let with_prefix = |address: &IpAddr| {
        let network = networks.iter().find(|network| network.contains(*address));
        (
            *address,
            network.map_or(Network::host(*address).prefix, |network| network.prefix),
        )
    };
    sennit_engine::ClientEntry {
        public_key: handshake::PublicKey(*client.keys.public.as_bytes()),
        preshared_key: client
            .keys
            .preshared
            .as_ref()
            .map(|key| handshake::PresharedKey::from_bytes(key.as_bytes())),
        addresses: client.address.iter().map(with_prefix).collect(),
    }
}
