//! The values of the configuration as checked types, each with the one way it is written. Knows no file.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

/// The UDP port of a server unless another one is written.
pub const DEFAULT_PORT: u16 = 7300;

/// A name that the kernel accepts for a network interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The longest name, in bytes: the kernel's `IFNAMSIZ` less the final zero.
    pub const MAX_BYTES: usize = libc::IFNAMSIZ - 1;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InterfaceName {
    fn default() -> Self {
        Self("sennit0".to_owned())
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        // '%' is refused because the kernel would take "tun%d" as a pattern to number, '*' because nftables would
        // take "tun*" as one, '"' and '\' because they end or bend a quoted name.
        let allowed = |character: char| {
            character.is_ascii_graphic() && !matches!(character, '/' | ':' | '%' | '*' | '"' | '\\')
        };
        let usable = !name.is_empty() && name != "." && name != ".." && name.chars().all(allowed);
        if usable && name.len() <= Self::MAX_BYTES {
            Ok(Self(name))
        } else {
            Err(format!(
                "{name:?} is not an interface name (1 to {} printable ASCII characters without / : % * \" \\)",
                Self::MAX_BYTES
            ))
        }
    }
}

/// Names of interfaces, as a pattern: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct InterfacePattern(String);

impl InterfacePattern {
    /// A pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the pattern stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, name) || name.split_first().is_some_and(|(_, tail)| matches(pattern, tail))
        }
        (Some((b'?', rest)), Some((_, tail))) => matches(rest, tail),
        (Some((expected, rest)), Some((found, tail))) => expected == found && matches(rest, tail),
        _ => false,
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what stops the daemon.
    Error,
    /// What somebody should look at.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Decisions.
    Debug,
    /// Every packet.
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How packets are spread over paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All WANs together make one fast link.
    #[default]
    Speed,
    /// Every packet goes over every WAN; the first copy counts.
    Redundant,
}

impl Mode {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::Redundant => "redundant",
        }
    }
}

/// Whether what goes through the tunnel is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Always.
    #[default]
    On,
    /// Authenticated only, if the other end has it so, too.
    Off,
}

impl From<Encryption> for sennit_engine::settings::Encryption {
    fn from(encryption: Encryption) -> Self {
        match encryption {
            Encryption::On => Self::On,
            Encryption::Off => Self::Off,
        }
    }
}

/// When a WAN carries traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Always.
    #[default]
    Primary,
    /// When the primary ones are well loaded.
    Secondary,
    /// When all others have failed.
    Backup,
    /// Never.
    Off,
}

impl Priority {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Backup => "backup",
            Self::Off => "off",
        }
    }
}

/// What of this machine's traffic the tunnel gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutePolicy {
    /// All of it, and that of the hosts behind this machine; networks with routes of their own (the LAN) excepted.
    #[default]
    Default,
    /// What the user routes into the interface.
    None,
}

/// Where a server is: a host's name or address, and its UDP port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    /// Name or address of the host, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{text:?} is not a server's address: {why} (203.0.113.5:{DEFAULT_PORT}, [2001:db8::5]:{DEFAULT_PORT} \
                 or host.example:{DEFAULT_PORT})"
            )
        };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(|| wrong("']' is missing"))?;
            if !host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
                return Err(wrong("brackets are for IPv6 addresses"));
            }
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(wrong("':' is missing before the port")),
            }
        } else if text.parse::<IpAddr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
            return Err(wrong("the host's name is wrong"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(wrong("a port is a number from 1 to 65535")),
            },
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An address and the length of its network's prefix, as `10.73.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    /// The address, with its host bits.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

impl Network {
    /// One host: the whole address is prefix.
    pub fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix: full_prefix(address),
        }
    }

    /// Whether `address` lies in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }
}

fn full_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address with its prefix (10.73.0.1/24)");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.as_str(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix = match prefix {
            None => full_prefix(address),
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
        };
        if prefix > full_prefix(address) {
            return Err(format!(
                "{text:?} has a prefix of more than {} bits",
                full_prefix(address)
            ));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A data rate in bits per second: an integer, or a text as `"50 Mbit/s"`. Zero stands for "no limit".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rate(pub u64);

impl Rate {
    /// The limit in bytes per second; `None` if there is none.
    pub fn bytes_per_second(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0.div_ceil(8))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a rate (\"50 Mbit/s\", \"800 kbit/s\", \"1.5 Gbit/s\" or bits per second)"
            )
        };
        let text = text.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let number: f64 = text[..end].parse().map_err(|_| wrong())?;
        let unit = text[end..].trim().to_ascii_lowercase();
        let factor = match unit
            .strip_suffix("/s")
            .or_else(|| unit.strip_suffix("ps"))
            .unwrap_or(&unit)
        {
            "" | "bit" | "b" => 1.0,
            "kbit" | "kb" => 1e3,
            "mbit" | "mb" => 1e6,
            "gbit" | "gb" => 1e9,
            _ => return Err(wrong()),
        };
        let bits = number * factor;
        if (0.0..=1e15).contains(&bits) {
            Ok(Self(bits.round() as u64))
        } else {
            Err(wrong())
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RateVisitor;
        impl Visitor<'_> for RateVisitor {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate as \"50 Mbit/s\", or an integer of bits per second")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bits: i64) -> Result<Rate, E> {
                u64::try_from(bits)
                    .map(Rate)
                    .map_err(|_| E::custom("a rate is not negative"))
            }

            fn visit_u64<E: de::Error>(self, bits: u64) -> Result<Rate, E> {
                Ok(Rate(bits))
            }
        }
        deserializer.deserialize_any(RateVisitor)
    }
}

