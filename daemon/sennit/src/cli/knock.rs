//! Whether the Internet reaches ports of this server: a client is asked to send something to them by its WANs, and a
//! table of the firewall's own counts what comes in, before any filter of this machine drops it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::config::{Forward, InterfaceName, Protocol};
use crate::control::{Caller, Request};
use crate::system::Firewall;
use crate::{key, port};

const TABLE: &str = "sennit_check";
/// As long as a client knocks, and the way to it.
const PATIENCE: Duration = Duration::from_secs(4);

/// These TCP ports, and whether the Internet reaches them; empty if there is nobody to ask.
pub(super) fn reached(
    tunnel: &InterfaceName,
    ports: &[u16],
    caller: &mut Caller,
) -> Result<Vec<(u16, bool)>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    Firewall::run(&counting(tunnel, ports))?;
    let outcome = knocked(caller, ports);
    Firewall::run(&removing())?;
    outcome
}

fn knocked(caller: &mut Caller, ports: &[u16]) -> Result<Vec<(u16, bool)>> {
    let asked = caller.ask(&Request::Knock {
        ports: ports.to_vec(),
    })?;
    if asked["client"].is_null() {
        return Ok(Vec::new());
    }
    let start = Instant::now();
    loop {
        let output = Command::new("nft")
            .args(["list", "table", "inet", TABLE])
            .output();
        let listed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let seen = counted(&listed.unwrap_or_default(), ports);
        if seen.iter().all(|(_, seen)| *seen) || start.elapsed() > PATIENCE {
            return Ok(seen);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The first TCP ports of some forwards.
pub(super) fn tcp_ports(forwards: impl Iterator<Item = Forward>) -> Vec<u16> {
    forwards
        .filter(|forward| forward.protocol != Protocol::Udp)
        .map(|forward| forward.first)
        .take(4)
        .collect()
}

/// Some TCP port of those that lead to an only client.
pub(super) fn automatic() -> Result<Option<u16>> {
    let mut random = [0; 2];
    key::random(&mut random)?;
    let first = 1024 + u16::from_ne_bytes(random) % 60_000;
    let kept = port::waiting();
    Ok((first..=65_000).find(|port| !kept.contains(&(Protocol::Tcp, *port))))
}

fn removing() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn counting(tunnel: &InterfaceName, ports: &[u16]) -> String {
    // Before what other tables have for packets as they come.
    let rules: Vec<String> = ports
        .iter()
        .map(|port| format!("iifname != \"{tunnel}\" tcp dport {port} counter\n"))
        .collect();
    format!(
        "{}table inet {TABLE} {{\nchain arrived {{\ntype filter hook prerouting priority -310\n{}}}\n}}\n",
        removing(),
        rules.concat()
    )
}

fn counted(listed: &str, ports: &[u16]) -> Vec<(u16, bool)> {
    let seen = |port: u16| {
        let rule = format!("tcp dport {port} counter packets ");
        let count = listed.lines().find_map(|line| line.split_once(&rule));
        count.is_some_and(|(_, count)| !count.starts_with("0 "))
    };
    ports.iter().map(|port| (*port, seen(*port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_is_read_from_the_table() {
        let listed = "\t\tiifname != \"sennit0\" tcp dport 80 counter packets 0 bytes 0\n\
                      \t\tiifname != \"sennit0\" tcp dport 8080 counter packets 2 bytes 120\n";
        assert_eq!(
            counted(listed, &[80, 8080, 443]),
            [(80, false), (8080, true), (443, false)]
        );
    }
}
