//! Which of its servers a client uses: the nearest that has time, measured at the start and when the one in use fails;
//! or the one that the user wants.
//!
//! A server that works is never left for a better one: connections would break, for the address outside is another.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::probe::{self, Asked, Measured};
use super::resolve::resolve;
use crate::config::{ClientConfig, ServerConfigOfClient};
use crate::saved::Saved;
use crate::wan::Uplink;
use crate::{Error, Result};

/// A server that was silent for so long is given up for another one: long enough for its restart.
const TAKEOVER_AFTER: Duration = Duration::from_secs(3);
/// While none answers, all are asked this often.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// After the start, a better server is worth breaking what has only just begun, if it is better by this factor and
/// by these milliseconds.
const BEGINNING: Duration = Duration::from_secs(10);
const BETTER_FACTOR: f64 = 0.8;
const BETTER_BY: f64 = 10.0;

/// The choice, and what it rests on.
#[derive(Debug)]
pub(super) struct Servers {
    measured: Vec<Measured>,
    measuring: bool,
    ask_at: Instant,
    began: Instant,
    results: UnboundedSender<Vec<Measured>>,
}

impl Servers {
    pub(super) fn new(results: UnboundedSender<Vec<Measured>>) -> Self {
        let now = Instant::now();
        Self {
            measured: Vec::new(),
            measuring: false,
            ask_at: now,
            began: now,
            results,
        }
    }

    /// As at the start: the user has chosen anew.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.results.clone())
    }

    /// Asks all servers, if there is anything to choose and it is time. `silent`: for how long the present one has been.
    pub(super) fn tick(
        &mut self,
        config: &ClientConfig,
        saved: &Saved,
        uplinks: &[Uplink],
        silent: Option<Duration>,
    ) {
        let now = Instant::now();
        let choosing = candidates(config, saved).count() > 1;
        let fails = silent.is_some_and(|silent| silent >= TAKEOVER_AFTER);
        let unknown = self.measured.is_empty() && now.duration_since(self.began) < BEGINNING;
        if choosing && (fails || unknown) && now >= self.ask_at {
            self.ask(config, uplinks);
        }
    }

    /// Asks all servers now.
    pub(super) fn ask(&mut self, config: &ClientConfig, uplinks: &[Uplink]) {
        let usable: Vec<Uplink> = uplinks
            .iter()
            .filter(|uplink| uplink.obstacle.is_none() && config.wans.take(&uplink.device))
            .cloned()
            .collect();
        if self.measuring || usable.is_empty() {
            return;
        }
        let key = match config.key.load() {
            Ok(key) => key,
            Err(error) => return warn!("{error} (hint: {})", error.hint()),
        };
        self.measuring = true;
        self.ask_at = Instant::now() + ASK_AGAIN;
        let (servers, results) = (config.servers.clone(), self.results.clone());
        tokio::spawn(async move {
            let devices: Vec<String> = usable.iter().map(|uplink| uplink.device.clone()).collect();
            let mut asked: Vec<Asked> = Vec::new();
            for server in servers {
                let addresses: Vec<SocketAddr> = resolve(server.address.clone(), devices.clone()).await;
                asked.push((server, addresses));
            }
            let measured = tokio::task::spawn_blocking(move || probe::measure(&key, &asked, &usable)).await;
            let _ = results.send(match measured {
                Ok(Ok(measured)) => measured,
                Ok(Err(error)) => {
                    warn!("{error} (hint: {})", error.hint());
                    Vec::new()
                }
                // The runtime ends.
                Err(_) => Vec::new(),
            });
        });
    }

    /// Takes what was measured; the server to go to, if it is another one.
    pub(super) fn take(
        &mut self,
        measured: Vec<Measured>,
        config: &ClientConfig,
        saved: &Saved,
        silent: Option<Duration>,
    ) -> Option<ServerConfigOfClient> {
        self.measuring = false;
        self.measured = measured;
        debug!(measured = ?self.measured, "servers");
        let may = |name: &str| candidates(config, saved).any(|server| server.name == name);
        let present = config.server.as_ref().map(|server| server.name.as_str());
        let (best, cost) = probe::best(&self.measured, may)?;
        if Some(best) == present {
            return None;
        }
        let own = probe::best(&self.measured, |name| Some(name) == present).map(|(_, cost)| cost);
        let better = own.is_none_or(|own| cost < own * BETTER_FACTOR && cost + BETTER_BY < own);
        let goes = match silent {
            Some(silent) if silent >= TAKEOVER_AFTER => own.is_none() || better,
            _ => better && self.began.elapsed() < BEGINNING,
        };
        goes.then(|| config.servers.iter().find(|server| server.name == best).cloned())?
    }

    /// For `sennit servers`.
    pub(super) fn status(&self, config: &ClientConfig, saved: &Saved) -> Value {
        let servers: Vec<Value> = config
            .servers
            .iter()
            .map(|server| {
                let measured = self.measured.iter().find(|measured| measured.name == server.name);
                json!({
                    "name": server.name,
                    "region": server.region,
                    "address": server.address.to_string(),
                    "used": config.server.as_ref().is_some_and(|used| used.name == server.name),
                    "rtt_ms": measured.map(|measured| &measured.rtt_ms),
                    "load": measured.and_then(|measured| measured.load),
                })
            })
            .collect();
        json!({ "choice": saved.server_choice().unwrap_or(crate::config::AUTO), "measuring": self.measuring, "servers": servers })
    }
}

