//! The client's configuration: which server, which WANs, what of the traffic.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::{
    Common, Encryption, Endpoint, InterfaceName, InterfacePattern, KeySource, LogLevel, Mode, PeerKeys,
    Priority, Rate, RoutePolicy,
};
use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// The choice of a server by measurement, where a name could stand.
pub const AUTO: &str = "auto";

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
    /// The other end: the first of `servers`, or the one that was chosen since; `None`: none is joined yet.
    pub server: Option<ServerConfigOfClient>,
    /// All servers that this client may use.
    pub servers: Vec<ServerConfigOfClient>,
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
    /// What the user calls it; its address if the user does not.
    pub name: String,
    /// Where in the world it is, as the user says: one may be chosen by it.
    pub region: Option<String>,
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
    server: OneOrMany,
    wans: WanPatterns,
    wan: BTreeMap<String, WanConfig>,
}

/// `[server]` once, or `[[server]]` as often as there are servers.
#[derive(Default)]
struct OneOrMany(Vec<WrittenServer>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[server], or [[server]] for each of several")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany, A::Error> {
                let server = WrittenServer::deserialize(MapAccessDeserializer::new(map))?;
                Ok(OneOrMany(vec![server]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenServer {
    name: Option<String>,
    region: Option<String>,
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
            server: OneOrMany::default(),
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
        let servers = servers(written.server.0)?;
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
            server: servers.first().cloned(),
            servers,
            wans: written.wans,
            wan: written.wan,
        })
    }
}

/// They are chosen by their names, which are therefore not the same, nor that of a region or of the automatic choice.
fn servers(written: Vec<WrittenServer>) -> Result<Vec<ServerConfigOfClient>, String> {
    let mut servers: Vec<ServerConfigOfClient> = Vec::new();
    for server in written {
        let name = server.name.unwrap_or_else(|| server.address.host.clone());
        if name == AUTO || servers.iter().any(|known| known.name == name) {
            return Err(format!(
                "two servers are called {name:?}: give each a name of its own"
            ));
        }
        servers.push(ServerConfigOfClient {
            name,
            region: server.region,
            address: server.address,
            keys: PeerKeys {
                public: server.public_key,
                preshared: server.preshared_key,
            },
        });
    }
    let names = |name: &String| servers.iter().any(|server| server.name == *name);
    if let Some(region) = servers
        .iter()
        .filter_map(|server| server.region.as_ref())
        .find(|region| names(region) || *region == AUTO)
    {
        return Err(format!(
            "{region:?} is a region and a server's name: give the region another one"
        ));
    }
    Ok(servers)
}
