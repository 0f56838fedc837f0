//! Aggligator's `agg-tunnel` (crates.io: aggligator-util): a proxy that forwards one TCP port over a connection made of
//! one TCP connection over every WAN.
//!
//! It carries TCP only, and only to ports that it was told. What runs over the WANs are its own connections: their
//! congestion control is what the namespaces have as default, set here to that of the variant.

use std::time::Duration;

use super::{Process, Started, temporary_folder};
use crate::namespace::Namespace;
use crate::scenario::{Side, Variant};
use crate::topology::{SERVER, Topology};
use crate::traffic::Reach;
use crate::{Error, Result, interrupt};

pub(super) const PROGRAM: &str = "agg-tunnel";
/// Where it listens at the server.
const TUNNEL: u16 = 5800;
/// The forwarded port, the same at both ends.
const FORWARDED: u16 = 5801;

pub(super) fn start(topology: &Topology, variant: &Variant) -> Result<Started> {
    let folder = temporary_folder()?;
    for host in [&topology.client, &topology.server] {
        let name = variant.congestion.clone();
        host.run(move || {
            std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", &name).map_err(|error| {
                Error::environment(format!("failed to make {name} the default: {error}"), "")
            })
        })?;
    }
    let mut processes = Vec::new();
    let ends: [(Side, &Namespace, u16, Vec<String>); 2] = [
        (
            Side::Server,
            &topology.server,
            TUNNEL,
            vec![
                "--tcp".into(),
                TUNNEL.to_string(),
                "--port".into(),
                FORWARDED.to_string(),
            ],
        ),
        (
            Side::Client,
            &topology.client,
            FORWARDED,
            vec![
                "--tcp".into(),
                format!("{SERVER}:{TUNNEL}"),
                "--tcp-link-filter".into(),
                "interface-ip".into(),
                "--port".into(),
                format!("{FORWARDED}:{FORWARDED}"),
            ],
        ),
    ];
    for (side, host, port, arguments) in ends {
        let mut command = host.command(PROGRAM);
        command.arg(side.to_string()).arg("--no-monitor").args(arguments);
        let log = folder.path().join(format!("{side}.log"));
        processes.push(Process::start(side, command, log)?);
        let filter = format!("sport = :{port}");
        let ready = interrupt::wait(Duration::from_secs(5), || {
            processes.iter_mut().try_for_each(Process::check)?;
            let listening = host.output("ss", &["--no-header", "--listening", "--tcp", &filter])?;
            Ok(!listening.trim().is_empty())
        });
        if !ready.map_err(missing)? {
            return Err(missing(Error::environment(
                format!("{PROGRAM} did not listen at the {side} within 5 s"),
                "",
            )));
        }
    }
    let target = std::net::Ipv4Addr::LOCALHOST;
    Ok(Started {
        reaches: vec![Reach {
            port: Some(FORWARDED),
            ..Reach::new("aggligator", target.into(), None)
        }],
        processes,
        tunnel: None,
        controls: Vec::new(),
        folder: Some(folder),
    })
}

fn missing(error: Error) -> Error {
    Error::environment(
        error.to_string(),
        "cargo install --root /usr/local --no-default-features aggligator-util",
    )
}