/// The servers that the user's choice leaves. A choice that names nothing that is there leaves all.
pub(super) fn candidates<'a>(
    config: &'a ClientConfig,
    saved: &Saved,
) -> impl Iterator<Item = &'a ServerConfigOfClient> {
    let choice = saved.server_choice().map(str::to_owned);
    let chosen = move |server: &ServerConfigOfClient| {
        let named = |name: &String| *name == server.name || server.region.as_ref() == Some(name);
        choice.as_ref().is_none_or(named)
    };
    let any = config.servers.iter().any(&chosen);
    config.servers.iter().filter(move |server| !any || chosen(server))
}

/// The server to begin with: the one of the last time, if it still may be.
pub(super) fn first<'a>(config: &'a ClientConfig, saved: &Saved) -> Option<&'a ServerConfigOfClient> {
    let last = candidates(config, saved).find(|server| saved.last_server() == Some(&server.name));
    last.or_else(|| candidates(config, saved).next())
}

/// Whether there is a server or a region of this name.
pub(super) fn check_choice(config: &ClientConfig, choice: &str) -> Result<()> {
    let known =
        |server: &ServerConfigOfClient| server.name == choice || server.region.as_deref() == Some(choice);
    if choice == crate::config::AUTO || config.servers.iter().any(known) {
        return Ok(());
    }
    let mut names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    names.extend(
        config
            .servers
            .iter()
            .filter_map(|server| server.region.as_deref()),
    );
    names.dedup();
    Err(Error::user(
        format!("there is no server and no region {choice:?}"),
        format!("sennit servers use {}|auto", names.join("|")),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::key::PrivateKey;

    fn config() -> ClientConfig {
        let server = |name: &str, region: &str| {
            let key = PrivateKey::generate().unwrap().public();
            format!(
                "[[server]]\nname = \"{name}\"\nregion = \"{region}\"\naddress = \"192.0.2.1\"\npublic_key = \"{key}\"\n"
            )
        };
        let text = [server("fra", "eu"), server("ams", "eu"), server("nyc", "us")].concat();
        toml::from_str(&text).unwrap()
    }

    fn measured(costs: &[(&str, f64)]) -> Vec<Measured> {
        let one = |(name, rtt): &(&str, f64)| Measured {
            name: (*name).to_owned(),
            rtt_ms: BTreeMap::from([("eth1".to_owned(), *rtt)]),
            load: Some(0),
        };
        costs.iter().map(one).collect()
    }

    fn goes_to(choice: &str, costs: &[(&str, f64)], silent: Option<u64>) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut saved = Saved::open(folder.path());
        saved.set_server_choice(choice).unwrap();
        let (results, _kept) = tokio::sync::mpsc::unbounded_channel();
        let mut servers = Servers::new(results);
        let config = config();
        let silent = silent.map(Duration::from_secs);
        servers
            .take(measured(costs), &config, &saved, silent)
            .map(|server| server.name)
    }

    #[test]
    fn at_the_start_the_nearest_is_taken_if_it_is_clearly_nearer() {
        let far_fra = [("fra", 100.0), ("ams", 30.0), ("nyc", 20.0)];
        assert_eq!(goes_to("auto", &far_fra, None).as_deref(), Some("nyc"));
        assert_eq!(goes_to("eu", &far_fra, None).as_deref(), Some("ams"));
        assert_eq!(goes_to("auto", &[("fra", 30.0), ("ams", 25.0)], None), None);
    }

    #[test]
    fn a_silent_server_is_left_for_one_that_answers_unless_the_user_wants_it() {
        let without_fra = [("ams", 80.0), ("nyc", 200.0)];
        assert_eq!(goes_to("auto", &without_fra, Some(4)).as_deref(), Some("ams"));
        assert_eq!(goes_to("fra", &without_fra, Some(4)), None);
        assert_eq!(goes_to("auto", &[], Some(4)), None);
    }

    #[test]
    fn a_choice_that_names_nothing_any_more_leaves_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut saved = Saved::open(folder.path());
        saved.set_server_choice("gone").unwrap();
        assert_eq!(candidates(&config(), &saved).count(), 3);
        assert!(check_choice(&config(), "gone").is_err());
        assert!(check_choice(&config(), "us").is_ok());
    }
}
