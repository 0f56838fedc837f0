//! The server's table `inet sennit` as text for `nft`: what clients may reach, which ports lead to them, translation.
//!
//! What a client sends is judged in the direction in which its connection began, so that an answer always finds its way
//! back, and a rule that changes counts for connections that exist. An accept here ends this table only.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::firewall::{REMOVE, version};
use super::special;
use crate::config::{Allow, Forward, InterfaceName, Ipv6, Network, Protocol};

/// Ports that go to the only client: above those of a machine's own services, below the highest, which some clouds keep.
const AUTOMATIC: &str = "1024-65000";

/// The server's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFirewall {
    /// The tunnel interface.
    pub tunnel: InterfaceName,
    /// This machine's inner addresses, with the networks of those of the clients.
    pub networks: Vec<Network>,
    /// What clients reach is limited.
    pub filter: bool,
    /// Clients reach the outside by this machine's addresses.
    pub nat: bool,
    /// How the outside finds their IPv6 addresses.
    pub ipv6: Ipv6,
    /// Who may join.
    pub guests: Vec<Guest>,
    /// If there is only one guest, ports that nobody else wants lead to it.
    pub automatic: bool,
    /// Ports of this machine that lead to no client by themselves.
    pub kept: BTreeSet<(Protocol, u16)>,
    /// UDP ports of the tunnel: they lead to no client at all.
    pub own: BTreeSet<u16>,
}

/// A client, as the firewall knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its inner addresses.
    pub addresses: Vec<IpAddr>,
    /// What it may reach beyond the Internet.
    pub allow: Vec<Allow>,
    /// Ports that lead to it.
    pub forwards: Vec<Forward>,
}

impl Guest {
    fn address(&self, ip: &str) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| version(*address) == ip)
    }
}

impl ServerFirewall {
    pub(super) fn text(&self) -> String {
        let mut text = String::from(REMOVE);
        text.push_str("table inet sennit {\n");
        self.filters(&mut text);
        if self.nat {
            self.translation(&mut text);
        }
        text.push_str("}\n");
        text
    }

    fn filters(&self, text: &mut String) {
        let tunnel = &self.tunnel;
        // What tracking knows nothing of is not translated.
        let _ = write!(
            text,
            "chain forward {{\ntype filter hook forward priority -10\n\
             iifname \"{tunnel}\" ct state invalid drop\n\
             oifname \"{tunnel}\" ct state invalid drop\n"
        );
        if !self.filter {
            text.push_str("}\n");
            return;
        }
        let _ = write!(
            text,
            "iifname \"{tunnel}\" jump from_client\n\
             oifname \"{tunnel}\" jump to_client\n}}\n\
             chain input {{\ntype filter hook input priority -10\n\
             iifname \"{tunnel}\" jump to_server\n}}\n"
        );
        self.chain_from_client(text);
        self.chain_to_client(text);
        self.chain_to_server(text);
    }

    fn chain_from_client(&self, text: &mut String) {
        let tunnel = &self.tunnel;
        text.push_str("chain from_client {\n");
        for ip in ["ip", "ip6"] {
            // The second lock: the tunnel lets out no other sources, either.
            match set(self
                .networks
                .iter()
                .filter(|network| version(network.address) == ip))
            {
                Some(own) => writeln!(text, "{ip} saddr != {own} drop"),
                None => writeln!(text, "meta nfproto {} drop", family(ip)),
            }
            .unwrap_or_default();
            refuse(text, ip, special::never());
        }
        // By a forward of ours, as everybody may come.
        let _ = write!(
            text,
            "ct direction reply accept\noifname \"{tunnel}\" ct status dnat accept\n"
        );
        for guest in &self.guests {
            for ip in ["ip", "ip6"] {
                let Some(source) = guest.address(ip) else { continue };
                for allow in &guest.allow {
                    let what = match allow {
                        Allow::Clients => format!("oifname \"{tunnel}\""),
                        Allow::Network(network) if version(network.address) == ip => {
                            format!("{ip} daddr {network}")
                        }
                        Allow::Lan => format!("oifname != \"{tunnel}\""),
                        Allow::Network(_) | Allow::Server(_) => continue,
                    };
                    let _ = writeln!(text, "{ip} saddr {source} {what} accept");
                }
            }
        }
        let _ = writeln!(text, "oifname \"{tunnel}\" {REJECT}");
        for ip in ["ip", "ip6"] {
            refuse(text, ip, special::private());
        }
        text.push_str("}\n");
    }

    fn chain_to_client(&self, text: &mut String) {
        let _ = write!(
            text,
            "chain to_client {{\nct direction reply accept\nct status dnat accept\n\
             iifname \"{}\" accept\n",
            self.tunnel
        );
        for ip in ["ip", "ip6"].into_iter().filter(|ip| !self.translates(ip)) {
            for guest in &self.guests {
                let Some(target) = guest.address(ip) else { continue };
                let _ = writeln!(
                    text,
                    "{ip} daddr {target} icmp{} type echo-request accept",
                    if ip == "ip" { "" } else { "v6" }
                );
                for forward in &guest.forwards {
                    let (first, last) = at_client(forward);
                    for protocol in forward.protocol.names() {
                        let _ = writeln!(text, "{ip} daddr {target} {protocol} dport {first}-{last} accept");
                    }
                }
                if self.is_only(guest) {
                    let _ = writeln!(text, "{ip} daddr {target} tcp dport {AUTOMATIC} accept");
                    let _ = writeln!(text, "{ip} daddr {target} udp dport {AUTOMATIC} accept");
                }
            }
        }
        text.push_str("drop\n}\n");
    }

