//! Other packet filters on the server's machine: each is opened for the tunnel, and left as it was found.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::bond::{Bond, INTERNET, SERVER};
use common::{Namespace, SENNIT, has, text};

const CLOSED_NFTABLES: &str = "add table inet mine; \
     add chain inet mine incoming { type filter hook input priority 0; policy drop; }; \
     add rule inet mine incoming ct state established,related accept; \
     add chain inet mine through { type filter hook forward priority 0; policy drop; }; \
     add rule inet mine through ct state established,related accept";

/// As somebody sets up a careful machine with iptables.
const CLOSED_IPTABLES: &str = "for v in 4 6; do t=iptables; [ $v = 6 ] && t=ip6tables; t=$t$VARIANT; \
     $t -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; $t -A INPUT -p ipv6-icmp -j ACCEPT; \
     $t -A INPUT -p tcp --dport 22 -j ACCEPT; $t -P INPUT DROP; $t -P FORWARD DROP; done";

/// As Docker sets it up.
const DOCKER: &str = "iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; iptables -A FORWARD -j DOCKER-USER; \
     iptables -N DOCKER-ISOLATION; iptables -A FORWARD -j DOCKER-ISOLATION; iptables -P FORWARD DROP";

fn picture(machine: &Namespace) -> String {
    let script = "nft list ruleset; if [ -e /proc/net/ip_tables_names ]; then iptables-legacy -S; ip6tables-legacy -S; fi";
    let output = machine.command("sh", &["-c", script]).output().unwrap();
    let rules = String::from_utf8(output.stdout).unwrap();
    // Counters move.
    rules
        .lines()
        .map(|line| match line.split_once("counter packets ") {
            Some((before, after)) => format!("{before}{}\n", after.splitn(4, ' ').nth(3).unwrap_or("")),
            None => format!("{line}\n"),
        })
        .collect()
}

/// Closes the server by a script, and opens it by starting the server; `down` leaves what was there.
fn opened_and_closed_again(close: &str, needs: &str) {
    let Some(bond) = Bond::new() else { return };
    if !has(needs) {
        return;
    }
    let output = bond.server.command("sh", &["-ec", close]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let before = picture(&bond.server);
    bond.configure_both(SERVER, "lan = [\"lan\"]", "open_filters = true");
    let listener = bond
        .client
        .enter(|| std::net::TcpListener::bind("0.0.0.0:5555").unwrap());
    let (_client, server) = (bond.start_client(), bond.start_server());
    bond.wait_paths(2);
    bond.client.run(&format!("ping -c 1 -W 2 {INTERNET}"));
    bond.client.run("ping -c 1 -W 2 10.73.0.1");
    let address: std::net::SocketAddr = format!("{SERVER}:5555").parse().unwrap();
    let patience = std::time::Duration::from_secs(5);
    bond.internet
        .enter(|| std::net::TcpStream::connect_timeout(&address, patience).unwrap());
    drop(listener);
    assert_ne!(picture(&bond.server), before);
    // A second start adds nothing.
    let once = picture(&bond.server);
    server.kill();
    let _server = bond.start_server();
    bond.wait_paths(2);
    bond.server_home
        .wait_status("it runs", |status| status["state"] == "running");
    assert_eq!(picture(&bond.server), once);
    let config = bond.server_home.path("sennit.toml");
    bond.server
        .run(&format!("{SENNIT} down --config {}", text(&config)));
    assert_eq!(picture(&bond.server), before);
}

#[test]
fn a_table_of_nftables() {
    opened_and_closed_again(&format!("nft '{CLOSED_NFTABLES}'"), "nft");
}

#[test]
fn iptables_over_nftables() {
    opened_and_closed_again(&CLOSED_IPTABLES.replace("$VARIANT", "-nft"), "iptables-nft");
}

#[test]
fn the_old_iptables() {
    let supported = Command::new("unshare")
        .args(["--net", "iptables-legacy", "-S"])
        .output();
    if supported.is_ok_and(|output| output.status.success()) {
        opened_and_closed_again(&CLOSED_IPTABLES.replace("$VARIANT", "-legacy"), "iptables-legacy");
    }
}

#[test]
fn dockers_chain() {
    opened_and_closed_again(DOCKER, "iptables");
}

#[test]
fn without_being_told_other_filters_are_left_alone() {
    let Some(bond) = Bond::new() else { return };
    bond.server.nft(CLOSED_NFTABLES);
    let before = bond.server.run("nft list table inet mine");
    bond.configure_both(SERVER, "", "");
    let mut server = bond.start_server();
    server.wait_for("listening");
    assert_eq!(bond.server.run("nft list table inet mine"), before);
}
