//! On a client: hosts of the LAN ask this router for ports (UPnP IGD, NAT-PMP, PCP), and miniupnpd answers them. What it
//! grants is passed on to the server, whose address is the public one; that address is told to miniupnpd by a program of the
//! user's choice.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tracing::{debug, info, warn};

use super::wans::Engine;
use crate::config::{ClientConfig, Forward};
use crate::data::Handle;
use crate::join::{ToServer, encode};
use crate::leases::{self, Leases};

/// What was passed on, in both directions.
#[derive(Debug, Default)]
pub(super) struct PortRequests {
    leases: Leases,
    /// The address that the program was told, and which program.
    told: Option<(PathBuf, IpAddr)>,
}

impl PortRequests {
    /// Looks for changes; does nothing unless the configuration wants it. `server`: the server's address as the paths use it.
    pub(super) fn look(&mut self, config: &ClientConfig, data: &Handle<Engine>, server: Option<IpAddr>) {
        if let Some(file) = &config.upnp_leases
            && self.leases.look(file)
        {
            self.ask(config, data);
        }
        if let (Some(program), Some(address)) = (&config.public_address_hook, server) {
            let news = (program.clone(), address);
            if self.told.as_ref() != Some(&news) {
                tell(program, address);
                self.told = Some(news);
            }
        }
    }

    /// Asks the server for the ports of the LAN's hosts; also when it begins anew and has forgotten them.
    pub(super) fn ask(&self, config: &ClientConfig, data: &Handle<Engine>) {
        if config.upnp_leases.is_none() {
            return;
        }
        let wanted = self.leases.forwards();
        if wanted.len() > leases::MOST {
            warn!(
                ports = wanted.len(),
                "more ports are asked for than the server is told of: {}",
                leases::MOST
            );
        }
        debug!(ports = wanted.len(), "asking the server for ports");
        let forwards = wanted.iter().take(leases::MOST).copied().collect();
        let message = encode(&ToServer::Ports { forwards });
        data.engine(move |engine, _| {
            if let Some(engine) = engine {
                // Without a connection it is asked when there is one.
                let _ = engine.send_control(&message);
            }
        });
    }

    /// The server's answer.
    pub(super) fn answered(&self, refused: &[Forward]) {
        for forward in refused {
            warn!(%forward, "the server does not give this port: it is in use there, or another client has it");
        }
        if refused.is_empty() && !self.leases.forwards().is_empty() {
            info!(
                ports = self.leases.forwards().len(),
                "ports of the server lead to hosts here"
            );
        }
    }
}

/// Runs the program with the address as its only argument, beside everything else.
fn tell(program: &Path, address: IpAddr) {
    let program = program.to_owned();
    let outcome =
        std::thread::Builder::new()
            .name("sennit-hook".to_owned())
            .spawn(
                move || match Command::new(&program).arg(address.to_string()).status() {
                    Ok(status) if status.success() => {
                        info!(program = %program.display(), %address, "told the public address");
                    }
                    Ok(status) => warn!(program = %program.display(), %status, "public_address_hook failed"),
                    Err(error) => {
                        warn!(program = %program.display(), %error, "public_address_hook does not run")
                    }
                },
            );
    if let Err(error) = outcome {
        warn!(%error, "public_address_hook does not run");
    }
}
