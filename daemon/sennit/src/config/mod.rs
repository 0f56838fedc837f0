//! The configuration file: TOML in, checked types out. Opens nothing but that file.

mod allow;
mod client;
mod forward;
mod server;
mod values;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use allow::Allow;
pub use client::{AUTO, ClientConfig, ServerConfigOfClient, WanConfig, WanPatterns};
pub use forward::{Forward, Protocol};
pub use server::{ClientEntry, ClientLimits, Forwarding, Ipv6, ServerConfig};
pub use values::{
    DEFAULT_PORT, Encryption, Endpoint, InterfaceName, InterfacePattern, LogLevel, Mode, Network, Priority,
    Rate, RoutePolicy, Size,
};

use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::{Error, Result};

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/sennit/sennit.toml";

/// Where the private key lies unless the configuration says otherwise.
pub const DEFAULT_KEY_PATH: &str = "/etc/sennit/private.key";

/// What both roles have, and all that the commands for a running daemon need to know.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Common {
    /// Name of the tunnel interface.
    pub interface: InterfaceName,
    /// The least severe events that are logged.
    pub log_level: LogLevel,
    /// The Unix socket of the JSON API.
    pub control: PathBuf,
    /// Folder of what must outlive the process: settings changed while running, and what `down` undoes.
    pub state_dir: PathBuf,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            interface: InterfaceName::default(),
            log_level: LogLevel::default(),
            control: "/run/sennit/control.sock".into(),
            state_dir: "/var/lib/sennit".into(),
        }
    }
}

impl Common {
    /// Reads only what both roles have; keys of the roles are passed over.
    pub fn read(file: Option<&Path>) -> Result<Self> {
        read(file)
    }
}

/// Reads and checks a file as `T`; without a name the one at [`DEFAULT_PATH`], and if that does not exist nothing is
/// set.
pub fn read<T: DeserializeOwned>(file: Option<&Path>) -> Result<T> {
    let default = Path::new(DEFAULT_PATH);
    let path = match file {
        Some(path) => path,
        None if matches!(default.try_exists(), Ok(false)) => return parse("", default),
        None => default,
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::user(
            format!("failed to read the configuration {}: {error}", path.display()),
            "name a TOML file that this user can read: sennit run client --config FILE (sennit setup writes one)",
        )
    })?;
    parse(&text, path)
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        Error::user(
            format!("{}:{line}:{column}: {}", path.display(), error.message()),
            nearest_known(error.message()).map_or_else(
                || format!("correct line {line}; docs/configuration.md lists every key"),
                |nearest| format!("did you mean `{nearest}`?"),
            ),
        )
    })
}

