//! Connections of a LAN host live on whatever happens to the tunnel beneath them, and not one packet of theirs is seen on a
//! WAN meanwhile. `SENNIT_KILLS=100` makes it the long run: so many kills of each end, half a minute without a client, two
//! minutes without a WAN.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::bond::{Bond, INTERNET, INTERNET_V6, active_paths};
use common::transfer::{Direction, Transfer};
use common::{Namespace, SENNIT, has, text};
use rustix::process::Signal;

/// What is wanted of each connection before it counts as alive.
const BYTES: u64 = 200_000;
/// Longer than TCP waits before it tries again after an outage of a second or two.
const SOON: Duration = Duration::from_secs(20);

/// How long the connections are watched after a restart.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// What a planned restart may cost each of them.
const UNNOTICED: Duration = Duration::from_secs(1);

/// The number of kills, if the long run is wanted.
fn kills() -> Option<usize> {
    std::env::var("SENNIT_KILLS")
        .ok()
        .map(|number| number.parse().expect("SENNIT_KILLS is a number"))
}

fn seconds(short: u64, long: u64) -> Duration {
    Duration::from_secs(if kills().is_some() { long } else { short })
}

/// Connections in both directions, by IPv4 and by IPv6.
struct Flows(Vec<Transfer>);

impl Flows {
    fn start(bond: &Bond) -> Self {
        let kinds = [INTERNET, INTERNET_V6]
            .into_iter()
            .flat_map(|address| [Direction::Up, Direction::Down].map(|direction| (address, direction)));
        let flows = Self(
            kinds
                .map(|(address, direction)| Transfer::steady(bond, address, direction))
                .collect(),
        );
        flows.go_on(SOON);
        flows
    }

    /// Waits until all of them go on; returns how long the last one took.
    fn go_on(&self, patience: Duration) -> Duration {
        let start = Instant::now();
        let wanted: Vec<u64> = self.0.iter().map(|flow| flow.received() + BYTES).collect();
        for (flow, wanted) in self.0.iter().zip(wanted) {
            flow.reaches(wanted, start + patience);
        }
        start.elapsed()
    }

