//! The client's WANs: what the kernel says of interfaces becomes sockets, and calls of the engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sennit_engine::Client;
use sennit_engine::ids::{NetworkPath, SocketId, WanId};
use sennit_engine::settings::Priority::Off;
use sennit_engine::settings::{BytesPerSecond, WanSettings};
use serde_json::json;
use tracing::{info, warn};

use crate::config::{ClientConfig, Mode, Priority};
use crate::control::EventLog;
use crate::data::Handle;
use crate::netlink::Family;
use crate::saved::Saved;
use crate::udp::UdpSocket;
use crate::wan::Uplink;

/// The engine as the data path has it: none while no server is joined.
pub(super) type Engine = Option<Client>;

const REFUSED: &str = "the kernel refuses to send";

/// A WAN that has been used.
#[derive(Debug)]
pub(super) struct Wan {
    pub(super) id: WanId,
    /// The uplink that its socket was made for.
    made_for: Uplink,
    network: NetworkPath,
    settings: WanSettings,
    /// Why it cannot be used now.
    pub(super) obstacle: Option<&'static str>,
}

impl Wan {
    pub(super) fn priority(&self) -> sennit_engine::settings::Priority {
        self.settings.priority
    }
}

/// All WANs by the names of their interfaces.
#[derive(Debug, Default)]
pub(super) struct Wans {
    pub(super) used: BTreeMap<String, Wan>,
    /// Interfaces with a default route that have no socket yet, and why.
    pub(super) waiting: BTreeMap<String, &'static str>,
    ids: BTreeMap<String, WanId>,
    next_socket: u16,
}

impl Wans {
    /// Makes the WANs what `uplinks` says. `servers`: the server's addresses, the preferred one first.
    pub(super) fn update(
        &mut self,
        uplinks: &[Uplink],
        servers: &[SocketAddr],
        config: &ClientConfig,
        saved: &Saved,
        data: &Handle<Engine>,
        events: &mut EventLog,
    ) {
        self.waiting.clear();
        let gone: Vec<String> = self
            .used
            .keys()
            .filter(|device| !uplinks.iter().any(|uplink| uplink.device == **device))
            .cloned()
            .collect();
        for device in gone {
            info!(wan = device, "left: it has no default route any more");
            events.add("wan", json!({ "wan": device, "state": "left" }));
            self.remove(&device, data);
        }
        for uplink in uplinks {
            let settings = settings(config, saved, &uplink.device);
            if settings.priority == Off {
                // Not a byte: the engine does not even know of it.
                self.remove(&uplink.device, data);
                self.waiting.insert(uplink.device.clone(), "turned off");
                continue;
            }
            if let Some(obstacle) = uplink.obstacle {
                self.obstruct(&uplink.device, obstacle.text(), data, events);
                continue;
            }
            let remote = servers.iter().find(|server| uplink.has(Family::of(server.ip())));
            let Some(remote) = remote.copied() else {
                let why = if servers.is_empty() {
                    "the server's address is not known"
                } else {
                    "no address of the server's IP version"
                };
                self.obstruct(&uplink.device, why, data, events);
                continue;
            };
            self.use_uplink(uplink, remote, settings, data, events);
        }
    }

    /// A socket could not send: is taken for down until the kernel says something else.
    pub(super) fn unreachable(&mut self, socket: SocketId, data: &Handle<Engine>, events: &mut EventLog) {
        let device = self
            .used
            .iter()
            .find(|(_, wan)| wan.network.socket == socket)
            .map(|(device, _)| device.clone());
        if let Some(device) = device {
            self.obstruct(&device, REFUSED, data, events);
        }
    }

    /// Whether a WAN is out because of what a socket met: that may be over without the kernel telling.
    /// Sends something to ports of the server by the first WAN that carries data.
    pub(super) fn knock(&self, uplinks: &[Uplink], servers: &[SocketAddr], ports: &[u16]) {
        let carries = |uplink: &&Uplink| {
            let wan = self.used.get(&uplink.device);
            wan.is_some_and(|wan| wan.obstacle.is_none() && wan.priority() != Off)
        };
        if let Some(uplink) = uplinks.iter().find(carries) {
            super::knock::knock(uplink, servers, ports);
        }
    }

    pub(super) fn any_refused(&self) -> bool {
        self.used.values().any(|wan| wan.obstacle == Some(REFUSED))
    }

    /// Forgets all, for an engine that knows none.
    pub(super) fn forget(&mut self, data: &Handle<Engine>) {
        for (_, wan) in std::mem::take(&mut self.used) {
            data.remove_socket(wan.network.socket);
        }
    }

