//! The server's configuration: where it listens, its inner networks, who may join.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::{
    Allow, Common, DEFAULT_PORT, Encryption, Endpoint, Forward, InterfaceName, KeySource, LogLevel, Network,
    PeerKeys, Protocol, Rate, Size,
};
use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// Everything that the server needs to know. An absent key has its default; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ServerConfig {
    /// What both roles have.
    pub common: Common,
    /// This machine's private key.
    pub key: KeySource,
    /// Where clients reach it from outside, as join codes say it.
    pub public: Vec<Endpoint>,
    /// UDP addresses on which it listens for them.
    pub listen: Vec<SocketAddr>,
    /// Its own inner addresses, with the networks from which clients have theirs.
    pub address: Vec<Network>,
    /// Clients reach the outside by this machine's addresses.
    pub nat: bool,
    /// How the outside finds the clients' IPv6 addresses.
    pub ipv6: Ipv6,
    /// Clients reach the Internet and what is allowed to them, nothing else.
    pub filter: bool,
    /// Other packet filters of this machine get rules that let the tunnel through.
    pub open_filters: bool,
    /// Which ports lead to a client that is the only one.
    pub forward: Forwarding,
    /// Whether clients may do without encryption.
    pub encryption: Encryption,
    /// What is left to a client that has used up its quota.
    pub quota_rate: Rate,
    /// Who may join.
    pub clients: Vec<ClientEntry>,
}

/// How the outside finds the clients' IPv6 addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    /// It does not: they have this machine's address outside.
    #[default]
    Nat66,
    /// Their network is routed to this machine.
    Routed,
    /// They are addresses of the network that this machine's uplink is in: it answers neighbours for them.
    Ndp,
}

/// Which ports lead to a client that is the only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// 1024 to 65000, but for those that this machine uses.
    #[default]
    Auto,
    /// Only those that are written at the client.
    None,
}

impl ServerConfig {
    /// Whether this is an inner address of the server, or of a client that stands in its configuration.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.address.iter().any(|network| network.address == address)
            || self
                .clients
                .iter()
                .any(|client| client.address.contains(&address))
    }
}

/// A client that may join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEntry {
    /// What people call it.
    pub name: String,
    /// Who it is.
    pub keys: PeerKeys,
    /// Its inner addresses.
    pub address: Vec<IpAddr>,
    /// Ports of this machine that lead to it.
    pub forward: Vec<Forward>,
    /// What it may reach beyond the Internet.
    pub allow: Vec<Allow>,
    /// How fast it may be, and how much it may carry.
    pub limits: ClientLimits,
}

/// How fast a client may be, and how much it may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// The most that it may send.
    pub up: Rate,
    /// The most that it is sent.
    pub down: Rate,
    /// Bytes a calendar month, both directions together, before it is slowed down.
    pub quota: Option<u64>,
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
    public: Vec<Endpoint>,
    listen: Vec<SocketAddr>,
    address: Vec<Network>,
    nat: bool,
    ipv6: Ipv6,
    filter: bool,
    open_filters: bool,
    forward: Forwarding,
    encryption: Encryption,
    quota_rate: Rate,
    client: Vec<WrittenClient>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenClient {
    name: String,
    public_key: PublicKey,
    preshared_key: Option<PresharedKey>,
    address: Vec<IpAddr>,
    #[serde(default)]
    forward: Vec<Forward>,
    #[serde(default)]
    allow: Vec<Allow>,
    #[serde(default)]
    limit_up: Rate,
    #[serde(default)]
    limit_down: Rate,
    quota: Option<Size>,
}

/// Enough for messages and what must work.
const QUOTA_RATE: Rate = Rate(1_000_000);

