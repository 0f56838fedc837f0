//! What an administrator does to the registry: the same whether a daemon runs (over its control socket) or not.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, Invite, Registry, check_name};
use crate::config::{self, Endpoint, Forward, Rate, ServerConfig};
use crate::join::{Code, ServerIdentity};
use crate::{Error, Result};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Make a join code.
    Invite {
        /// The name that the client gets; without one it brings its own.
        name: Option<String>,
        /// Seconds that the code counts.
        valid_s: u64,
        /// Where the server is reached, if not where its configuration says.
        addresses: Vec<String>,
    },
    /// All clients and open invitations.
    List {},
    /// One client.
    Show {
        /// Its name.
        name: String,
    },
    /// Change a client's limits; what is absent stays.
    Limit {
        /// Its name.
        name: String,
        /// The most that it may send, bits per second; 0: no limit.
        up: Option<u64>,
        /// The most that it is sent, bits per second; 0: no limit.
        down: Option<u64>,
        /// Bytes a month; 0: no quota.
        quota: Option<u64>,
    },
    /// Lead ports of the server to a client, or not any more.
    Forward {
        /// Its name.
        name: String,
        /// Those to come.
        add: Vec<Forward>,
        /// Those to go.
        remove: Vec<Forward>,
    },
    /// Change what a client may reach besides the internet.
    Allow {
        /// Its name.
        name: String,
        /// Those to come.
        add: Vec<config::Allow>,
        /// Those to go.
        remove: Vec<config::Allow>,
    },
    /// Lock a client out, or take an invitation back.
    Revoke {
        /// The client's name, or that of an invitation.
        name: String,
    },
    /// Take all open invitations back.
    RevokeInvitations {},
    /// Everything, for a backup.
    Export {},
}

impl Action {
    /// Whether it changes who may do what.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::List {} | Self::Show { .. } | Self::Export {})
    }

    /// Does it.
    ///
    /// # Errors
    /// No client has the name, or the registry cannot be read or written.
    pub fn perform(self, registry: &Registry, config: &ServerConfig) -> Result<Value> {
        let now = super::now();
        match self {
            Self::Invite {
                name,
                valid_s,
                addresses,
            } => invite(registry, config, name, now.saturating_add(valid_s), &addresses),
            Self::List {} => {
                let written = config.clients.iter().map(|client| {
                    json!({
                        "name": client.name, "public_key": client.keys.public, "addresses": client.address,
                        "configured": true,
                    })
                });
                let joined = registry.clients()?;
                let open = registry
                    .invites()?
                    .into_iter()
                    .filter(|invite| invite.is_open(now));
                let open = open.map(|invite| json!({ "name": invite.name, "expires": invite.expires }));
                Ok(json!({
                    "clients": written.chain(joined.iter().map(|client| json!(client))).collect::<Vec<_>>(),
                    "invites": open.collect::<Vec<_>>(),
                }))
            }
            Self::Show { name } => Ok(json!(registry.client(&name)?)),
            Self::Limit {
                name,
                up,
                down,
                quota,
            } => changed(registry.change_client(&name, |client| {
                client.limit_up = up.map_or(client.limit_up, Rate);
                client.limit_down = down.map_or(client.limit_down, Rate);
                client.quota = quota.map_or(client.quota, |bytes| (bytes > 0).then_some(bytes));
            })),
            Self::Forward { name, add, remove } => changed(registry.change_client(&name, |client| {
                edit(&mut client.forwards, add, &remove);
            })),
            Self::Allow { name, add, remove } => changed(registry.change_client(&name, |client| {
                edit(&mut client.allow, add, &remove);
            })),
            Self::Revoke { name } => revoke(registry, config, &name, now),
            Self::RevokeInvitations {} => {
                let open = registry
                    .invites()?
                    .into_iter()
                    .filter(|invite| invite.is_open(now));
                let mut count = 0;
                for invite in open {
                    registry.remove_invite(&invite.public_key)?;
                    count += 1;
                }
                Ok(json!({ "invites": count }))
            }
            Self::Export {} => registry.export(),
        }
    }
}

fn changed(client: Result<Client>) -> Result<Value> {
    client.map(|client| json!(client))
}

fn edit<T: PartialEq>(list: &mut Vec<T>, add: Vec<T>, remove: &[T]) {
    list.retain(|present| !remove.contains(present));
    for new in add {
        if !list.contains(&new) {
            list.push(new);
        }
    }
}

fn invite(
    registry: &Registry,
    config: &ServerConfig,
    name: Option<String>,
    expires: u64,
    addresses: &[String],
) -> Result<Value> {
    if let Some(name) = &name {
        check_name(name)?;
        let taken = config.clients.iter().any(|client| client.name == *name)
            || registry.clients()?.iter().any(|client| client.name == *name);
        if taken {
            return Err(Error::user(
                format!("a client {name:?} is there already"),
                "choose another name, or lock that one out: sennit clients revoke NAME",
            ));
        }
    }
    let written: Result<Vec<Endpoint>, String> = addresses.iter().map(|text| text.parse()).collect();
    let mut addresses = written.map_err(|why| Error::user(why, "sennit invite --address HOST[:PORT]"))?;
    if addresses.is_empty() {
        addresses.clone_from(&config.public);
    }
    if addresses.is_empty() {
        return Err(Error::user(
            "this server does not know by which address clients reach it",
            "sennit invite --address HOST[:PORT], or write it into the configuration: public = [\"HOST\"]",
        ));
    }
    let identity = ServerIdentity {
        public_key: config.key.load()?.public(),
        addresses,
    };
    let code = Code::new(expires, Some(identity))?;
    registry.invite(&Invite {
        name: name.clone(),
        public_key: code.guest_key().public(),
        made: super::now(),
        expires,
        used: None,
    })?;
    Ok(json!({ "code": code.to_string(), "name": name, "expires": code.expires }))
}

fn revoke(registry: &Registry, config: &ServerConfig, name: &str, now: u64) -> Result<Value> {
    let invites = registry.invites()?;
    let mut open = invites
        .iter()
        .filter(|invite| invite.is_open(now) && invite.name.as_deref() == Some(name));
    let clients = registry.clients()?;
    if clients.iter().any(|client| client.name == name) {
        registry.remove_client(name)?;
        return Ok(json!({ "client": name }));
    }
    if let Some(invite) = open.next() {
        registry.remove_invite(&invite.public_key)?;
        return Ok(json!({ "invite": name }));
    }
    if config.clients.iter().any(|client| client.name == name) {
        return Err(Error::user(
            format!("client {name:?} stands in the configuration file"),
            "remove it there and send SIGHUP (systemctl reload sennit-server)",
        ));
    }
    registry.client(name).map(|_| Value::Null)
}
