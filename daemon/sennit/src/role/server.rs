//! The server: lets its clients in, and lets their traffic out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sennit_engine::Server as Engine;
use sennit_engine::event::{Event, SessionStatus};
use sennit_engine::handshake;
use sennit_engine::ids::{ClientId, SocketId};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::clients::Clients;
use super::mappings::{Mappings, Taken};
use super::meter::Meter;
use super::server_system::ServerSystem;
use super::signals::{Reason, Signals};
use super::status::{self, Suspicions, Throughput};
use super::{End, Role, Uptime, announce, interface_lost, open_tunnel};
use crate::config::{self, Forward, LogLevel, ServerConfig};
use crate::control::{Answer, EventLog, Listener, Question, Request, VERSION};
use crate::data::{Clock, DataPath, Handle, Notice};
use crate::join::{ToClient, ToServer};
use crate::port;
use crate::registry::{self, Action, Month};
use crate::system::{self, Guest, Undo};
use crate::tun::Tun;
use crate::udp::UdpSocket;
use crate::{Error, Result};

struct Server {
    file: Option<PathBuf>,
    config: ServerConfig,
    system: ServerSystem,
    data: Handle<Engine>,
    sockets: BTreeMap<SocketAddr, SocketId>,
    next_socket: u16,
    clients: Clients,
    meter: Meter,
    mappings: Mappings,
    events: EventLog,
    suspicions: Suspicions,
    throughput: BTreeMap<ClientId, Throughput>,
    uptime: Uptime,
}

/// Runs the server.
pub(super) async fn run(
    mut signals: Signals,
    file: Option<&Path>,
    apply_log_level: impl Fn(LogLevel),
) -> Result<()> {
    let config: ServerConfig = config::read(file)?;
    apply_log_level(config.common.log_level);
    let private = config.key.load()?;
    let engine = sennit_engine::ServerConfig {
        private_key: handshake::PrivateKey::from_bytes(private.as_bytes()),
        gateways: config.address.iter().map(|network| network.address).collect(),
        aes_is_fast: super::aes_is_fast(),
        encryption: config.encryption.into(),
    };
    let seed = super::seed()?;
    let mut control = Listener::bind(&config.common.control)?;
    let mut undo = Undo::open(&config.common.state_dir)?;
    let tun = open_tunnel(&mut undo, &config.common)?;
    let tunnel = tun.index();
    announce(Role::Server, &tun);
    let mut data = DataPath::start(tun, move |now| Engine::new(engine, now, seed))?;
    let mut server = Server {
        file: file.map(Path::to_owned),
        system: ServerSystem::open(undo, tunnel)?,
        data: data.handle.clone(),
        sockets: BTreeMap::new(),
        next_socket: 0,
        clients: Clients::open(&config, data.handle.clone())?,
        meter: Meter::new(data.handle.clone()),
        mappings: Mappings::default(),
        events: EventLog::new(),
        suspicions: Suspicions::default(),
        throughput: BTreeMap::new(),
        uptime: Uptime(Clock::new()),
        config,
    };
    let config = server.config.clone();
    server.apply(&config)?;
    info!(clients = server.clients.iter().count(), "listening");
    let (end, answer) = server
        .until_end(&mut signals, &mut data.notices, &mut control, apply_log_level)
        .await?;
    if let Err(error) = server.settle_accounts().await {
        error!("{error} (hint: {})", error.hint());
    }
    let reason = end.reason();
    data.handle.engine(move |engine, _| engine.close(reason));
    data.stop();
    if let (End::Down, Some(answer)) = (end, answer) {
        let outcome = system::down(&server.config.common);
        super::answer_last(answer, outcome).await;
    }
    Ok(())
}

