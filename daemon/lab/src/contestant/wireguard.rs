//! WireGuard in user space over the first WAN: wireguard-go of the distribution or a newer build, and wireguard-tools.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Kind, Process, Started, temporary_folder, translate, write};
use crate::namespace::Namespace;
use crate::scenario::{Scenario, Side};
use crate::topology::{SERVER, Topology};
use crate::traffic::Reach;
use crate::{Error, Result, interrupt};

const INNER_SERVER: &str = "10.72.0.1";
const INNER_CLIENT: &str = "10.72.0.2";
const PORT: u16 = 51820;
/// What Debian's package calls it.
pub(super) const PROGRAM: &str = "wireguard-go";

pub(super) fn start(topology: &Topology, scenario: &Scenario, kind: Kind, program: &Path) -> Result<Started> {
    // Its control sockets lie in one folder for all namespaces: interfaces need names of their own.
    static STARTS: AtomicU32 = AtomicU32::new(0);
    let number = STARTS.fetch_add(1, Ordering::Relaxed);
    let name = |side: char| format!("wl{side}{}x{number}", std::process::id() % 1_000_000);
    let (client, server) = (name('c'), name('s'));
    let folder = temporary_folder()?;
    let mut processes = Vec::new();
    let mut public = Vec::new();
    for (side, host, interface) in [
        (Side::Client, &topology.client, &client),
        (Side::Server, &topology.server, &server),
    ] {
        let mut command = host.command(program);
        command
            .args(["-f", interface])
            .env("WG_PROCESS_FOREGROUND", "1")
            .env("LOG_LEVEL", "error");
        processes.push(Process::start(
            side,
            command,
            folder.path().join(format!("{side}.log")),
        )?);
        let key = host.output("wg", &["genkey"])?;
        let file = folder.path().join(format!("{side}.key"));
        write(&file, &key)?;
        wait_for(host, interface, &mut processes)?;
        host.output(
            "wg",
            &[
                "set",
                interface,
                "listen-port",
                &PORT.to_string(),
                "private-key",
                &text(&file),
            ],
        )?;
        public.push(
            host.output("wg", &["show", interface, "public-key"])?
                .trim()
                .to_owned(),
        );
    }
    let [client_key, server_key] = public.as_slice() else {
        return Err(Error::environment("no WireGuard keys", ""));
    };
    topology.server.output(
        "wg",
        &["set", &server, "peer", client_key, "allowed-ips", "10.72.0.0/24"],
    )?;
    topology.client.output(
        "wg",
        &[
            "set",
            &client,
            "peer",
            server_key,
            "allowed-ips",
            "0.0.0.0/0",
            "endpoint",
            &format!("{SERVER}:{PORT}"),
        ],
    )?;
    for (host, interface, address) in [
        (&topology.client, &client, INNER_CLIENT),
        (&topology.server, &server, INNER_SERVER),
    ] {
        host.ip(&format!(
            "addr add {address}/24 dev {interface}\nlink set {interface} mtu 1420 up"
        ))?;
    }
    if scenario.uses_lan() {
        translate(topology, &client, "masquerade")?;
    }
    let target = INNER_SERVER
        .parse()
        .map_err(|_| Error::environment("no inner address", ""))?;
    Ok(Started {
        reaches: vec![Reach::new(kind.name(), target, None)],
        processes,
        tunnel: Some((client, server)),
        controls: Vec::new(),
        folder: Some(folder),
    })
}

fn wait_for(host: &Namespace, interface: &str, processes: &mut [Process]) -> Result<()> {
    let there = interrupt::wait(Duration::from_secs(10), || {
        processes.iter_mut().try_for_each(Process::check)?;
        Ok(host.output("wg", &["show", interface, "listen-port"]).is_ok())
    })?;
    if there {
        return Ok(());
    }
    Err(Error::environment(
        "wireguard-go made no interface within 10 s",
        "apt-get install wireguard-go wireguard-tools, and see that /dev/net/tun is there",
    ))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