/// Out of serde's "unknown field `x`, expected one of `a`, `b`" the known name that is nearest to `x`.
fn nearest_known(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let typed = names.next()?;
    names
        .map(|known| (strsim::damerau_levenshtein(typed, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 3)
        .map(|(_, known)| known)
}

/// Line and column (in characters), both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// Where this machine's private key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// It stands in the configuration.
    Inline(PrivateKey),
    /// It stands in a file of its own.
    File(PathBuf),
}

impl KeySource {
    fn from_keys(inline: Option<PrivateKey>, file: Option<PathBuf>) -> Result<Self, String> {
        match (inline, file) {
            (Some(_), Some(_)) => Err("private_key and private_key_file are both set: keep one".to_owned()),
            (Some(key), None) => Ok(Self::Inline(key)),
            (None, file) => Ok(Self::File(file.unwrap_or_else(|| DEFAULT_KEY_PATH.into()))),
        }
    }

    /// The key itself.
    pub fn load(&self) -> Result<PrivateKey> {
        match self {
            Self::Inline(key) => Ok(key.clone()),
            Self::File(path) => PrivateKey::read(path),
        }
    }
}

/// The keys of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerKeys {
    /// Who the peer is.
    pub public: PublicKey,
    /// A secret that both ends know besides, against a future that breaks the key exchange.
    pub preshared: Option<PresharedKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: DeserializeOwned>(text: &str) -> Error {
        match parse::<T>(text, Path::new("sennit.toml")) {
            Ok(_) => panic!("this configuration is wrong:\n{text}"),
            Err(error) => error,
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config: ClientConfig = parse("# nothing set\n", Path::new("sennit.toml")).unwrap();
        assert_eq!(config.common, Common::default());
        assert_eq!(config.common.interface.as_str(), "sennit0");
        assert!(config.server.is_none());
    }

    #[test]
    fn a_client_reads_every_key() {
        let config: ClientConfig = parse(
            r#"
            interface = "bond1"
            log_level = "debug"
            private_key = "gAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAUE="
            control = "/tmp/c.sock"
            state_dir = "/tmp/state"
            mode = "redundant"
            encryption = "off"
            route = "none"
            direct_fallback = true
            lan = ["br-lan"]
            upnp_leases = "/var/run/miniupnpd.leases"
            public_address_hook = "/usr/lib/sennit/public-address"
            [server]
            address = "203.0.113.5"
            public_key = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
            preshared_key = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
            [wans]
            include = ["eth*"]
            exclude = ["eth9"]
            [wan.eth1]
            priority = "backup"
            rate_limit_up = "50 Mbit/s"
            rate_limit_down = 1000000
            metered = true
            "#,
            Path::new("sennit.toml"),
        )
        .unwrap();
        assert_eq!(config.common.interface.as_str(), "bond1");
        assert_eq!(config.mode, Mode::Redundant);
        assert_eq!(config.encryption, Encryption::Off);
        assert_eq!(config.route, RoutePolicy::None);
        assert!(config.wans.take("eth1") && !config.wans.take("eth9") && !config.wans.take("wlan0"));
        let wan = config.wan("eth1");
        assert_eq!((wan.priority, wan.metered), (Priority::Backup, true));
        assert_eq!(wan.rate_limit_up.bytes_per_second(), Some(6_250_000));
        assert_eq!(config.wan("eth2"), WanConfig::default());
        assert_eq!(config.server.unwrap().address.port, DEFAULT_PORT);
    }

    #[test]
    fn a_server_reads_every_key() {
        let config: ServerConfig = parse(
            r#"
            listen = ["[::]:7300"]
            address = ["10.73.0.1/24", "fd73:656e:6e69:7400::1/64"]
            nat = false
            [[client]]
            name = "boat"
            public_key = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
            address = ["10.73.0.2", "fd73:656e:6e69:7400::2"]
            limit_down = "20 Mbit/s"
            quota = "500 GB"
            "#,
            Path::new("sennit.toml"),
        )
        .unwrap();
        assert!(!config.nat);
        assert_eq!(config.clients[0].name, "boat");
        assert_eq!(config.clients[0].address.len(), 2);
        let limits = config.clients[0].limits;
        assert_eq!(limits.down.bytes_per_second(), Some(2_500_000));
        assert_eq!((limits.up, limits.quota), (Rate(0), Some(500_000_000_000)));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
        let error = refusal::<ClientConfig>("interface = \"bond1\"\n  intreface = \"x\"\n");
        assert!(
            error
                .to_string()
                .starts_with("sennit.toml:2:3: unknown field `intreface`"),
            "{error}"
        );
        assert_eq!(error.hint(), "did you mean `interface`?");
        let error = refusal::<ClientConfig>("mode = \"redundand\"");
        assert_eq!(error.hint(), "did you mean `redundant`?");
    }

    #[test]
    fn wrong_types_and_values_are_named_with_their_place() {
        let refused = |text: &str| refusal::<ClientConfig>(text).to_string();
        assert!(refused("interface = 7").starts_with("sennit.toml:1:13: invalid type: integer `7`"));
        assert!(refused("\nlog_level = \"loud\"").starts_with("sennit.toml:2:13: unknown variant `loud`"));
        assert!(
            refused("interface = \"a\"\ninterface = \"b\"").starts_with("sennit.toml:2:1: duplicate key")
        );
        let key = refused("[server]\naddress = \"h\"\npublic_key = \"short\"\n");
        assert!(
            key.starts_with("sennit.toml:3:14: ") && key.contains("44 characters"),
            "{key}"
        );
    }

    #[test]
    fn two_clients_with_one_address_name_or_key_are_refused() {
        let client = |name: &str, key: &str, address: &str| {
            format!("[[client]]\nname = \"{name}\"\npublic_key = \"{key}\"\naddress = [\"{address}\"]\n")
        };
        let (a, b) = (
            "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=",
            "gAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAUE=",
        );
        let head = "address = [\"10.73.0.1/24\"]\n";
        for (second, named) in [
            (client("x", b, "10.73.0.3"), "x"),
            (client("y", a, "10.73.0.3"), "public_key"),
            (client("y", b, "10.73.0.2"), "10.73.0.2"),
            (client("y", b, "10.73.0.1"), "10.73.0.1"),
            (client("y", b, "10.9.0.2"), "10.9.0.2"),
        ] {
            let error = refusal::<ServerConfig>(&format!("{head}{}{second}", client("x", a, "10.73.0.2")));
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error =
            Common::read(Some(Path::new("/nonexistent/sennit.toml"))).expect_err("there is no such file");
        assert!(error.to_string().contains("/nonexistent/sennit.toml"));
    }

    #[test]
    fn positions_count_characters_and_survive_any_offset() {
        assert_eq!(position("ä = 1\nb", 3), (1, 3));
        assert_eq!(position("a\nbc", 3), (2, 2));
        assert_eq!(position("a\n", 99), (2, 1));
        assert_eq!(position("ä", 1), (1, 2));
    }
}
