//! What a client may reach through the server beyond the Internet, written as one word. Knows no firewall.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Forward, Network};
use crate::system::special;

/// One thing that a client may reach: `lan`, `clients`, `server`, `server:tcp/22`, or a network as `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Allow {
    /// All private networks that the server reaches.
    Lan,
    /// The other clients.
    Clients,
    /// What runs on the server itself; `None`: all of it.
    Server(Option<Forward>),
    /// A private network or host.
    Network(Network),
}

impl FromStr for Allow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lan" => return Ok(Self::Lan),
            "clients" => return Ok(Self::Clients),
            "server" => return Ok(Self::Server(None)),
            _ => {}
        }
        if let Some(ports) = text.strip_prefix("server:") {
            let ports: Forward = ports.parse()?;
            return match ports.to {
                None => Ok(Self::Server(Some(ports))),
                Some(_) => Err(format!(
                    "{text:?} translates a port: only a forward does that (server:tcp/22)"
                )),
            };
        }
        let network = Network::try_from(text.to_owned()).map_err(|_| {
            format!(
                "{text:?} is nothing that can be allowed (lan, clients, server, server:tcp/22, or a network as \
                 10.1.0.0/16)"
            )
        })?;
        if special::never().any(|never| never.contains(network.address)) {
            return Err(format!(
                "{text:?} is never allowed: there are the machine itself, its links, and the secrets that clouds tell \
                 their machines"
            ));
        }
        Ok(Self::Network(network))
    }
}

impl TryFrom<String> for Allow {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Allow> for String {
    fn from(allow: Allow) -> Self {
        allow.to_string()
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lan => f.write_str("lan"),
            Self::Clients => f.write_str("clients"),
            Self::Server(None) => f.write_str("server"),
            Self::Server(Some(ports)) => write!(f, "server:{ports}"),
            Self::Network(network) => write!(f, "{network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "lan",
            "clients",
            "server",
            "server:tcp/22",
            "server:53",
            "10.1.0.0/16",
            "fd12::/64",
        ] {
            assert_eq!(text.parse::<Allow>().unwrap().to_string(), text);
        }
        let host: Allow = "192.168.1.4".parse().unwrap();
        assert_eq!(host.to_string(), "192.168.1.4/32");
    }

    #[test]
    fn what_is_wrong_or_never_allowed_is_refused() {
        for (text, why) in [
            ("all", "nothing that can be allowed"),
            ("10.1.0.0/33", "nothing that can be allowed"),
            ("server:tcp/22:23", "only a forward"),
            ("server:icmp/1", "tcp or udp"),
            ("169.254.169.254", "never allowed"),
            ("100.100.100.200", "never allowed"),
            ("fe80::1", "never allowed"),
        ] {
            let error = text.parse::<Allow>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