    /// The interface of a WAN.
    pub(super) fn device(&self, id: WanId) -> Option<&str> {
        self.ids
            .iter()
            .find(|(_, known)| **known == id)
            .map(|(device, _)| device.as_str())
    }

    fn obstruct(&mut self, device: &str, why: &'static str, data: &Handle<Engine>, events: &mut EventLog) {
        let Some(wan) = self.used.get_mut(device) else {
            self.waiting.insert(device.to_owned(), why);
            return;
        };
        if wan.obstacle.replace(why).is_none() {
            let id = wan.id;
            data.engine(move |engine, now| {
                if let Some(engine) = engine {
                    engine.set_link(now, id, false);
                }
            });
            info!(wan = device, why, "down");
            events.add("wan", json!({ "wan": device, "state": "down", "why": why }));
        }
    }

    fn use_uplink(
        &mut self,
        uplink: &Uplink,
        remote: SocketAddr,
        settings: WanSettings,
        data: &Handle<Engine>,
        events: &mut EventLog,
    ) {
        let device = &uplink.device;
        if let Some(wan) = self.used.get_mut(device)
            && wan.made_for == *uplink
            && wan.network.remote == remote
        {
            let (id, network) = (wan.id, wan.network);
            let back = wan.obstacle.take().is_some();
            if back || wan.settings != settings {
                wan.settings = settings;
                data.engine(move |engine, now| {
                    if let Some(engine) = engine {
                        engine.set_wan(now, id, network, settings);
                        if back {
                            engine.set_link(now, id, true);
                        }
                    }
                });
            }
            if back {
                info!(wan = device, "up");
                events.add("wan", json!({ "wan": device, "state": "up" }));
            }
            return;
        }
        let socket = match UdpSocket::on_device(device, remote.is_ipv6()) {
            Ok(socket) => socket,
            Err(error) => {
                warn!(wan = device, %error, "no socket (sennit needs root)");
                self.waiting.insert(device.clone(), "no socket could be made");
                return;
            }
        };
        // A device that was exchanged, or has another address, is a new path: its socket is a new one.
        let replaced = self.used.remove(device).map(|wan| wan.network.socket);
        let next_id = WanId(self.ids.len() as u16);
        let id = *self.ids.entry(device.clone()).or_insert(next_id);
        self.next_socket = self.next_socket.wrapping_add(1);
        let network = NetworkPath {
            socket: SocketId(self.next_socket),
            local: None,
            remote,
        };
        data.add_socket(network.socket, socket);
        data.engine(move |engine, now| {
            if let Some(engine) = engine {
                engine.set_wan(now, id, network, settings);
            }
        });
        if let Some(replaced) = replaced {
            data.remove_socket(replaced);
        }
        info!(wan = device, "joined");
        events.add("wan", json!({ "wan": device, "state": "joined" }));
        let wan = Wan {
            id,
            made_for: uplink.clone(),
            network,
            settings,
            obstacle: None,
        };
        self.used.insert(device.clone(), wan);
    }

    fn remove(&mut self, device: &str, data: &Handle<Engine>) {
        let Some(wan) = self.used.remove(device) else {
            return;
        };
        let id = wan.id;
        data.engine(move |engine, now| {
            if let Some(engine) = engine {
                engine.remove_wan(now, id);
            }
        });
        data.remove_socket(wan.network.socket);
    }
}

/// What counts for a WAN now.
fn settings(config: &ClientConfig, saved: &Saved, device: &str) -> WanSettings {
    let wan = config.wan(device);
    WanSettings {
        priority: engine_priority(saved.priority(config, device)),
        limit_up: wan.rate_limit_up.bytes_per_second().map(BytesPerSecond),
        limit_down: wan.rate_limit_down.bytes_per_second().map(BytesPerSecond),
        metered: wan.metered,
    }
}

/// The engine's word for a priority.
fn engine_priority(priority: Priority) -> sennit_engine::settings::Priority {
    use sennit_engine::settings::Priority as Engine;
    match priority {
        Priority::Primary => Engine::Primary,
        Priority::Secondary => Engine::Secondary,
        Priority::Backup => Engine::Backup,
        Priority::Off => Engine::Off,
    }
}

/// The engine's word for a mode.
pub(super) fn engine_mode(mode: Mode) -> sennit_engine::settings::Mode {
    match mode {
        Mode::Speed => sennit_engine::settings::Mode::Speed,
        Mode::Redundant => sennit_engine::settings::Mode::Redundant,
    }
}