impl Server {
    async fn until_end(
        &mut self,
        signals: &mut Signals,
        notices: &mut UnboundedReceiver<Notice<(Option<ClientId>, Event)>>,
        control: &mut Listener,
        apply_log_level: impl Fn(LogLevel),
    ) -> Result<(End, Option<tokio::sync::oneshot::Sender<Answer>>)> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut minute = interval(Duration::from_secs(60));
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                reason = signals.next() => match reason {
                    Reason::Stop(signal) => {
                        info!(
                            signal, interface = %self.config.common.interface,
                            "stopping; the interface stays (sennit down removes it)"
                        );
                        return Ok((End::Signal, None));
                    }
                    Reason::Reload => match self.reload() {
                        Ok(changed) => {
                            apply_log_level(self.config.common.log_level);
                            info!(changed, "configuration read again");
                        }
                        Err(refusal) => error!(
                            "the new configuration is refused, the old one stays: {refusal} (hint: {})",
                            refusal.hint()
                        ),
                    }
                },
                notice = notices.recv() => match notice {
                    Some(Notice::Event((client, event))) => self.handle_event(client, event),
                    Some(Notice::Unreachable(socket)) => debug!(socket = socket.0, "the kernel refuses to send"),
                    Some(Notice::TunnelLost(error)) => return Err(interface_lost(&self.config.common, &error)),
                    None => return Err(Error::environment("the data path has ended", "this is a bug of sennit: please report it")),
                },
                question = control.next() => {
                    let Question { request, answer, events } = question;
                    if request == (Request::Down {}) {
                        info!("going down: everything that was set is removed");
                        return Ok((End::Down, Some(answer)));
                    }
                    let _ = events.send(self.events.listen());
                    let _ = answer.send(self.answer(request).await);
                }
                _ = tick.tick() => {
                    if let Err(error) = self.clients.tick(&self.config) {
                        error!("{error} (hint: {})", error.hint());
                    }
                    if let Err(error) = self.measure().await {
                        error!("{error} (hint: {})", error.hint());
                    }
                    let load = load();
                    self.data.engine(move |engine, _| engine.set_load(load));
                    self.sample().await;
                }
                _ = minute.tick() => self.system.look_after(),
            }
        }
    }

    /// Makes sockets, addresses, firewall and clients what the configuration says.
    fn apply(&mut self, config: &ServerConfig) -> Result<()> {
        self.admit(config)?;
        let guests = self.guests(config);
        self.system.apply(config, guests)?;
        // Nobody comes in before the firewall is there.
        self.listen(config)
    }

    /// The clients, with the ports that hosts behind them asked for.
    fn guests(&mut self, config: &ServerConfig) -> Vec<Guest> {
        let mut guests = self.clients.guests();
        let ids: Vec<ClientId> = self.clients.iter().map(|(_, id, _)| id).collect();
        let with_ids = |(id, guest): (&ClientId, &Guest)| {
            let id = *id;
            guest
                .forwards
                .iter()
                .map(move |forward| (id, *forward))
                .collect::<Vec<_>>()
        };
        self.mappings.settle(&Taken {
            own: config.listen.iter().map(SocketAddr::port).collect(),
            kept: port::waiting(),
            fixed: ids.iter().zip(&guests).flat_map(with_ids).collect(),
        });
        for (id, guest) in ids.iter().zip(&mut guests) {
            guest.forwards.extend(self.mappings.of(*id));
        }
        guests
    }

    /// A client's hosts want these ports of the server.
    fn map_ports(&mut self, client: ClientId, forwards: Vec<Forward>) -> Result<()> {
        if !self.clients.iter().any(|(_, id, _)| id == client) {
            // The holder of a join code has no hosts here.
            return Ok(());
        }
        self.mappings.ask(client, forwards);
        let config = self.config.clone();
        let guests = self.guests(&config);
        self.system.set_firewall(&config, guests)?;
        let refused = self.mappings.refused(client);
        let name = self.name(client);
        let given = self.mappings.of(client).count();
        info!(
            client = name,
            given,
            refused = refused.len(),
            "ports for hosts behind the client"
        );
        self.clients.say(client, ToClient::Ports { refused });
        Ok(())
    }

    /// Keeps all that was counted until now.
    async fn settle_accounts(&mut self) -> Result<()> {
        self.measure().await?;
        self.meter.save(self.clients.registry())
    }

    /// Counts what clients used, and makes their limits what they should be.
    async fn measure(&mut self) -> Result<()> {
        let clients = self.clients.iter().map(|(_, id, entry)| (id, entry.clone()));
        let month = Month::of(registry::now());
        let (registry, slow) = (self.clients.registry(), self.config.quota_rate);
        self.meter.look(registry, clients, slow, month).await
    }

    /// Opens sockets at the addresses where there are none yet, then closes those that are not wanted any more.
    fn listen(&mut self, config: &ServerConfig) -> Result<()> {
        for address in &config.listen {
            if self.sockets.contains_key(address) {
                continue;
            }
            let socket = open_socket(*address)?;
            self.next_socket = self.next_socket.wrapping_add(1);
            let id = SocketId(self.next_socket);
            self.data.add_socket(id, socket);
            self.sockets.insert(*address, id);
        }
        let data = &self.data;
        self.sockets.retain(|address, id| {
            let wanted = config.listen.contains(address);
            if !wanted {
                data.remove_socket(*id);
            }
            wanted
        });
        Ok(())
    }

    /// Tells the engine who may connect, and the firewall.
    fn admit(&mut self, config: &ServerConfig) -> Result<()> {
        for gone in self.clients.admit(config)? {
            self.throughput.remove(&gone);
            self.mappings.forget(gone);
        }
        Ok(())
    }

    /// Reads the configuration and makes what it changes; a wrong one changes nothing.
    fn reload(&mut self) -> Result<bool> {
        let new: ServerConfig = config::read(self.file.as_deref())?;
        let changed = new != self.config;
        if new.common.interface != self.config.common.interface {
            self.system.undo.remember_interface(&new.common.interface)?;
            let tun = Tun::create(&new.common.interface)?;
            self.system.tunnel = tun.index();
            announce(Role::Server, &tun);
            self.data.replace_tun(tun);
            let old = self.config.common.interface.clone();
            self.data.engine(move |_, _| {
                if let Err(error) = Tun::remove(&old) {
                    warn!("{error}");
                }
            });
        }
        let fixed = |config: &ServerConfig| {
            (
                config.common.control.clone(),
                config.common.state_dir.clone(),
                config.key.clone(),
                config.encryption,
            )
        };
        if fixed(&new) != fixed(&self.config) {
            warn!("control, state_dir, encryption and the private key are taken over by the next start only");
        }
        self.apply(&new)?;
        self.config = new;
        Ok(changed)
    }

    fn handle_event(&mut self, of: Option<ClientId>, event: Event) {
        match event {
            Event::ClientConnected { client, resumed } => {
                let is_client = self.clients.connected(client, &self.config);
                if let Err(error) = &is_client {
                    error!("{error} (hint: {})", error.hint());
                }
                if is_client == Ok(false) {
                    debug!("the holder of a join code is here");
                    return;
                }
                if !resumed {
                    self.meter.greet(client);
                }
                let name = self.name(client);
                info!(client = name, resumed, "connected");
                self.events
                    .add("connected", json!({ "client": name, "resumed": resumed }));
            }
            Event::Disconnected | Event::PeerLeft(_) => {
                let name = of.map(|client| self.name(client)).unwrap_or_default();
                info!(client = name, "disconnected");
                self.events.add("disconnected", json!({ "client": name }));
            }
            Event::PathChanged { path, state, why, .. } => {
                let name = of.map(|client| self.name(client)).unwrap_or_default();
                let word = status::condition(state);
                if self.suspicions.is_news(of, path, state) {
                    info!(client = name, path = path.0, state = word, why, "path");
                } else {
                    debug!(client = name, path = path.0, state = word, why, "path");
                }
                self.events.add(
                    "path",
                    json!({ "client": name, "path": path.0, "state": status::condition(state), "why": why }),
                );
            }
            Event::PathMoved { path, network } => {
                let name = of.map(|client| self.name(client)).unwrap_or_default();
                info!(client = name, path = path.0, "path has a new address");
                debug!(client = name, path = path.0, remote = %network.remote, "path has a new address");
                self.events
                    .add("path_moved", json!({ "client": name, "path": path.0 }));
            }
            Event::Control { message } => {
                if let Some(client) = of {
                    self.handle_message(client, &message);
                }
            }
            Event::Connected { .. } => {}
        }
    }

    fn name(&self, client: ClientId) -> String {
        self.clients.name(client)
    }

    /// Clients of another configuration or registry.
    fn administer(&mut self, action: Action) -> Answer {
        let changes = action.changes();
        let answer = action.perform(self.clients.registry(), &self.config)?;
        if changes {
            let config = self.config.clone();
            self.apply(&config)?;
        }
        Ok(answer)
    }

    fn handle_message(&mut self, client: ClientId, message: &[u8]) {
        let config = self.config.clone();
        let outcome = if let Ok(ToServer::Ports { forwards }) = serde_json::from_slice(message) {
            self.map_ports(client, forwards)
        } else {
            match self.clients.hear(client, message, &config) {
                Ok(true) => self.apply(&config),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            }
        };
        if let Err(error) = outcome {
            error!("{error} (hint: {})", error.hint());
        }
    }

    async fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Status {} => Ok(self.status().await),
            Request::Reload {} => self.reload().map(|changed| json!({ "changed": changed })),
            Request::Registry { action } => self.administer(action),
            Request::Knock { ports } => Ok(json!({ "client": self.knock(ports).await })),
            Request::Events { .. } => Ok(self.events.kept().cloned().collect()),
            Request::Mode { .. } | Request::Wan { .. } | Request::Servers {} | Request::UseServer { .. } => {
                Err(Error::user(
                    "this is a server: modes, WANs and servers belong to its clients",
                    "run the command on the client",
                ))
            }
            Request::Down {} => Ok(Value::Null),
        }
    }

    /// Asks a connected client to send something to these ports; its name, if there is one.
    async fn knock(&mut self, ports: Vec<u16>) -> Option<String> {
        let sessions = self.sample().await;
        let connected = |id: &ClientId| sessions.get(id).is_some_and(|session| session.connected);
        let (name, id, _) = self.clients.iter().find(|(_, id, _)| connected(id))?;
        let name = name.to_owned();
        self.clients.say(id, ToClient::Knock { ports });
        Some(name)
    }

    async fn sample(&mut self) -> BTreeMap<ClientId, SessionStatus> {
        let ids: Vec<ClientId> = self.clients.iter().map(|(_, id, _)| id).collect();
        let asked = self.data.ask(move |engine, now| {
            let statuses = ids.iter().filter_map(|id| Some((*id, engine.status(now, *id)?)));
            (now, statuses.collect::<BTreeMap<_, _>>())
        });
        let Some((now, sessions)) = asked.await else {
            return BTreeMap::new();
        };
        for (id, session) in &sessions {
            self.throughput
                .entry(*id)
                .or_default()
                .sample(now, &session.paths);
        }
        sessions
    }

    async fn status(&mut self) -> Value {
        let sessions = self.sample().await;
        let counters = self.data.counters().await.unwrap_or_default();
        let unknown = Throughput::default();
        let month = Month::of(registry::now());
        let clients: Vec<Value> = self
            .clients
            .iter()
            .map(|(name, id, client)| {
                let session = sessions.get(&id);
                let throughput = self.throughput.get(&id).unwrap_or(&unknown);
                let paths = session.map(|session| &session.paths[..]).unwrap_or_default();
                let mut value = json!({
                    "name": name,
                    "public_key": client.keys.public.to_string(),
                    "connected": session.is_some_and(|session| session.connected),
                    "addresses": client.address,
                    "paths": paths.iter().map(|path| status::path(path, throughput, false)).collect::<Vec<_>>(),
                });
                let more = [
                    session.map_or(Value::Null, status::session),
                    self.meter.status(id, month),
                    json!({ "mapped": self.mappings.of(id).collect::<Vec<_>>() }),
                ];
                for more in more {
                    if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) {
                        fields.extend(more);
                    }
                }
                value
            })
            .collect();
        json!({
            "version": VERSION,
            "role": "server",
            "state": "running",
            "interface": self.config.common.interface.as_str(),
            "addresses": self.config.address.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "listen": self.config.listen,
            "uptime_s": self.uptime.seconds(),
            "clients": clients,
            "counters": counters,
        })
    }
}

