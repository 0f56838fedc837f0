//! The client: finds WANs, joins its server, and sends this machine's traffic through the tunnel.

mod answers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sennit_engine::event::Event;
use sennit_engine::handshake;
use sennit_engine::settings::BytesPerSecond;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::client_system::{ClientSystem, netlink_failed};
use super::port_requests::PortRequests;
use super::probe::Measured;
use super::resolve::{Resolver, resolve};
use super::servers::{self, Servers};
use super::signals::{Reason, Signals};
use super::status::{self, Suspicions, Throughput};
use super::wans::{Engine, Wans, engine_mode};
use super::{End, Role, Uptime, announce, interface_lost, open_tunnel};
use crate::config::{self, ClientConfig, LogLevel, Network, ServerConfigOfClient};
use crate::control::{Answer, EventLog, Listener, Question, Request};
use crate::data::{Clock, DataPath, Handle, Notice};
use crate::join::ToClient;
use crate::netlink::Watch;
use crate::saved::Saved;
use crate::system::{self, Undo};
use crate::tun::Tun;
use crate::wan::Uplink;
use crate::{Error, Result};

/// How often names are asked for while no address of the server is known.
const RESOLVE_FIRST: Duration = Duration::from_secs(5);
/// How often names are asked for again while the server does not answer.
const RESOLVE_EVERY: Duration = Duration::from_secs(15);
/// How long the server may be silent before that is explained.
const EXPLAIN_AFTER: Duration = Duration::from_secs(8);
/// How long the server may be silent before traffic goes out directly, where that is allowed.
const FALLBACK_AFTER: Duration = Duration::from_secs(5);

struct Client {
    file: Option<PathBuf>,
    config: ClientConfig,
    saved: Saved,
    choice: Servers,
    system: ClientSystem,
    data: Handle<Engine>,
    wans: Wans,
    port_requests: PortRequests,
    uplinks: Vec<Uplink>,
    /// The server's addresses, the preferred one first.
    servers: Vec<SocketAddr>,
    resolver: Resolver,
    resolved: UnboundedSender<Vec<SocketAddr>>,
    resolve_at: Instant,
    connected: bool,
    /// When the connection was lost, or the program started.
    silent_since: Instant,
    explained: bool,
    events: EventLog,
    suspicions: Suspicions,
    throughput: Throughput,
    uptime: Uptime,
}

/// Runs the client.
pub(super) async fn run(
    mut signals: Signals,
    file: Option<&Path>,
    apply_log_level: impl Fn(LogLevel),
) -> Result<()> {
    let mut config: ClientConfig = config::read(file)?;
    apply_log_level(config.common.log_level);
    let saved = Saved::open(&config.common.state_dir);
    config.server = servers::first(&config, &saved).cloned();
    let engine = engine_config(&config)?;
    let seed = super::seed()?;
    let mut control = Listener::bind(&config.common.control)?;
    let mut undo = Undo::open(&config.common.state_dir)?;
    let tun = open_tunnel(&mut undo, &config.common)?;
    let system = ClientSystem::open(undo, &tun, &config.common.state_dir)?;
    announce(Role::Client, &tun);
    // Before the first look, so that no change is missed.
    let watch = Watch::open().map_err(netlink_failed)?;
    let mut data = DataPath::start(tun, move |now| {
        engine.map(|config| sennit_engine::Client::new(config, now, seed))
    })?;
    let (resolved, addresses) = unbounded_channel();
    let (results, measured) = unbounded_channel();
    let mut findings = Findings { addresses, measured };
    let mut client = Client {
        file: file.map(Path::to_owned),
        saved,
        choice: Servers::new(results),
        resolver: Resolver::new(&config.common.state_dir),
        system,
        data: data.handle.clone(),
        wans: Wans::default(),
        port_requests: PortRequests::default(),
        uplinks: Vec::new(),
        servers: Vec::new(),
        resolved,
        resolve_at: Instant::now(),
        connected: false,
        silent_since: Instant::now(),
        explained: false,
        events: EventLog::new(),
        suspicions: Suspicions::default(),
        throughput: Throughput::default(),
        uptime: Uptime(Clock::new()),
        config,
    };
    client.begin();
    let end = client
        .until_end(
            &mut signals,
            &watch,
            &mut data.notices,
            &mut control,
            &mut findings,
            apply_log_level,
        )
        .await?;
    let Client { config, .. } = client;
    finish(end, data, &config).await
}