impl Default for Written {
    fn default() -> Self {
        let Common {
            interface,
            log_level,
            control,
            state_dir,
        } = Common::default();
        let network = |address: IpAddr, prefix| Network { address, prefix };
        Self {
            interface,
            log_level,
            control,
            state_dir,
            private_key: None,
            private_key_file: None,
            public: Vec::new(),
            listen: vec![SocketAddr::new([0u16; 8].into(), DEFAULT_PORT)],
            address: vec![
                network([10, 73, 0, 1].into(), 24),
                network([0xfd73, 0x656e, 0x6e69, 0x7400, 0, 0, 0, 1].into(), 64),
            ],
            nat: true,
            ipv6: Ipv6::default(),
            filter: true,
            open_filters: false,
            forward: Forwarding::default(),
            encryption: Encryption::default(),
            quota_rate: QUOTA_RATE,
            client: Vec::new(),
        }
    }
}

impl TryFrom<Written> for ServerConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        check_clients(&written)?;
        check_forwards(&written)?;
        if written.listen.is_empty() {
            return Err("listen is empty: clients could not reach this server".to_owned());
        }
        Ok(Self {
            common: Common {
                interface: written.interface,
                log_level: written.log_level,
                control: written.control,
                state_dir: written.state_dir,
            },
            key: KeySource::from_keys(written.private_key, written.private_key_file)?,
            public: written.public,
            listen: written.listen,
            address: written.address,
            nat: written.nat,
            ipv6: written.ipv6,
            filter: written.filter,
            open_filters: written.open_filters,
            forward: written.forward,
            encryption: written.encryption,
            quota_rate: written.quota_rate,
            clients: written
                .client
                .into_iter()
                .map(|client| ClientEntry {
                    name: client.name,
                    keys: PeerKeys {
                        public: client.public_key,
                        preshared: client.preshared_key,
                    },
                    address: client.address,
                    forward: client.forward,
                    allow: client.allow,
                    limits: ClientLimits {
                        up: client.limit_up,
                        down: client.limit_down,
                        quota: client.quota.map(|quota| quota.0).filter(|quota| *quota > 0),
                    },
                })
                .collect(),
        })
    }
}

/// Packets find their client by its address, and clients are told apart by their keys: none may be there twice.
fn check_clients(written: &Written) -> Result<(), String> {
    let mut names = HashSet::new();
    let mut keys = HashSet::new();
    let mut addresses: HashSet<IpAddr> = written.address.iter().map(|network| network.address).collect();
    for client in &written.client {
        let name = &client.name;
        if !names.insert(name) {
            return Err(format!("two clients have the name {name:?}"));
        }
        if !keys.insert(client.public_key.as_bytes()) {
            return Err(format!("client {name:?} has the public_key of another client"));
        }
        if client.address.is_empty() {
            return Err(format!("client {name:?} has no address"));
        }
        for address in &client.address {
            if !addresses.insert(*address) {
                return Err(format!(
                    "client {name:?} has the address {address} of another client or of the server"
                ));
            }
            if !written.address.iter().any(|network| network.contains(*address)) {
                return Err(format!(
                    "client {name:?} has the address {address}, which is in none of the server's networks"
                ));
            }
        }
    }
    Ok(())
}

/// A packet from outside can go one way only, and that to the tunnel itself is not given away.
fn check_forwards(written: &Written) -> Result<(), String> {
    let own = |forward: &Forward| {
        let mut ports = written.listen.iter().map(SocketAddr::port);
        ports.find(|port| {
            forward.protocol.meets(Protocol::Udp) && (forward.first..=forward.last).contains(port)
        })
    };
    let mut known: Vec<(&str, Forward)> = Vec::new();
    for client in &written.client {
        for forward in &client.forward {
            if let Some(port) = own(forward) {
                return Err(format!(
                    "client {:?} has the forward {forward}, but on UDP port {port} the server itself listens",
                    client.name
                ));
            }
            if let Some((name, other)) = known.iter().find(|(_, other)| other.meets(forward)) {
                return Err(format!(
                    "client {:?} has the forward {forward}, which meets {other} of {name:?}",
                    client.name
                ));
            }
            known.push((&client.name, *forward));
        }
    }
    Ok(())
}
