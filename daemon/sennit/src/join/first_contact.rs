//! The first contact of a server that was made by cloud-init. Its user-data can be read by others, so that it holds no
//! key: only a code that the client made, and the client's public key. Until that client has been here once, the server
//! proves itself by a key that both derive from the code; inside that connection it tells the key that it made for
//! itself, and forgets the code.

use serde::{Deserialize, Serialize};

use super::Code;
use crate::Result;
use crate::config::ServerConfig;
use crate::key::{PrivateKey, PublicKey};
use crate::registry::{Client, Registry, UnixTime, free_addresses};

const PURPOSE: &str = "first contact";

#[derive(Serialize, Deserialize)]
struct Kept {
    code: String,
    client: PublicKey,
}

/// A first contact that has not happened yet.
#[derive(Debug)]
pub struct FirstContact {
    /// The key by which the server proves itself until then.
    pub key: PrivateKey,
    /// The one client that may come.
    pub client: PublicKey,
    expires: UnixTime,
}

impl FirstContact {
    /// Prepares a server for it: the client is known from now on, the code counts until it is used or ends. The second
    /// time with the same code changes nothing.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn prepare(
        registry: &Registry,
        config: &ServerConfig,
        code: &Code,
        name: &str,
        client: PublicKey,
        now: UnixTime,
    ) -> Result<()> {
        let known = registry.clients()?;
        if known.iter().any(|known| known.public_key == client) {
            return Ok(());
        }
        crate::registry::check_name(name)?;
        let taken = |address| {
            config.has_address(address) || known.iter().any(|known| known.addresses.contains(&address))
        };
        let addresses = free_addresses(&config.address, taken).unwrap_or_default();
        let kept = Kept {
            code: code.to_string(),
            client,
        };
        registry.set_once(PURPOSE, &kept)?;
        registry.set_client(&Client::new(name.to_owned(), client, addresses, now))
    }

    /// The one that is to come, if there is one and its code still counts.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn open(registry: &Registry, now: UnixTime) -> Result<Option<Self>> {
        let Some(kept) = registry.once::<Kept>(PURPOSE)? else {
            return Ok(None);
        };
        let contact = kept.code.parse::<Code>().ok().map(|code| Self {
            key: code.first_contact_key(),
            client: kept.client,
            expires: code.expires,
        });
        match contact {
            Some(contact) if now < contact.expires => Ok(Some(contact)),
            _ => {
                registry.burn(PURPOSE)?;
                Ok(None)
            }
        }
    }

    /// Whether it is too late.
    pub fn has_expired(&self, now: UnixTime) -> bool {
        now >= self.expires
    }

    /// It happened, or is too late: the code counts no more.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn burn(self, registry: &Registry) -> Result<()> {
        registry.burn(PURPOSE)
    }
}
