//! Where the server is: its name becomes addresses, and the last ones are kept for the time when the names of the
//! Internet can only be asked through the tunnel that is to be built.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::debug;

use super::dns;
use crate::config::Endpoint;
use crate::system::write_atomically;

const FILE: &str = "server-addresses";

/// How long the system's resolver may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The addresses of a server.
#[derive(Debug)]
pub(super) struct Resolver {
    file: PathBuf,
}

impl Resolver {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            file: state_dir.join(FILE),
        }
    }

    /// What is known without asking anybody: a numeric address, or those of the last time.
    pub(super) fn known(&self, server: &Endpoint) -> Vec<SocketAddr> {
        if let Ok(address) = server.host.parse::<IpAddr>() {
            return vec![SocketAddr::new(address, server.port)];
        }
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(&server.to_string()) {
            return Vec::new();
        }
        lines.filter_map(|line| line.parse().ok()).collect()
    }

    /// Keeps what was found.
    pub(super) fn keep(&self, server: &Endpoint, addresses: &[SocketAddr]) {
        if server.host.parse::<IpAddr>().is_ok() || addresses.is_empty() || self.known(server) == addresses {
            return;
        }
        let lines: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        if let Err(error) = write_atomically(&self.file, format!("{server}\n{lines}").as_bytes()) {
            debug!(%error, "the server's addresses are not kept");
        }
    }
}

/// Asks the system's resolver, and name servers by the WANs on `devices`; whoever knows first is believed. Empty if
/// nobody does in time.
pub(super) async fn resolve(server: Endpoint, devices: Vec<String>) -> Vec<SocketAddr> {
    let by_system = async {
        let look_up = tokio::net::lookup_host((server.host.as_str(), server.port));
        match tokio::time::timeout(PATIENCE, look_up).await {
            Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
            Ok(Err(error)) => {
                debug!(host = server.host, %error, "name not resolved by the system");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    };
    if server.host.parse::<IpAddr>().is_ok() {
        return by_system.await;
    }
    let by_wans = async {
        let addresses = dns::resolve(&server.host, &devices).await;
        addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, server.port))
            .collect::<Vec<_>>()
    };
    tokio::pin!(by_system, by_wans);
    let (first, other_is_wans) = tokio::select! {
        found = &mut by_system => (found, true),
        found = &mut by_wans => (found, false),
    };
    match (first.is_empty(), other_is_wans) {
        (false, _) => first,
        (true, true) => by_wans.await,
        (true, false) => by_system.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_for_the_name_that_they_belong_to() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = Resolver::new(folder.path());
        let server: Endpoint = "host.example".parse().unwrap();
        assert!(resolver.known(&server).is_empty());
        let found = [
            "203.0.113.5:7300".parse().unwrap(),
            "[2001:db8::5]:7300".parse().unwrap(),
        ];
        resolver.keep(&server, &found);
        assert_eq!(resolver.known(&server), found);
        assert!(resolver.known(&"other.example".parse().unwrap()).is_empty());
        assert_eq!(
            resolver.known(&"203.0.113.9:1".parse().unwrap()),
            ["203.0.113.9:1".parse().unwrap()]
        );
    }
}
