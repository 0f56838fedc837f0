//! What keeps this machine from working as a server: the server's part of `sennit check`, and `sennit server check`.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::check::{Findings, key};
use super::invite::administer;
use super::{Daemon, knock};
use crate::config::{self, Forwarding, ServerConfig};
use crate::host::{self, PublicAddresses};
use crate::netlink::{Inventory, Netlink};
use crate::port;
use crate::registry::Action;
use crate::sys::clock;
use crate::system::filters::{self, Opening};
use crate::system::special;

/// The smallest link that carries IPv6, bytes.
const LEAST_MTU: u32 = 1280;

pub(super) fn server(findings: &mut Findings, daemon: &Daemon, status: Option<&Value>) {
    let config = findings.take(config::read::<ServerConfig>(daemon.file()), |_| {
        "the configuration is right".to_owned()
    });
    let Some(config) = config else { return };
    key(findings, &config.key);
    clients(findings, &config, status);
    ports(findings, &config, status.is_some());
    let inventory = Netlink::open()
        .and_then(|mut netlink| Inventory::read(&mut netlink))
        .unwrap_or_default();
    let addresses = PublicAddresses::find(&inventory, &config.common.interface);
    if let Some(addresses) = findings.take(addresses, |found| {
        format!("the default route leaves by {}", found.interfaces.join(", "))
    }) {
        reach(findings, &config, &addresses, &inventory);
        other_filters(findings, &config, &addresses.interfaces);
    }
    if status.is_some() {
        forwarding(findings, &config);
        from_outside(findings, &config, daemon, status);
    }
    time(findings);
}

fn clients(findings: &mut Findings, config: &ServerConfig, status: Option<&Value>) {
    let listed = status.and_then(|status| status["clients"].as_array());
    let count = listed.map_or(config.clients.len(), Vec::len);
    match count {
        0 => findings.note("no client has joined yet: sennit invite makes a code for one"),
        count => findings.good(&format!("{count} clients may join")),
    }
    let Some(listed) = listed.filter(|listed| !listed.is_empty()) else {
        return;
    };
    let connected: Vec<&str> = listed
        .iter()
        .filter(|client| client["connected"] == true)
        .filter_map(|client| client["name"].as_str())
        .collect();
    if connected.is_empty() {
        findings.note(
            "no client is connected: whether the Internet reaches this server shows when one is (a cloud has a firewall \
             of its own, its security group)",
        );
    } else {
        findings.good(&format!("reached from outside by {}", connected.join(", ")));
    }
}

fn ports(findings: &mut Findings, config: &ServerConfig, running: bool) {
    for port in config.listen.iter().map(SocketAddr::port) {
        match (running, port::holder(port)) {
            (false, None) => findings.good(&format!("UDP port {port} is free")),
            (true, Some(holder)) if holder.starts_with("sennit ") => {
                findings.good(&format!("sennit listens on UDP port {port}"));
            }
            (_, Some(holder)) => findings.bad(
                &format!("UDP port {port} is in use by {holder}"),
                "stop that program, or choose another port by the key listen",
            ),
            (true, None) => findings.bad(
                &format!("nobody listens on UDP port {port}"),
                "start the server again: systemctl restart sennit-server",
            ),
        }
    }
    if config.forward == Forwarding::Auto && config.nat {
        findings.good(&format!(
            "ports 1024 to 65000 lead to the only client, except {}",
            host::kept_ports(config).join(", ")
        ));
    }
}

fn reach(findings: &mut Findings, config: &ServerConfig, addresses: &PublicAddresses, inventory: &Inventory) {
    if config.public.is_empty() {
        findings.take(addresses.or_advice(), |public| {
            let public: Vec<String> = public.iter().map(ToString::to_string).collect();
            format!("its public addresses are {}", public.join(", "))
        });
    }
    for public in &config.public {
        let named = public.host.parse();
        match named {
            Ok(address) if !special::is_public(address) => findings.bad(
                &format!("the key public says {public}, which is no public address"),
                "write the address that the Internet knows: public = [\"ADDRESS:PORT\"]",
            ),
            // Behind a cloud's NAT no interface has it.
            _ => findings.good(&format!("clients are told to reach it at {public}")),
        }
    }
    for interface in &addresses.interfaces {
        match inventory.link(interface).map(|link| link.mtu) {
            Some(mtu) if mtu < LEAST_MTU => findings.bad(
                &format!("the MTU of {interface} is {mtu} bytes"),
                &format!("ip link set {interface} mtu 1500 (at least {LEAST_MTU})"),
            ),
            Some(mtu) => findings.good(&format!("the MTU of {interface} is {mtu} bytes")),
            None => {}
        }
    }
}

