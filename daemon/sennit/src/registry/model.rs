//! What the registry holds: clients, invitations, and the first contact of a server that was made by cloud-init.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Allow, Forward, Rate};
use crate::key::PublicKey;

/// Seconds since 1970.
pub type UnixTime = u64;

/// A client that joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// What people call it.
    pub name: String,
    /// Who it is.
    pub public_key: PublicKey,
    /// Its inner addresses, which it keeps.
    pub addresses: Vec<IpAddr>,
    /// When it joined.
    pub joined: UnixTime,
    /// The most that it may send through the tunnel; zero: no limit.
    #[serde(default)]
    pub limit_up: Rate,
    /// The most that it is sent through the tunnel; zero: no limit.
    #[serde(default)]
    pub limit_down: Rate,
    /// Bytes a calendar month, both directions together, before it is slowed down.
    #[serde(default)]
    pub quota: Option<u64>,
    /// Ports of the server that lead to it.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// What it may reach besides the internet.
    #[serde(default)]
    pub allow: Vec<Allow>,
}

impl Client {
    /// A client without limits and forwards.
    pub fn new(name: String, public_key: PublicKey, addresses: Vec<IpAddr>, joined: UnixTime) -> Self {
        Self {
            name,
            public_key,
            addresses,
            joined,
            limit_up: Rate::default(),
            limit_down: Rate::default(),
            quota: None,
            forwards: Vec::new(),
            allow: Vec::new(),
        }
    }
}

/// A join code that was given out. The code itself is not kept: whoever reads the registry cannot join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The name that the client gets; without one it brings its own.
    pub name: Option<String>,
    /// The one-time key that the code stands for.
    pub public_key: PublicKey,
    /// When it was made.
    pub made: UnixTime,
    /// When it ends.
    pub expires: UnixTime,
    /// Who used it.
    pub used: Option<Used>,
}

/// The one use of an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The client that joined.
    pub client: String,
    /// Its key: the same client may ask again if the answer got lost.
    pub public_key: PublicKey,
    /// When.
    pub at: UnixTime,
}

impl Invite {
    /// Whether somebody may still join by it.
    pub fn is_open(&self, now: UnixTime) -> bool {
        self.used.is_none() && now < self.expires
    }
}

/// Why somebody who knows an invitation's key may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The code was used by somebody else.
    #[error("this code was used already; every code admits one client")]
    Used,
    /// The code is too old.
    #[error("this code has expired")]
    Expired,
    /// No inner address is free.
    #[error("the server has no free address for another client")]
    Full,
    /// The client has joined before, under this key.
    #[error("this client has joined this server already")]
    Known,
    /// The server cannot write its registry.
    #[error("the server cannot store the new client; its log says why")]
    Failed,
    /// A reason of a later version.
    #[serde(other)]
    #[error("the server refuses")]
    Other,
}
