//! Who may join a server: clients, invitations and one-time secrets, in a file that survives power loss at any moment
//! (redb: each change is one transaction, written to disk before it counts).
//!
//! This module is all that knows how it is stored; a fleet of servers can have another store behind the same functions.

mod action;
mod addresses;
mod model;
mod usage;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

pub use action::Action;
pub use addresses::free_addresses;
pub use model::{Client, Invite, Refusal, UnixTime, Used};
pub use usage::{Month, Traffic, Usage};

use crate::key::PublicKey;
use crate::{Error, Result};

/// Name of the file in the state folder.
pub const FILE: &str = "registry.redb";
/// Invitations that ended are remembered for this long, to tell people why their code does not work.
const REMEMBER: Duration = Duration::from_secs(7 * 24 * 3600);
/// And no more than this many at a time, open ones included.
const MOST_INVITES: usize = 256;

/// Values are JSON: a table can get another field without a migration.
type Table = TableDefinition<'static, &'static str, &'static [u8]>;
const CLIENTS: Table = TableDefinition::new("clients");
const INVITES: Table = TableDefinition::new("invites");
const ONCE: Table = TableDefinition::new("once");

/// The open registry. One process has it at a time.
#[derive(Debug)]
pub struct Registry {
    database: Database,
    file: PathBuf,
}

/// Everything in it, for a backup or a move to another machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    sennit_registry: u32,
    clients: Vec<Client>,
    invites: Vec<Invite>,
    /// By public key; also of clients that are in the configuration.
    #[serde(default)]
    usage: BTreeMap<String, Usage>,
}

/// Version of [`Exported`].
const EXPORT_VERSION: u32 = 1;