fn other_filters(findings: &mut Findings, config: &ServerConfig, uplinks: &[String]) {
    let opening = Opening {
        tunnel: config.common.interface.clone(),
        ports: config.listen.iter().map(SocketAddr::port).collect(),
    };
    let found = filters::survey();
    for filter in &found {
        let rules = filters::rules(filter, &opening);
        let mut missing: Vec<String> = rules
            .iter()
            .filter(|rule| !rule.is_set())
            .map(filters::Rule::text)
            .collect();
        let remedy = if rules.is_empty() {
            missing = host::missing(filter, &opening, uplinks);
            "sennit server init tells it to"
        } else {
            "set open_filters = true, or let these through yourself"
        };
        match missing.first() {
            None => findings.good(&format!(
                "the packet filter {} lets the tunnel through",
                filter.name()
            )),
            Some(_) => findings.bad(
                &format!(
                    "the packet filter {} does not let the tunnel through; missing: {}",
                    filter.name(),
                    missing.join("; ")
                ),
                remedy,
            ),
        }
    }
}

fn forwarding(findings: &mut Findings, config: &ServerConfig) {
    if config.nat {
        for (version, setting) in [
            ("IPv4", "/proc/sys/net/ipv4/ip_forward"),
            ("IPv6", "/proc/sys/net/ipv6/conf/all/forwarding"),
        ] {
            match std::fs::read_to_string(setting).map(|value| value.trim() == "1") {
                Ok(true) => findings.good(&format!("this machine forwards {version}")),
                Ok(false) => findings.bad(
                    &format!("this machine does not forward {version}: something has turned it off"),
                    &format!("find out what sets it (sysctl --system), then: echo 1 > {setting}"),
                ),
                // A kernel without IPv6.
                Err(_) => {}
            }
        }
    }
    if !config.nat && !config.filter {
        return;
    }
    let listed = Command::new("nft")
        .args(["list", "table", "inet", "sennit"])
        .stderr(Stdio::null())
        .output();
    let table = listed
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    match table {
        Some(table) if !config.nat || table.contains("masquerade") => {
            findings.good("the firewall table inet sennit is there");
        }
        _ => findings.bad(
            "the firewall table inet sennit is missing: something has flushed it",
            "it comes back within a minute; at once: systemctl reload sennit-server",
        ),
    }
}

/// Sent by a client, counted here: what the cloud's own firewall lets through.
fn from_outside(findings: &mut Findings, config: &ServerConfig, daemon: &Daemon, status: Option<&Value>) {
    let clients = status.and_then(|status| status["clients"].as_array());
    let only = clients.is_some_and(|clients| clients.len() == 1);
    let automatic = if only && config.nat && config.forward == Forwarding::Auto {
        knock::automatic().ok().flatten()
    } else {
        None
    };
    // Those of the configuration, then those of the registry.
    let registry = administer(daemon, Action::List {}).unwrap_or_default();
    let of_registry = registry["clients"].as_array().into_iter().flatten();
    let of_registry = of_registry
        .filter_map(|client| client["forwards"].as_array())
        .flatten()
        .filter_map(|forward| forward.as_str()?.parse().ok());
    let written = config
        .clients
        .iter()
        .flat_map(|client| client.forward.iter().copied());
    let mut ports = knock::tcp_ports(written.chain(of_registry));
    ports.extend(automatic);
    let reached = daemon
        .call()
        .and_then(|mut caller| knock::reached(&config.common.interface, &ports, &mut caller));
    let reached = match reached {
        Ok(reached) => reached,
        Err(error) => return findings.bad(&error.to_string(), error.hint()),
    };
    for (port, reached) in reached {
        if reached {
            findings.good(&format!("the Internet reaches TCP port {port}"));
        } else if Some(port) == automatic {
            findings.note(&format!(
                "what a client sent to TCP port {port} by a WAN did not arrive: for the ports that lead to the client to \
                 be of use, let them in at the cloud's own firewall (security group)"
            ));
        } else {
            findings.bad(
                &format!("what a client sent to the forwarded TCP port {port} by a WAN did not arrive"),
                "let it in at the cloud's own firewall (security group)",
            );
        }
    }
}

/// The tunnel does without the right time; join codes and quotas do not.
fn time(findings: &mut Findings) {
    if clock::is_synchronised() {
        findings.good("the clock is synchronised");
    } else {
        findings.note("the clock is not synchronised, by which join codes expire: timedatectl set-ntp true");
    }
}
