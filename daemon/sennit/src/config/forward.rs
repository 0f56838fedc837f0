//! A forward: ports of the server that lead to a client, written as one word. Knows no firewall.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which of the two protocols with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// TCP and UDP.
    Both,
}

impl Protocol {
    /// The names of the protocols, as the firewall and the configuration write them.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Tcp => &["tcp"],
            Self::Udp => &["udp"],
            Self::Both => &["tcp", "udp"],
        }
    }

    /// Whether a packet could be of both.
    pub fn meets(self, other: Self) -> bool {
        self == other || self == Self::Both || other == Self::Both
    }
}

/// Ports of the server that lead to a client: `tcp/8080`, `udp/5000-5100`, `8080` (TCP and UDP), `tcp/8080:80` (port 8080
/// of the server is port 80 of the client).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Forward {
    /// Which protocol.
    pub protocol: Protocol,
    /// The server's first port, not 0.
    pub first: u16,
    /// The server's last port, not below the first one.
    pub last: u16,
    /// The first port at the client; `None`: the same as the server's.
    pub to: Option<u16>,
}

impl Forward {
    /// Whether some packet could be meant by both.
    pub fn meets(&self, other: &Self) -> bool {
        self.protocol.meets(other.protocol) && self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{text:?} is not a forward: {why} (tcp/8080, udp/5000-5100, 8080 for both, tcp/8080:80 if the client's \
                 port is another one)"
            )
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port != 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
            _ => Err(wrong("a port is a number from 1 to 65535")),
        };
        let (protocol, ports) = match text.split_once('/') {
            None => (Protocol::Both, text),
            Some(("tcp", ports)) => (Protocol::Tcp, ports),
            Some(("udp", ports)) => (Protocol::Udp, ports),
            Some(_) => return Err(wrong("the protocol is tcp or udp")),
        };
        let (ports, to) = match ports.split_once(':') {
            None => (ports, None),
            Some((ports, to)) => (ports, Some(port(to)?)),
        };
        let (first, last) = match ports.split_once('-') {
            None => (port(ports)?, port(ports)?),
            Some((first, last)) => (port(first)?, port(last)?),
        };
        if last < first {
            return Err(wrong("the last port is below the first one"));
        }
        if to.is_some_and(|to| to.checked_add(last - first).is_none()) {
            return Err(wrong("the client's last port would be above 65535"));
        }
        // One way to write one thing.
        let to = to.filter(|to| *to != first);
        Ok(Self {
            protocol,
            first,
            last,
            to,
        })
    }
}

impl TryFrom<String> for Forward {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Forward> for String {
    fn from(forward: Forward) -> Self {
        forward.to_string()
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => f.write_str("tcp/")?,
            Protocol::Udp => f.write_str("udp/")?,
            Protocol::Both => {}
        }
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        self.to.map_or(Ok(()), |to| write!(f, ":{to}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> Forward {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (text, protocol, first, last, to) in [
            ("tcp/8080", Protocol::Tcp, 8080, 8080, None),
            ("udp/5000-5100", Protocol::Udp, 5000, 5100, None),
            ("8080", Protocol::Both, 8080, 8080, None),
            ("tcp/8080:80", Protocol::Tcp, 8080, 8080, Some(80)),
            ("1-65535", Protocol::Both, 1, 65535, None),
            ("udp/5000-5100:6000", Protocol::Udp, 5000, 5100, Some(6000)),
        ] {
            let wanted = Forward {
                protocol,
                first,
                last,
                to,
            };
            assert_eq!(text.parse(), Ok(wanted));
            assert_eq!(wanted.to_string(), text);
            let json = serde_json::to_string(&wanted).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Forward>(&json).unwrap(), wanted);
        }
        assert_eq!(forward("tcp/80-80:80").to_string(), "tcp/80");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "from 1 to 65535"),
            ("tcp", "from 1 to 65535"),
            ("0", "from 1 to 65535"),
            ("+80", "from 1 to 65535"),
            ("65536", "from 1 to 65535"),
            ("tcp/80-", "from 1 to 65535"),
            ("tcp/90-80", "below the first"),
            ("icmp/8", "tcp or udp"),
            ("TCP/8", "tcp or udp"),
            ("tcp/80:x", "from 1 to 65535"),
            ("tcp/1-3:65534", "above 65535"),
            ("tcp/80 ", "from 1 to 65535"),
        ] {
            let error = text.parse::<Forward>().unwrap_err();
            assert!(
                error.contains(why) && error.contains(&format!("{text:?}")),
                "{error}"
            );
        }
    }

    #[test]
    fn two_forwards_meet_where_a_packet_could_take_both() {
        for (a, b, meet) in [
            ("tcp/80", "udp/80", false),
            ("80", "udp/80", true),
            ("tcp/80-90", "tcp/90-99", true),
            ("tcp/80-90", "tcp/91", false),
            ("tcp/80:1", "tcp/81:1", false),
        ] {
            assert_eq!(forward(a).meets(&forward(b)), meet, "{a} {b}");
            assert_eq!(forward(b).meets(&forward(a)), meet, "{b} {a}");
        }
    }
}