    /// The longest time for which one of them stood still while `action` was done and for a while after.
    fn longest_pause(&self, action: impl FnOnce() + Send) -> Duration {
        let mut seen: Vec<(u64, Instant)> = self
            .0
            .iter()
            .map(|flow| (flow.received(), Instant::now()))
            .collect();
        let mut longest = Duration::ZERO;
        std::thread::scope(|scope| {
            let acting = scope.spawn(action);
            let mut done = None;
            while done.is_none_or(|at: Instant| at.elapsed() < AFTERWARDS) {
                for (flow, (received, since)) in self.0.iter().zip(&mut seen) {
                    longest = longest.max(since.elapsed());
                    if flow.received() != *received {
                        *received = flow.received();
                        *since = Instant::now();
                    }
                }
                if acting.is_finished() {
                    done.get_or_insert_with(Instant::now);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        longest
    }

    fn finish(self) {
        self.0.into_iter().for_each(Transfer::finish);
    }
}

fn bond() -> Option<Bond> {
    let bond = Bond::new()?;
    bond.add_ipv6();
    Some(bond)
}

/// What a LAN host sends besides: echo requests to the Internet, by both versions, ten a second.
struct Pings(Vec<Child>);

impl Pings {
    fn start(from: &Namespace) -> Self {
        let ping = |address: &str| {
            let mut command = from.command("ping", &["-i", "0.1", address]);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        Self([INTERNET, INTERNET_V6].map(ping).into())
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn no_connection_is_lost_when_either_end_is_killed_again_and_again() {
    let Some(bond) = bond() else { return };
    let (mut client, mut server) = bond.start(2);
    let flows = Flows::start(&bond);
    let rounds = kills().unwrap_or(10);
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        // Not always at the same point of a round trip or of a timer.
        let pause = Duration::from_millis(round as u64 * 137 % 700);
        client.kill();
        std::thread::sleep(pause);
        client = bond.start_client();
        let clients = flows.go_on(SOON);
        std::thread::sleep(pause);
        server.kill();
        std::thread::sleep(pause);
        server = bond.start_server();
        let servers = flows.go_on(SOON);
        longest = longest.max(clients).max(servers);
        eprintln!("round {round}: {pause:?} away; client back {clients:?}, server back {servers:?}");
    }
    flows.finish();
    assert_eq!(bond.leaked(), 0);
    eprintln!(
        "{} kills, no connection of 4 lost; all went on within {longest:?}",
        2 * rounds
    );
}

#[test]
fn a_planned_restart_of_either_end_takes_less_than_a_second() {
    let Some(bond) = bond() else { return };
    let (mut client, mut server) = bond.start(2);
    let flows = Flows::start(&bond);
    let rounds = kills().unwrap_or(4);
    let mut pauses = [Duration::ZERO; 2];
    for round in 0..rounds {
        let servers = flows.longest_pause(|| {
            server.signal(Signal::TERM);
            server.wait_end();
            server = bond.start_server();
        });
        bond.wait_paths(2);
        let clients = flows.longest_pause(|| {
            client.signal(Signal::TERM);
            client.wait_end();
            client = bond.start_client();
        });
        bond.wait_paths(2);
        eprintln!(
            "round {round}: longest pause at the server's restart {servers:?}, at the client's {clients:?}"
        );
        pauses = [pauses[0].max(servers), pauses[1].max(clients)];
    }
    flows.finish();
    assert_eq!(bond.leaked(), 0);
    assert!(pauses.iter().all(|pause| *pause < UNNOTICED), "{pauses:?}");
}

#[test]
fn while_the_client_is_dead_nothing_is_seen_on_a_wan() {
    let Some(bond) = bond() else { return };
    let (client, _server) = bond.start(2);
    let flows = Flows::start(&bond);
    let _pings = [Pings::start(&bond.host), Pings::start(&bond.client)];
    client.kill();
    let dead = seconds(5, 30);
    std::thread::sleep(dead);
    assert_eq!(bond.leaked(), 0);
    let client = bond.start_client();
    // TCP doubles the time between its tries.
    let after = flows.go_on(dead + SOON);
    eprintln!("{dead:?} without a client: all connections went on {after:?} after its start");
    flows.finish();
    assert_eq!(bond.leaked(), 0);

    // The counter counts: without sennit, this is what would have been seen.
    let config = bond.client_home.path("sennit.toml");
    bond.client
        .run(&format!("{SENNIT} down --config {}", text(&config)));
    client.finish();
    bond.client.run("sysctl -qw net.ipv4.ip_forward=1");
    common::wait("packets are seen on a WAN", || bond.leaked() > 0);
}

#[test]
fn addresses_change_and_a_translator_forgets() {
    let Some(bond) = bond() else { return };
    // Each WAN behind a translator with an address of its own. In another zone of connection tracking nothing is known, and
    // ports are chosen anew.
    let translate = |zone: u8| {
        let rules = format!(
            "table ip translator\ndelete table ip translator\ntable ip translator {{\n\
             chain zone {{\ntype filter hook prerouting priority -300\n\
             iifname \"w1\" udp dport 7300 ct zone set {zone}\n\
             iifname \"s0\" ip daddr 203.0.113.11 ct zone set {zone}\n\
             iifname \"w2\" udp dport 7300 ct zone set 100\n\
             iifname \"s0\" ip daddr 203.0.113.12 ct zone set 100\n}}\n\
             chain source {{\ntype nat hook postrouting priority 100\n\
             iifname \"w1\" udp dport 7300 snat to 203.0.113.11:20000-60000 fully-random\n\
             iifname \"w2\" udp dport 7300 snat to 203.0.113.12:20000-60000 fully-random\n}}\n}}\n"
        );
        bond.internet.nft(&rules);
    };
    for address in ["203.0.113.11/24", "203.0.113.12/24"] {
        bond.internet.run(&format!("ip addr add {address} dev s0"));
    }
    translate(1);
    let (_client, _server) = bond.start(2);
    let flows = Flows::start(&bond);
    bond.server.nft(
        "table ip ports {\nset seen {\ntype inet_service\nflags dynamic\n}\n\
         chain in {\ntype filter hook input priority 0\n\
         ip saddr 203.0.113.11 udp dport 7300 add @seen { udp sport }\n}\n}\n",
    );
    let ports_seen = || {
        let set = bond.server.run("nft list set ip ports seen");
        let elements = set.split("elements = {").nth(1);
        elements.map_or(0, |elements| elements.split(',').count())
    };
    for zone in 2..5 {
        let before = ports_seen();
        translate(zone);
        flows.go_on(SOON);
        bond.wait_paths(2);
        common::wait("the server is reached from another port", || {
            ports_seen() > before
        });
    }
    for last in 3..6 {
        bond.client.run("ip -4 addr flush dev w1");
        bond.client.run(&format!("ip addr add 192.0.1.{last}/24 dev w1"));
        bond.client
            .run("ip route add default via 192.0.1.1 dev w1 metric 1");
        flows.go_on(SOON);
        bond.wait_paths(2);
    }
    flows.finish();
    assert_eq!(bond.leaked(), 0);
}

#[test]
fn the_server_reboots() {
    let Some(bond) = bond() else { return };
    let (_client, server) = bond.start(2);
    // With the server's table of translations its knowledge of connections goes, downloads' too, whose host has nothing
    // to say until something arrives.
    let flows = Flows::start(&bond);
    bond.server.run("ip link set s0 down");
    server.kill();
    // Nothing but the disk is left, and of the disk only the configuration.
    bond.server.run("ip link del sennit0");
    bond.server.nft("flush ruleset");
    std::fs::remove_dir_all(bond.server_home.path("state")).unwrap();
    if has("conntrack") {
        bond.server.run("conntrack --flush");
    }
    bond.client_home
        .wait_status("the server is away", |status| status["state"] != "connected");
    // Before the network, as firewalls start.
    let mut server = bond.start_server();
    server.wait_for("listening");
    bond.server.run("ip link set s0 up");
    bond.server.run("ip addr add 2001:db8:5::5/64 dev s0 nodad");
    for gateway in ["203.0.113.1", "2001:db8:5::1"] {
        bond.server.run(&format!("ip route add default via {gateway}"));
    }
    let after = flows.go_on(2 * SOON);
    eprintln!("all connections went on {after:?} after the server's start");
    flows.finish();
    assert_eq!(bond.leaked(), 0);
}

#[test]
fn all_wans_are_out_for_a_while() {
    let Some(bond) = bond() else { return };
    let (_client, _server) = bond.start(2);
    let flows = Flows::start(&bond);
    // Silently: the interfaces stay up.
    bond.internet.nft(
        "table inet silence {\nchain in {\ntype filter hook prerouting priority -350\niifname \"w*\" drop\n}\n\
         chain out {\ntype filter hook postrouting priority 300\noifname \"w*\" drop\n}\n}\n",
    );
    let out = seconds(30, 120);
    std::thread::sleep(out);
    assert!(active_paths(&bond.client_home.status()).is_empty());
    assert_eq!(bond.leaked(), 0);
    bond.internet.nft("delete table inet silence");
    bond.wait_paths(2);
    let after = flows.go_on(out + SOON);
    eprintln!("{out:?} without a WAN: all connections went on {after:?} after the first answer");
    flows.finish();
    assert_eq!(bond.leaked(), 0);
}
