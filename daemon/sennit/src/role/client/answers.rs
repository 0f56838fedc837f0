//! What the client answers on its control socket: its state, and changes of mode, WANs and servers.

use serde_json::{Value, json};
use tracing::info;

use super::Client;
use crate::Error;
use crate::control::{Answer, Request, VERSION};
use crate::role::servers;
use crate::role::status;
use crate::role::wans::engine_mode;

impl Client {
    pub(super) async fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Reload {} => self.reload().map(|changed| json!({ "changed": changed })),
            Request::Registry { .. } | Request::Knock { .. } => Err(Error::user(
                "this is a client: it has no clients of its own",
                "run the command on the server",
            )),
            Request::Servers {} => {
                self.choice.ask(&self.config, &self.uplinks);
                Ok(self.choice.status(&self.config, &self.saved))
            }
            Request::UseServer { choice } => {
                servers::check_choice(&self.config, &choice)?;
                self.saved.set_server_choice(&choice)?;
                let used = self.config.server.as_ref().map(|server| server.name.as_str());
                let stays = servers::candidates(&self.config, &self.saved)
                    .any(|server| Some(server.name.as_str()) == used);
                if !stays && let Some(server) = servers::first(&self.config, &self.saved).cloned() {
                    self.use_server(server);
                }
                // Among several, the nearest is found out.
                self.choice = self.choice.anew();
                Ok(self.choice.status(&self.config, &self.saved))
            }
            Request::Status {} => Ok(self.status().await),
            Request::Events { .. } => Ok(self.events.kept().cloned().collect()),
            Request::Mode { mode } => {
                self.saved.set_mode(&self.config, mode)?;
                let engine_mode = engine_mode(mode);
                self.data.engine(move |engine, _| {
                    if let Some(engine) = engine {
                        engine.set_mode(engine_mode);
                    }
                });
                info!(mode = mode.name(), "mode changed");
                self.events.add("mode", json!({ "mode": mode.name() }));
                Ok(json!({ "mode": mode.name() }))
            }
            Request::Wan { name, priority } => {
                let known = self.wans.used.contains_key(&name) || self.wans.waiting.contains_key(&name);
                if !known {
                    let names = self.wans.used.keys().chain(self.wans.waiting.keys());
                    let mut names: Vec<&str> = names.map(String::as_str).collect();
                    names.sort_unstable();
                    return Err(Error::user(
                        format!("there is no WAN {name:?}"),
                        format!(
                            "the WANs are: {}",
                            if names.is_empty() {
                                "none".to_owned()
                            } else {
                                names.join(", ")
                            }
                        ),
                    ));
                }
                self.saved.set_priority(&self.config, &name, priority)?;
                info!(wan = name, priority = priority.name(), "priority changed");
                self.events
                    .add("priority", json!({ "wan": name, "priority": priority.name() }));
                self.look();
                Ok(json!({ "name": name, "priority": priority.name() }))
            }
            Request::Down {} => Ok(Value::Null),
        }
    }

    pub(super) async fn sample(&mut self) -> Option<sennit_engine::event::SessionStatus> {
        let (now, session) = self
            .data
            .ask(|engine, now| engine.as_ref().map(|engine| (now, engine.status(now))))
            .await??;
        self.throughput.sample(now, &session.paths);
        Some(session)
    }

    async fn status(&mut self) -> Value {
        let session = self.sample().await;
        let counters = self.data.counters().await.unwrap_or_default();
        let paths = session
            .as_ref()
            .map(|session| &session.paths[..])
            .unwrap_or_default();
        let usable = self.wans.used.values().any(|wan| wan.obstacle.is_none());
        let state = match (&self.config.server, self.connected, usable) {
            (None, _, _) => "no_server",
            (Some(_), true, _) => "connected",
            (Some(_), false, true) => "connecting",
            (Some(_), false, false) => "no_wan",
        };
        let mut wans: Vec<Value> = Vec::new();
        for (device, wan) in &self.wans.used {
            let own: Vec<_> = paths.iter().filter(|path| path.wan == wan.id).collect();
            let why = wan
                .obstacle
                .or_else(|| own.first().map(|path| path.why))
                .unwrap_or("waiting for the server's answer");
            wans.push(json!({
                "name": device,
                "device": device,
                "priority": status::priority(wan.priority()),
                "paths": own.iter().map(|path| status::path(path, &self.throughput, true)).collect::<Vec<_>>(),
                "why": why,
            }));
        }
        for (device, why) in &self.wans.waiting {
            let priority = self.saved.priority(&self.config, device).name();
            wans.push(
                json!({ "name": device, "device": device, "priority": priority, "paths": [], "why": why }),
            );
        }
        let mut value = json!({
            "version": VERSION,
            "role": "client",
            "state": state,
            "mode": self.saved.mode(&self.config).name(),
            "interface": self.config.common.interface.as_str(),
            "addresses": self.system.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "server": paths.first().map(|path| path.network.remote).or(self.servers.first().copied()).map(|server| server.to_string()),
            "servers": self.choice.status(&self.config, &self.saved),
            "uptime_s": self.uptime.seconds(),
            "wans": wans,
            "counters": counters,
        });
        if let (Some(session), Some(fields)) = (&session, value.as_object_mut())
            && let Value::Object(more) = status::session(session)
        {
            fields.extend(more);
        }
        value
    }
}
