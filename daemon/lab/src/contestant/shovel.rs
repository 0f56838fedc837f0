//! The bare shovel over the first WAN: no tunnel, but what a tunnel of this shape could do at most.

use std::time::Duration;

use super::{Process, Started, temporary_folder, translate};
use crate::scenario::{Scenario, Side};
use crate::topology::{SERVER, Topology};
use crate::traffic::Reach;
use crate::{Error, Result, interrupt};

const INNER_SERVER: &str = "10.74.0.1";
const INNER_CLIENT: &str = "10.74.0.2";
const INTERFACE: &str = "shovel0";
const SERVER_PORT: u16 = 7301;
const CLIENT_PORT: u16 = 7302;

pub(super) fn start(topology: &Topology, scenario: &Scenario) -> Result<Started> {
    let own = std::env::current_exe()
        .map_err(|error| Error::environment(format!("failed to find this program: {error}"), ""))?;
    let folder = temporary_folder()?;
    let mut processes = Vec::new();
    let ends = [
        (
            Side::Server,
            &topology.server,
            INNER_SERVER,
            INNER_CLIENT,
            format!("{SERVER}:{SERVER_PORT}"),
            None,
        ),
        (
            Side::Client,
            &topology.client,
            INNER_CLIENT,
            INNER_SERVER,
            format!("0.0.0.0:{CLIENT_PORT}"),
            Some(format!("{SERVER}:{SERVER_PORT}")),
        ),
    ];
    for (side, host, address, other, local, peer) in ends {
        let mut command = host.command(&own);
        command.args(["shovel", "--interface", INTERFACE, "--local", &local]);
        if let Some(peer) = peer {
            command.args(["--peer", &peer]);
        }
        processes.push(Process::start(
            side,
            command,
            folder.path().join(format!("{side}.log")),
        )?);
        let there = interrupt::wait(Duration::from_secs(5), || {
            processes.iter_mut().try_for_each(Process::check)?;
            Ok(host.ip(&format!("link show dev {INTERFACE}")).is_ok())
        })?;
        if !there {
            return Err(Error::environment(
                "the shovel made no interface within 5 s",
                "see that /dev/net/tun is there",
            ));
        }
        host.ip(&format!(
            "addr add {address} peer {other} dev {INTERFACE}\nlink set {INTERFACE} txqueuelen 2000 up"
        ))?;
    }
    if scenario.uses_lan() {
        translate(topology, INTERFACE, "masquerade")?;
    }
    // The server's end learns where its peer is from the first datagram.
    let _ = topology
        .client
        .output("ping", &["-c", "1", "-W", "1", INNER_SERVER]);
    let target = INNER_SERVER
        .parse()
        .map_err(|_| Error::environment("no inner address", ""))?;
    Ok(Started {
        reaches: vec![Reach::new("shovel", target, None)],
        processes,
        tunnel: Some((INTERFACE.into(), INTERFACE.into())),
        controls: Vec::new(),
        folder: Some(folder),
    })
}