/// How busy this machine was in the last minute, percent of all its processors.
fn load() -> u8 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running: f64 = text
        .split_ascii_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // A cast of a float ends at the type's limits.
    (running * 100.0 / processors as f64) as u8
}

/// A socket at this address; IPv4 alone where the kernel has no IPv6.
fn open_socket(address: SocketAddr) -> Result<UdpSocket> {
    let outcome = match UdpSocket::listening(address) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && address.ip().is_unspecified() => {
            UdpSocket::listening(SocketAddr::new([0; 4].into(), address.port()))
        }
        outcome => outcome,
    };
    outcome.map_err(|error| {
        let message = format!("failed to listen on UDP {address}: {error}");
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                let holder = crate::port::holder(address.port());
                Error::environment(
                    match &holder {
                        Some(holder) => format!("UDP port {} is in use by {holder}", address.port()),
                        None => format!("UDP port {} is in use", address.port()),
                    },
                    "stop that program, or choose another port by the key listen (and tell the clients)",
                )
            }
            Some(libc::EADDRNOTAVAIL) => Error::user(
                message,
                "listen names an address of this machine, or [::] for all of them",
            ),
            Some(libc::EACCES | libc::EPERM) => Error::environment(message, "run sennit as root"),
            _ => Error::environment(message, "check the key listen"),
        }
    })
}