/// An amount of data in bytes, written as `"500 GB"` (decimal units), or an integer of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not an amount of data (\"500 GB\", \"1.5 TB\", \"800 MB\" or bytes)");
        let text = text.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let number: f64 = text[..end].parse().map_err(|_| wrong())?;
        let factor = match text[end..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            _ => return Err(wrong()),
        };
        let bytes = number * factor;
        if (0.0..=1e18).contains(&bytes) {
            Ok(Self(bytes.round() as u64))
        } else {
            Err(wrong())
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of data as \"500 GB\", or an integer of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::custom("an amount of data is not negative"))
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_rules_for_interface_names_hold() {
        for name in ["sennit0", "a", "fifteen-letters", "wan.10@x"] {
            assert_eq!(
                InterfaceName::try_from(name.to_owned()).map(|name| name.0),
                Ok(name.to_owned())
            );
        }
        for name in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a:b",
            "tun%d",
            "tun*",
            "a\"b",
            "a\\",
            "sixteen-letters!",
            "ünnit0",
            "a\n",
        ] {
            assert!(
                InterfaceName::try_from(name.to_owned()).is_err(),
                "{name:?} was accepted"
            );
        }
    }

    #[test]
    fn patterns_match_as_a_shell_would() {
        let yes = [
            ("*", "eth0"),
            ("eth*", "eth0"),
            ("eth?", "eth1"),
            ("*0", "wwan0"),
            ("a*b*c", "axxbc"),
            ("", ""),
        ];
        for (pattern, name) in yes {
            assert!(InterfacePattern::new(pattern).matches(name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("eth?", "eth"),
            ("eth*", "et"),
            ("docker*", "eth0"),
            ("a*b", "abc"),
            ("", "a"),
        ] {
            assert!(!InterfacePattern::new(pattern).matches(name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_servers_address_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("203.0.113.5:7300", "203.0.113.5", 7300),
            ("203.0.113.5", "203.0.113.5", 7300),
            ("[2001:db8::5]:99", "2001:db8::5", 99),
            ("[2001:db8::5]", "2001:db8::5", 7300),
            ("2001:db8::5", "2001:db8::5", 7300),
            ("host.example:1", "host.example", 1),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port), "{text}");
        }
        for text in [
            "",
            ":7300",
            "host:0",
            "host:70000",
            "host:x",
            "[::1",
            "[host]:1",
            "[::1]x",
            "a b",
            "http://x",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn networks_have_a_prefix_that_fits() {
        let network = Network::try_from("10.73.0.1/24".to_owned()).unwrap();
        assert!(network.contains("10.73.0.200".parse().unwrap()));
        assert!(!network.contains("10.73.1.1".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
        let all = Network::try_from("::/0".to_owned()).unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert_eq!(Network::try_from("10.0.0.1".to_owned()).unwrap().prefix, 32);
        for text in ["10.0.0.1/33", "10.0.0/24", "::1/129", "10.0.0.1/x", ""] {
            assert!(
                Network::try_from(text.to_owned()).is_err(),
                "{text:?} was accepted"
            );
        }
    }

    #[test]
    fn rates_are_bits_per_second() {
        for (text, bits) in [
            ("50 Mbit/s", 50_000_000),
            ("800kbit/s", 800_000),
            ("1.5 Gbit/s", 1_500_000_000),
            ("7", 7),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bits)), "{text}");
        }
        for text in ["", "fast", "5 MB/h", "-1", "1e400"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?} was accepted");
        }
        assert_eq!(Rate(9).bytes_per_second(), Some(2));
        assert_eq!(Rate(0).bytes_per_second(), None);
    }

    #[test]
    fn amounts_of_data_are_decimal() {
        assert_eq!("500 GB".parse(), Ok(Size(500_000_000_000)));
        assert_eq!("1.5tb".parse(), Ok(Size(1_500_000_000_000)));
        assert_eq!("7".parse(), Ok(Size(7)));
        assert!("much".parse::<Size>().is_err() && "5 GiB".parse::<Size>().is_err());
    }
}
