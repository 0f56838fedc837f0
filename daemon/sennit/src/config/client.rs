//! The client's configuration: which server, which WANs, what of the traffic.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{
    Common, Encryption, Endpoint, InterfaceName, InterfacePattern, KeySource, LogLevel, Mode, PeerKeys,
    Priority, Rate, RoutePolicy,
};
use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// Everything that the client needs to know. An absent key has its default; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ClientConfig {
    /// What both roles have.
    pub common: Common,
    /// This machine's private key.
    pub key: KeySource,
    /// How packets are spread over paths.
    pub mode: Mode,
    /// Whether what goes through the tunnel is encrypted.
    pub encryption: Encryption,
    /// What of this machine's traffic the tunnel gets.
    pub route: RoutePolicy,
    /// While no server answers, traffic takes the WANs directly, in clear.
    pub direct_fallback: bool,
    /// LAN ports whose receive offloads are set so that forwarded traffic reaches the tunnel in large pieces.
    pub lan: Vec<InterfaceName>,
    /// The file in which miniupnpd lists its port mappings, to be passed on to the server.
    pub upnp_leases: Option<PathBuf>,
    /// A program that is called with the server's public address whenever that is another one.
    pub public_address_hook: Option<PathBuf>,
    /// The other end; `None`: none is joined yet.
    pub server: Option<ServerConfigOfClient>,
    /// Which interfaces with a default route become WANs.
    pub wans: WanPatterns,
    wan: BTreeMap<String, WanConfig>,
}

impl ClientConfig {
    /// The settings of the WAN on an interface.
    pub fn wan(&self, device: &str) -> WanConfig {
        self.wan.get(device).copied().unwrap_or_default()
    }
}

/// The server that a client joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfigOfClient {
    /// Where it is.
    pub address: Endpoint,
    /// Who it is.
    pub keys: PeerKeys,
}

/// Which interfaces with a default route become WANs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WanPatterns {
    include: Vec<InterfacePattern>,
    exclude: Vec<InterfacePattern>,
}

impl Default for WanPatterns {
    fn default() -> Self {
        Self {
            include: vec![InterfacePattern::new("*")],
            exclude: vec![InterfacePattern::new("docker*")],
        }
    }
}

impl WanPatterns {
    /// Whether an interface of this name may be a WAN.
    pub fn take(&self, device: &str) -> bool {
        let any = |patterns: &[InterfacePattern]| patterns.iter().any(|pattern| pattern.matches(device));
        any(&self.include) && !any(&self.exclude)
    }
}

/// Settings of one WAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WanConfig {
    /// When it carries traffic.
    pub priority: Priority,
    /// The most that may be sent.
    pub rate_limit_up: Rate,
    /// The most that the server may send.
    pub rate_limit_down: Rate,
    /// Its bytes cost money: nothing is sent only to measure.
    pub metered: bool,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    interface: InterfaceName,
    log_level: LogLevel,
    control: PathBuf,
    state_dir: PathBuf,
    private_key: Option<PrivateKey>,
    private_key_file: Option<PathBuf>,
    mode: Mode,
    encryption: Encryption,
    route: RoutePolicy,
    direct_fallback: bool,
    lan: Vec<InterfaceName>,
    upnp_leases: Option<PathBuf>,
    public_address_hook: Option<PathBuf>,
    server: Option<WrittenServer>,
    wans: WanPatterns,
    wan: BTreeMap<String, WanConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenServer {
    address: Endpoint,
    public_key: PublicKey,
    preshared_key: Option<PresharedKey>,
}

impl Default for Written {
    fn default() -> Self {
        let Common {
            interface,
            log_level,
            control,
            state_dir,
        } = Common::default();
        Self {
            interface,
            log_level,
            control,
            state_dir,
            private_key: None,
            private_key_file: None,
            mode: Mode::default(),
            encryption: Encryption::default(),
            route: RoutePolicy::default(),
            direct_fallback: false,
            lan: Vec::new(),
            upnp_leases: None,
            public_address_hook: None,
            server: None,
            wans: WanPatterns::default(),
            wan: BTreeMap::new(),
        }
    }
}

impl TryFrom<Written> for ClientConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if let Some(name) = written
            .wan
            .keys()
            .find(|name| InterfaceName::try_from((*name).clone()).is_err())
        {
            return Err(format!("[wan.{name}]: {name:?} is not the name of an interface"));
        }
        Ok(Self {
            common: Common {
                interface: written.interface,
                log_level: written.log_level,
                control: written.control,
                state_dir: written.state_dir,
            },
            key: KeySource::from_keys(written.private_key, written.private_key_file)?,
            mode: written.mode,
            encryption: written.encryption,
            route: written.route,
            direct_fallback: written.direct_fallback,
            lan: written.lan,
            upnp_leases: written.upnp_leases,
            public_address_hook: written.public_address_hook,
            server: written.server.map(|server| ServerConfigOfClient {
                address: server.address,
                keys: PeerKeys {
                    public: server.public_key,
                    preshared: server.preshared_key,
                },
            }),
            wans: written.wans,
            wan: written.wan,
        })
    }
}