/// Now, as the system's clock says.
pub fn now() -> UnixTime {
    // A clock before 1970 is as wrong as one at 1970.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Registry {
    /// Opens the registry in `state_dir`; makes an empty one if there is none.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let file = state_dir.join(FILE);
        let failed = |error: &dyn std::fmt::Display, hint: &str| {
            Error::environment(format!("failed to open {}: {error}", file.display()), hint)
        };
        std::fs::create_dir_all(state_dir).map_err(|error| failed(&error, "run sennit as root"))?;
        let database = Database::create(&file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => failed(
                &"another sennit has it open",
                "ask that one (name its configuration by --config), or stop it first",
            ),
            DatabaseError::Storage(redb::StorageError::Io(error))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                failed(&error, "run sennit as root")
            }
            error => failed(
                &error,
                "restore it from a backup (sennit server import), or move it away to begin with an empty one",
            ),
        })?;
        let registry = Self { database, file };
        registry.make_private()?;
        registry.write(|_| Ok(()))?;
        Ok(registry)
    }

    fn make_private(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&self.file, mode).map_err(|error| self.failed(&error))
    }

    /// All clients, by name.
    pub fn clients(&self) -> Result<Vec<Client>> {
        self.list(CLIENTS)
    }

    /// The client of this name.
    pub fn client(&self, name: &str) -> Result<Client> {
        self.get(CLIENTS, name)?.ok_or_else(|| unknown(name))
    }

    /// Adds a client, or replaces the one of its name.
    pub fn set_client(&self, client: &Client) -> Result<()> {
        self.write(|changes| changes.put(CLIENTS, &client.name, client))
    }

    /// Changes a client; returns what it is now.
    pub fn change_client(&self, name: &str, change: impl FnOnce(&mut Client)) -> Result<Client> {
        let mut client = self.client(name)?;
        change(&mut client);
        self.set_client(&client)?;
        Ok(client)
    }

    /// Forgets a client.
    pub fn remove_client(&self, name: &str) -> Result<Client> {
        let client = self.client(name)?;
        self.write(|changes| changes.remove(CLIENTS, name))?;
        Ok(client)
    }

    /// All invitations, those that ended too.
    pub fn invites(&self) -> Result<Vec<Invite>> {
        self.list(INVITES)
    }

    /// Adds an invitation, and forgets those that ended long ago.
    pub fn invite(&self, invite: &Invite) -> Result<()> {
        let mut known = self.invites()?;
        let old = invite.made.saturating_sub(REMEMBER.as_secs());
        let ended = |known: &Invite| known.used.as_ref().map_or(known.expires, |used| used.at);
        // Oldest first, and those that ended before the open ones.
        known.sort_by_key(|known| (known.is_open(invite.made), ended(known)));
        let surplus = (known.len() + 1).saturating_sub(MOST_INVITES);
        let gone: Vec<&Invite> = known
            .iter()
            .enumerate()
            .filter(|(index, known)| *index < surplus || !known.is_open(invite.made) && ended(known) < old)
            .map(|(_, known)| known)
            .collect();
        if gone.iter().any(|gone| gone.is_open(invite.made)) {
            return Err(Error::user(
                format!("{MOST_INVITES} invitations are open already"),
                "sennit clients list names them; sennit clients revoke NAME takes one back",
            ));
        }
        self.write(|changes| {
            for gone in &gone {
                changes.remove(INVITES, &gone.public_key.to_string())?;
            }
            changes.put(INVITES, &invite.public_key.to_string(), invite)
        })
    }

    /// Takes an invitation back.
    pub fn remove_invite(&self, key: &PublicKey) -> Result<()> {
        self.write(|changes| changes.remove(INVITES, &key.to_string()))
    }

    /// Somebody who proved to know an invitation's key wants to join under a key of its own. `addresses` chooses inner
    /// addresses beside those of the clients it is given. The code is used up in the transaction that stores the client.
    pub fn register(
        &self,
        invite: &PublicKey,
        key: &PublicKey,
        own_name: Option<&str>,
        now: UnixTime,
        addresses: impl FnOnce(&[Client]) -> Option<Vec<IpAddr>>,
    ) -> Result<Result<Client, Refusal>> {
        let Some(mut invite) = self.get::<Invite>(INVITES, &invite.to_string())? else {
            return Ok(Err(Refusal::Expired));
        };
        if let Some(used) = &invite.used {
            // The answer got lost.
            return if used.public_key == *key {
                Ok(self.client(&used.client).map_err(|_| Refusal::Used))
            } else {
                Ok(Err(Refusal::Used))
            };
        }
        if now >= invite.expires {
            return Ok(Err(Refusal::Expired));
        }
        let clients = self.clients()?;
        if clients.iter().any(|client| client.public_key == *key) {
            return Ok(Err(Refusal::Known));
        }
        let Some(addresses) = addresses(&clients) else {
            return Ok(Err(Refusal::Full));
        };
        let wanted = invite.name.as_deref().or(own_name).unwrap_or("client");
        let client = Client::new(free_name(wanted, &clients), *key, addresses, now);
        invite.used = Some(Used {
            client: client.name.clone(),
            public_key: *key,
            at: now,
        });
        self.write(|changes| {
            changes.put(CLIENTS, &client.name, &client)?;
            changes.put(INVITES, &invite.public_key.to_string(), &invite)
        })?;
        Ok(Ok(client))
    }

    /// A secret that counts once, by its purpose.
    pub fn once<T: DeserializeOwned>(&self, purpose: &str) -> Result<Option<T>> {
        self.get(ONCE, purpose)
    }

    /// Keeps a secret that counts once.
    pub fn set_once<T: Serialize>(&self, purpose: &str, secret: &T) -> Result<()> {
        self.write(|changes| changes.put(ONCE, purpose, secret))
    }

    /// Forgets a secret that counts once.
    pub fn burn(&self, purpose: &str) -> Result<()> {
        self.write(|changes| changes.remove(ONCE, purpose))
    }

    /// Clients, invitations and what was used, as JSON.
    pub fn export(&self) -> Result<Value> {
        let exported = Exported {
            sennit_registry: EXPORT_VERSION,
            clients: self.clients()?,
            invites: self.invites()?,
            usage: self.entries(usage::USAGE)?.into_iter().collect(),
        };
        serde_json::to_value(exported).map_err(|error| self.failed(&error))
    }

    /// Replaces everything by what `export` gave, in one transaction. Returns the number of clients.
    pub fn import(&self, value: Value) -> Result<usize> {
        let wrong = |why: &dyn std::fmt::Display| {
            Error::user(
                format!("this is not an exported registry: {why}"),
                "name a file that sennit server export wrote; nothing was changed",
            )
        };
        let exported: Exported = serde_json::from_value(value).map_err(|error| wrong(&error))?;
        if exported.sennit_registry != EXPORT_VERSION {
            return Err(wrong(&format!("its version is {}", exported.sennit_registry)));
        }
        for (index, client) in exported.clients.iter().enumerate() {
            check_name(&client.name)?;
            let before = &exported.clients[..index];
            let twice = before.iter().any(|other| {
                other.name == client.name
                    || other.public_key == client.public_key
                    || other
                        .addresses
                        .iter()
                        .any(|address| client.addresses.contains(address))
            });
            if twice {
                return Err(wrong(&format!(
                    "client {:?} has the name, the key or an address of another one",
                    client.name
                )));
            }
        }
        let (clients, invites) = (self.clients()?, self.invites()?);
        let usages: Vec<(String, Usage)> = self.entries(usage::USAGE)?;
        self.write(|changes| {
            for (client, _) in &usages {
                changes.remove(usage::USAGE, client)?;
            }
            for client in &clients {
                changes.remove(CLIENTS, &client.name)?;
            }
            for invite in &invites {
                changes.remove(INVITES, &invite.public_key.to_string())?;
            }
            for client in &exported.clients {
                changes.put(CLIENTS, &client.name, client)?;
            }
            for invite in &exported.invites {
                changes.put(INVITES, &invite.public_key.to_string(), invite)?;
            }
            for (client, usage) in &exported.usage {
                changes.put(usage::USAGE, client, usage)?;
            }
            Ok(())
        })?;
        Ok(exported.clients.len())
    }

    fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>> {
        let read = || -> Result<Option<T>, Box<dyn std::error::Error>> {
            let table = self.database.begin_read()?.open_table(table)?;
            let found = table.get(key)?;
            Ok(found
                .map(|bytes| serde_json::from_slice(bytes.value()))
                .transpose()?)
        };
        read().map_err(|error| self.failed(&error))
    }

    /// Every value of a table. One that a damaged disk or a later version left unreadable costs only itself.
    fn list<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>> {
        let entries = self.entries(table)?;
        Ok(entries.into_iter().map(|(_, value)| value).collect())
    }

    /// The same with their keys.
    fn entries<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>> {
        let read = || -> Result<Vec<(String, T)>, Box<dyn std::error::Error>> {
            let table = self.database.begin_read()?.open_table(table)?;
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                match serde_json::from_slice(value.value()) {
                    Ok(value) => found.push((key.value().to_owned(), value)),
                    Err(error) => {
                        warn!(file = %self.file.display(), entry = key.value(), %error, "not readable, left out");
                    }
                }
            }
            Ok(found)
        };
        read().map_err(|error| self.failed(&error))
    }

    /// Makes changes, all of them or none.
    fn write(&self, change: impl FnOnce(&mut Changes) -> Outcome) -> Result<()> {
        let write = || -> Result<(), Box<dyn std::error::Error>> {
            let transaction = self.database.begin_write()?;
            for table in [CLIENTS, INVITES, ONCE, usage::USAGE] {
                transaction.open_table(table)?;
            }
            let mut changes = Changes(transaction);
            change(&mut changes)?;
            changes.0.commit()?;
            Ok(())
        };
        write().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::environment(
            format!("the registry {} failed: {error}", self.file.display()),
            "check that the disk is not full and that sennit may write there",
        )
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A transaction under way.
struct Changes(redb::WriteTransaction);

impl Changes {
    fn put<T: Serialize>(&mut self, table: Table, key: &str, value: &T) -> Outcome {
        let bytes = serde_json::to_vec(value)?;
        self.0.open_table(table)?.insert(key, &bytes[..])?;
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &str) -> Outcome {
        self.0.open_table(table)?.remove(key)?;
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    Error::user(
        format!("no client {name:?} has joined by a code"),
        "sennit clients list names them; those of the configuration file are changed there",
    )
}

/// Names go into logs, file names and tables.
pub fn check_name(name: &str) -> Result<()> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if (1..=32).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::user(
        format!("{name:?} is not a client's name"),
        "1 to 32 letters, digits, - _ and .",
    ))
}

/// The wanted name, or with a number behind it if another client has it.
fn free_name(wanted: &str, clients: &[Client]) -> String {
    let wanted = if check_name(wanted).is_ok() {
        wanted
    } else {
        "client"
    };
    let is_free = |name: &str| !clients.iter().any(|client| client.name == name);
    let numbered = (2..).map(|number| format!("{}-{number}", &wanted[..wanted.len().min(26)]));
    std::iter::once(wanted.to_owned())
        .chain(numbered)
        .find(|name| is_free(name))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
