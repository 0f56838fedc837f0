//! What the programs at both ends tell each other beside the traffic, as JSON. See "Messages" in docs/PROTOCOL.md.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::Forward;
use crate::key::PublicKey;
use crate::registry::Refusal;

/// From a client to its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToServer {
    /// From the holder of a join code: make this key a client.
    Register {
        /// The client's own key.
        public_key: PublicKey,
        /// What it calls itself; the name in the invitation goes first.
        name: Option<String>,
    },
    /// The server's own key is kept: the one of the first contact is not needed any more.
    Pinned {},
    /// Hosts behind the client want exactly these ports of the server, each a single one.
    Ports {
        /// All of them; those of before that are missing are given back.
        forwards: Vec<Forward>,
    },
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// From a server to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToClient {
    /// The key is a client now.
    Registered {
        /// What the server calls it.
        name: String,
        /// Its inner addresses.
        addresses: Vec<IpAddr>,
    },
    /// It is not.
    Refused {
        /// Why.
        why: Refusal,
    },
    /// On first contact: the server's own key, to be kept.
    Identity {
        /// The key that the server made for itself.
        public_key: PublicKey,
    },
    /// What the client may send through the tunnel.
    Limits {
        /// Bytes of inner packets a second; none: no limit.
        up: Option<u64>,
    },
    /// The ports that were asked for lead to the client now.
    Ports {
        /// But for these, which somebody else has.
        refused: Vec<Forward>,
    },
    /// Does the Internet reach the server? The client sends something to these TCP ports of it, outside the tunnel.
    Knock {
        /// Ports of the server.
        ports: Vec<u16>,
    },
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// As it goes over the wire.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    // Messages are made of texts and numbers: they always have a JSON form.
    serde_json::to_vec(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn messages_come_back_and_fit() {
        let register = ToServer::Register {
            public_key: PrivateKey::generate().unwrap().public(),
            name: Some("x".repeat(64)),
        };
        let bytes = encode(&register);
        assert!(bytes.len() < sennit_engine::LONGEST_MESSAGE);
        assert_eq!(serde_json::from_slice::<ToServer>(&bytes).unwrap(), register);
        let refused = ToClient::Refused {
            why: Refusal::Expired,
        };
        assert_eq!(encode(&refused), br#"{"type":"refused","why":"expired"}"#);
    }

    #[test]
    fn what_a_later_version_says_is_no_error() {
        let read = |text: &str| serde_json::from_str::<ToClient>(text).unwrap();
        assert_eq!(read(r#"{"type":"weather","sun":{"hours":3}}"#), ToClient::Unknown);
        let refused = ToClient::Refused { why: Refusal::Other };
        assert_eq!(read(r#"{"type":"refused","why":"weather","until":1}"#), refused);
    }
}