/// Ends the data path, and for `sennit down` everything else.
async fn finish(end: Ended, data: DataPath<Engine>, config: &ClientConfig) -> Result<()> {
    let reason = end.how.reason();
    data.handle.engine(move |engine, _| {
        if let Some(engine) = engine {
            engine.close(reason);
        }
    });
    data.stop();
    if let Some(answer) = end.answer {
        let outcome = system::down(&config.common);
        super::answer_last(answer, outcome).await;
    }
    Ok(())
}

/// What the tasks found out that this role had started.
struct Findings {
    /// The server's addresses.
    addresses: UnboundedReceiver<Vec<SocketAddr>>,
    /// How far all servers are.
    measured: UnboundedReceiver<Vec<Measured>>,
}

/// How the loop ended, and whom to tell when all is done.
struct Ended {
    how: End,
    answer: Option<tokio::sync::oneshot::Sender<Answer>>,
}

impl Client {
    async fn until_end(
        &mut self,
        signals: &mut Signals,
        watch: &Watch,
        notices: &mut UnboundedReceiver<Notice<Event>>,
        control: &mut Listener,
        findings: &mut Findings,
        apply_log_level: impl Fn(LogLevel),
    ) -> Result<Ended> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                reason = signals.next() => match reason {
                    Reason::Stop(signal) => {
                        let counters = self.data.counters().await.unwrap_or_default();
                        info!(
                            signal, interface = %self.config.common.interface,
                            packets = counters.tunnel_in, bytes = counters.tunnel_in_bytes,
                            "stopping; the interface and its routes stay (sennit down removes them)"
                        );
                        return Ok(Ended { how: End::Signal, answer: None });
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
                changed = watch.changed() => {
                    changed.map_err(netlink_failed)?;
                    self.look();
                }
                notice = notices.recv() => match notice {
                    Some(Notice::Event(event)) => self.handle_event(event),
                    Some(Notice::Unreachable(socket)) => {
                        self.wans.unreachable(socket, &self.data, &mut self.events);
                    }
                    Some(Notice::TunnelLost(error)) => return Err(interface_lost(&self.config.common, &error)),
                    None => return Err(Error::environment("the data path has ended", "this is a bug of sennit: please report it")),
                },
                question = control.next() => {
                    let Question { request, answer, events } = question;
                    if request == (Request::Down {}) {
                        info!("going down: everything that was set is removed");
                        return Ok(Ended { how: End::Down, answer: Some(answer) });
                    }
                    let _ = events.send(self.events.listen());
                    let _ = answer.send(self.answer(request).await);
                }
                Some(found) = findings.addresses.recv() => self.handle_resolved(found),
                Some(measured) = findings.measured.recv() => self.handle_measured(measured),
                _ = tick.tick() => self.handle_tick().await,
            }
        }
    }

    /// First steps, and again after the server has been exchanged in the configuration.
    fn begin(&mut self) {
        let mode = engine_mode(self.saved.mode(&self.config));
        self.data.engine(move |engine, _| {
            if let Some(engine) = engine {
                engine.set_mode(mode);
            }
        });
        match &self.config.server {
            Some(server) => {
                self.servers = self.resolver.known(&server.address);
                self.resolve_at = Instant::now();
            }
            None => {
                self.servers.clear();
                warn!(
                    "no server is joined: packets that enter the tunnel are dropped, traffic keeps flowing outside the \
                     tunnel (set [server] in the configuration)"
                );
            }
        }
        self.look();
    }

    /// Sees what the network is like, and makes WANs and system fit.
    fn look(&mut self) {
        match self.system.uplinks(&self.config) {
            Ok(uplinks) => self.uplinks = uplinks,
            Err(error) => {
                warn!("{error} (hint: {})", error.hint());
                return;
            }
        }
        if self.config.server.is_some() {
            let wanted: Vec<Uplink> = self
                .uplinks
                .iter()
                .filter(|uplink| self.config.wans.take(&uplink.device))
                .cloned()
                .collect();
            for uplink in &wanted {
                self.system.prepare_wan(&uplink.device);
            }
            self.wans.update(
                &wanted,
                &self.servers,
                &self.config,
                &self.saved,
                &self.data,
                &mut self.events,
            );
        }
        self.system.prepare_lan(&self.config, &self.uplinks);
        self.apply();
    }

    fn apply(&mut self) {
        let silent = !self.connected && self.silent_since.elapsed() > FALLBACK_AFTER;
        // A name that was never resolved may need the open way to be.
        let known = self.config.server.is_some() && !self.servers.is_empty();
        let through = known && !(self.config.direct_fallback && silent);
        if let Err(error) = self.system.apply(&self.config, &self.uplinks, through) {
            error!("{error} (hint: {})", error.hint());
        }
    }

    /// Says once what a person could do about a silence that lasts.
    fn explain_silence(&mut self) {
        if self.connected || self.config.server.is_none() || self.explained {
            return;
        }
        if self.silent_since.elapsed() < EXPLAIN_AFTER {
            return;
        }
        self.explained = true;
        if self.wans.used.values().any(|wan| wan.obstacle.is_none()) {
            warn!(
                "the server does not answer (hint: on the server run sennit check; does a firewall let its UDP port \
                 in? does each end know the other one's public key? sennit pubkey prints it)"
            );
        } else if self.servers.is_empty() {
            warn!(
                "the server's name is not resolved (hint: check server.address, and the name servers of this machine)"
            );
        } else {
            warn!(
                "no WAN can be used (hint: ip route show default lists the interfaces that could be; sennit wan says \
                 what each of them lacks)"
            );
        }
    }

    async fn handle_tick(&mut self) {
        self.explain_silence();
        let silent = self.silence();
        self.choice.tick(&self.config, &self.saved, &self.uplinks, silent);
        if let Some(server) = &self.config.server
            && !self.connected
            && Instant::now() >= self.resolve_at
        {
            let pause = if self.servers.is_empty() {
                RESOLVE_FIRST
            } else {
                RESOLVE_EVERY
            };
            self.resolve_at = Instant::now() + pause;
            let (server, resolved) = (server.address.clone(), self.resolved.clone());
            let devices = self.uplinks.iter().map(|uplink| uplink.device.clone()).collect();
            tokio::spawn(async move {
                let _ = resolved.send(resolve(server, devices).await);
            });
        }
        if self.wans.any_refused() {
            self.look();
        } else if self.config.direct_fallback {
            self.apply();
        }
        let server = self
            .servers
            .iter()
            .map(SocketAddr::ip)
            .find(std::net::IpAddr::is_ipv4);
        let server = server.filter(|_| self.connected);
        self.port_requests.look(&self.config, &self.data, server);
        self.sample().await;
    }

    fn handle_resolved(&mut self, found: Vec<SocketAddr>) {
        let Some(server) = &self.config.server else { return };
        if found.is_empty() {
            return;
        }
        self.resolver.keep(&server.address, &found);
        if found != self.servers {
            self.servers = found;
            self.look();
        }
    }

    /// For how long the server has not answered.
    fn silence(&self) -> Option<Duration> {
        (!self.connected).then(|| self.silent_since.elapsed())
    }

    fn handle_measured(&mut self, measured: Vec<Measured>) {
        let silent = self.silence();
        if let Some(server) = self.choice.take(measured, &self.config, &self.saved, silent) {
            self.use_server(server);
        }
    }

    /// Goes to another server: the session begins anew there, and connections through the old one end.
    fn use_server(&mut self, server: ServerConfigOfClient) {
        let mut config = self.config.clone();
        info!(server = server.name, address = %server.address, "goes to another server");
        self.events.add("server", json!({ "name": server.name }));
        config.server = Some(server);
        let made = engine_config(&config).and_then(|engine| Ok((engine, super::seed()?)));
        match made {
            Ok((engine, seed)) => {
                self.config = config;
                self.replace_engine(engine, seed);
                self.begin();
            }
            Err(error) => error!("{error} (hint: {})", error.hint()),
        }
    }

    fn replace_engine(&mut self, engine: Option<sennit_engine::ClientConfig>, seed: [u8; 32]) {
        self.wans.forget(&self.data);
        self.connected = false;
        self.silent_since = Instant::now();
        self.data.engine(move |present, now| {
            *present = engine.map(|config| sennit_engine::Client::new(config, now, seed));
        });
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected {
                addresses,
                gateways,
                resumed,
            } => {
                self.connected = true;
                if let Some(server) = &self.config.server
                    && let Err(error) = self.saved.set_last_server(&server.name)
                {
                    warn!("{error} (hint: {})", error.hint());
                }
                info!(resumed, "connected");
                if !resumed {
                    self.port_requests.ask(&self.config, &self.data);
                }
                debug!(?addresses, ?gateways, "inner addresses");
                self.events.add("connected", json!({ "resumed": resumed }));
                let networks = addresses
                    .into_iter()
                    .map(|(address, prefix)| Network { address, prefix })
                    .collect();
                if let Err(error) = self.system.set_addresses(networks) {
                    error!("{error} (hint: {})", error.hint());
                }
                self.apply();
            }
            Event::Disconnected => {
                warn!("the server does not answer on any WAN; trying again");
                self.disconnected();
            }
            Event::PeerLeft(_) => {
                info!("the server leaves; looking for it until it is back");
                self.disconnected();
            }
            Event::PathChanged {
                wan,
                path,
                state,
                why,
            } => {
                let device = self.wans.device(wan).unwrap_or("?").to_owned();
                let word = status::condition(state);
                if self.suspicions.is_news(None, path, state) {
                    info!(wan = device, path = path.0, state = word, why, "path");
                } else {
                    debug!(wan = device, path = path.0, state = word, why, "path");
                }
                self.events.add(
                    "path",
                    json!({ "wan": device, "path": path.0, "state": status::condition(state), "why": why }),
                );
            }
            Event::Control { message } => self.hear(&message),
            Event::ClientConnected { .. } | Event::PathMoved { .. } => {}
        }
    }

    /// The server says something.
    fn hear(&mut self, message: &[u8]) {
        match serde_json::from_slice(message).unwrap_or(ToClient::Unknown) {
            ToClient::Limits { up } => {
                debug!(bytes_per_second = up, "the server's limit");
                self.data.engine(move |engine, _| {
                    if let Some(engine) = engine {
                        engine.set_limit(up.map(BytesPerSecond));
                    }
                });
            }
            ToClient::Ports { refused } => self.port_requests.answered(&refused),
            ToClient::Knock { ports } => self.wans.knock(&self.uplinks, &self.servers, &ports),
            // Said to those who join.
            ToClient::Registered { .. }
            | ToClient::Refused { .. }
            | ToClient::Identity { .. }
            | ToClient::Unknown => {}
        }
    }

    fn disconnected(&mut self) {
        self.connected = false;
        self.silent_since = Instant::now();
        self.explained = false;
        self.resolve_at = Instant::now();
        self.events.add("disconnected", json!({}));
    }

    /// Reads the configuration and makes what it changes; a wrong one changes nothing. The session goes on unless it is
    /// with another server.
    fn reload(&mut self) -> Result<bool> {
        let mut new: ClientConfig = config::read(self.file.as_deref())?;
        // The server in use stays, if it still may be.
        let used = self.config.server.as_ref().map(|server| server.name.clone());
        let same = servers::candidates(&new, &self.saved).find(|server| Some(&server.name) == used.as_ref());
        new.server = same.or_else(|| servers::first(&new, &self.saved)).cloned();
        let changed = new != self.config;
        let peer = |config: &ClientConfig| {
            config
                .server
                .clone()
                .map(|ServerConfigOfClient { keys, .. }| (keys, config.key.clone(), config.encryption))
        };
        let other_peer = peer(&new) != peer(&self.config);
        let engine = if other_peer {
            Some((engine_config(&new)?, super::seed()?))
        } else {
            None
        };
        if new.common.interface != self.config.common.interface {
            self.system.undo.remember_interface(&new.common.interface)?;
            let tun = Tun::create(&new.common.interface)?;
            self.system.set_tunnel(&tun)?;
            announce(Role::Client, &tun);
            self.data.replace_tun(tun);
            let (addresses, old) = (
                self.system.addresses().to_vec(),
                self.config.common.interface.clone(),
            );
            self.system.set_addresses(addresses)?;
            // The data path closes the old one first.
            self.data.engine(move |_, _| {
                if let Err(error) = Tun::remove(&old) {
                    warn!("{error}");
                }
            });
        }
        if (&new.common.control, &new.common.state_dir)
            != (&self.config.common.control, &self.config.common.state_dir)
        {
            warn!("control and state_dir are taken over by the next start only");
        }
        self.config = new;
        if let Some((engine, seed)) = engine {
            self.replace_engine(engine, seed);
        }
        self.begin();
        Ok(changed)
    }
}

/// What the engine needs; `None` without a server.
fn engine_config(config: &ClientConfig) -> Result<Option<sennit_engine::ClientConfig>> {
    let Some(server) = &config.server else {
        return Ok(None);
    };
    let private = config.key.load()?;
    Ok(Some(sennit_engine::ClientConfig {
        private_key: handshake::PrivateKey::from_bytes(private.as_bytes()),
        server_key: handshake::PublicKey(*server.keys.public.as_bytes()),
        preshared_key: server
            .keys
            .preshared
            .as_ref()
            .map(|key| handshake::PresharedKey::from_bytes(key.as_bytes())),
        mode: engine_mode(config.mode),
        aes_is_fast: super::aes_is_fast(),
        encryption: config.encryption.into(),
    }))
}