    fn chain_to_server(&self, text: &mut String) {
        text.push_str("chain to_server {\nct state invalid drop\nct direction reply accept\n");
        for network in &self.networks {
            let address = network.address;
            let ip = version(address);
            let icmp = if ip == "ip" { "icmp" } else { "icmpv6" };
            let _ = writeln!(text, "{ip} daddr {address} {icmp} type echo-request accept");
        }
        for guest in &self.guests {
            for ip in ["ip", "ip6"] {
                let Some(source) = guest.address(ip) else { continue };
                for allow in &guest.allow {
                    match allow {
                        Allow::Server(None) => {
                            let _ = writeln!(text, "{ip} saddr {source} accept");
                        }
                        Allow::Server(Some(ports)) => {
                            for protocol in ports.protocol.names() {
                                let (first, last) = (ports.first, ports.last);
                                let _ = writeln!(
                                    text,
                                    "{ip} saddr {source} {protocol} dport {first}-{last} accept"
                                );
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        let _ = write!(text, "{REJECT}\n}}\n");
    }

    fn translation(&self, text: &mut String) {
        let tunnel = &self.tunnel;
        // After those of others (Docker's), which know what they forward.
        text.push_str("chain ports {\ntype nat hook prerouting priority -90\n");
        for network in &self.networks {
            let _ = writeln!(
                text,
                "{} daddr {} return",
                version(network.address),
                network.address
            );
        }
        text.push_str("fib daddr type != local return\n");
        if let Some(own) = set(self.own.iter()) {
            let _ = writeln!(text, "udp dport {own} return");
        }
        for ip in ["ip", "ip6"].into_iter().filter(|ip| self.translates(ip)) {
            for guest in &self.guests {
                self.forwards_of(guest, ip, text);
            }
            if let Some(only) = self.guests.iter().find(|guest| self.is_only(guest)) {
                self.automatic_to(only, ip, text);
            }
        }
        // After a reboot nothing is known of the connections that were translated. Until their hosts speak again, what
        // comes for them from outside looks like strangers', and must not be answered by a reset. A reset without ACK is
        // that answer and no other.
        let _ = write!(
            text,
            "}}\nchain answers {{\ntype filter hook output priority -10\n\
             tcp sport 32768-65535 tcp flags & (rst | ack) == rst drop\n}}\n\
             chain source {{\ntype nat hook postrouting priority 100\n\
             iifname \"{tunnel}\" oifname \"{tunnel}\" ct status dnat masquerade\n"
        );
        for network in &self.networks {
            let ip = version(network.address);
            if self.translates(ip) {
                let _ = writeln!(
                    text,
                    "iifname \"{tunnel}\" oifname != \"{tunnel}\" {ip} saddr {network} masquerade"
                );
            }
        }
        text.push_str("}\n");
    }

    fn forwards_of(&self, guest: &Guest, ip: &str, text: &mut String) {
        let Some(target) = guest.address(ip) else { return };
        let family = family(ip);
        for forward in &guest.forwards {
            let Forward { first, last, to, .. } = *forward;
            let address = bracketed(target);
            let target = match to {
                None => address,
                Some(to) if first == last => format!("{address}:{to}"),
                // A range as the target would mean "any of these".
                Some(to) => {
                    let pairs: Vec<String> = (first..=last)
                        .zip(to..=u16::MAX)
                        .map(|(port, to)| format!("{port} : {to}"))
                        .collect();
                    format!("{address} : PROTOCOL dport map {{ {} }}", pairs.join(", "))
                }
            };
            for protocol in forward.protocol.names() {
                let target = target.replace("PROTOCOL", protocol);
                let begins = begins(protocol);
                let _ = writeln!(
                    text,
                    "meta nfproto {family} {protocol} dport {first}-{last}{begins} dnat {ip} to {target}"
                );
            }
        }
    }

    fn automatic_to(&self, guest: &Guest, ip: &str, text: &mut String) {
        let Some(target) = guest.address(ip) else { return };
        let (family, target) = (family(ip), bracketed(target));
        for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
            let kept = self
                .kept
                .iter()
                .filter(|(of, _)| *of == protocol)
                .map(|(_, port)| port);
            let except = set(kept).map_or_else(String::new, |kept| format!(" {name} dport != {kept}"));
            let begins = begins(name);
            let _ = writeln!(
                text,
                "meta nfproto {family} {name} dport {AUTOMATIC}{except}{begins} dnat {ip} to {target}"
            );
        }
    }

    /// Whether clients have this machine's addresses outside.
    fn translates(&self, ip: &str) -> bool {
        self.nat && (ip == "ip" || self.ipv6 == Ipv6::Nat66)
    }

    fn is_only(&self, guest: &Guest) -> bool {
        self.automatic && matches!(&self.guests[..], [only] if only == guest)
    }
}

const REJECT: &str = "reject with icmpx type admin-prohibited";

/// What belongs to a connection from before a reboot does not begin a new one.
fn begins(protocol: &str) -> &'static str {
    match protocol {
        "tcp" => " tcp flags & (fin | syn | rst | ack) == syn",
        _ => "",
    }
}

fn at_client(forward: &Forward) -> (u16, u16) {
    let first = forward.to.unwrap_or(forward.first);
    (first, first.saturating_add(forward.last - forward.first))
}

fn refuse(text: &mut String, ip: &str, networks: impl Iterator<Item = Network>) {
    if let Some(networks) = set(networks.filter(|network| version(network.address) == ip)) {
        let _ = writeln!(text, "{ip} daddr {networks} {REJECT}");
    }
}

/// As nftables writes a set; there is no empty one.
fn set(items: impl Iterator<Item = impl ToString>) -> Option<String> {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    (!items.is_empty()).then(|| format!("{{ {} }}", items.join(", ")))
}

fn family(ip: &str) -> &'static str {
    if ip == "ip" { "ipv4" } else { "ipv6" }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
