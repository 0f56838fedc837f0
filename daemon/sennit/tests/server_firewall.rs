//! What a server's clients reach, what they are kept from, and which ports lead to them: with real packets.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::bond::{Bond, INTERNET, INTERNET_V6, SERVER, SERVER_V6};
use common::{Home, Namespace, Running, text, wait};
use rustix::process::Signal;

const INNER: &str = "10.73.0.1";
const CLIENT: &str = "10.73.0.2";

/// Both daemons, with these lines in the server's configuration, and in its entry for the client.
fn start(bond: &Bond, server_lines: &str, entry_lines: &str) -> (Running, Running) {
    configure(bond, server_lines, entry_lines);
    let both = (bond.start_client(), bond.start_server());
    bond.wait_paths(2);
    both
}

fn configure(bond: &Bond, server_lines: &str, entry_lines: &str) {
    bond.configure_both(SERVER, "lan = [\"lan\"]", server_lines);
    let file = bond.server_home.path("sennit.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{written}{entry_lines}\n")).unwrap();
}

fn reload(bond: &Bond, server: &mut Running, server_lines: &str, entry_lines: &str) {
    configure(bond, server_lines, entry_lines);
    server.signal(Signal::HUP);
    server.wait_for("configuration read again");
}

fn pings(from: &Namespace, target: &str) -> bool {
    let arguments = ["-n", "-c", "1", "-W", "1", target];
    from.command("ping", &arguments)
        .output()
        .unwrap()
        .status
        .success()
}

/// A service that says its name to whoever connects, by TCP, or sends something, by UDP. Ends with the test.
fn service(on: &Namespace, name: &'static str, address: &str, port: u16) {
    let address: SocketAddr = (address.parse::<IpAddr>().unwrap(), port).into();
    let listener = on.enter(|| TcpListener::bind(address).unwrap());
    let socket = on.enter(|| UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.unwrap().write_all(name.as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}

/// Who answers at a TCP port.
fn who(from: &Namespace, host: &str, port: u16) -> Option<String> {
    let address: SocketAddr = (host.parse::<IpAddr>().unwrap(), port).into();
    let mut stream = from
        .enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)))
        .ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut name = String::new();
    stream.read_to_string(&mut name).ok()?;
    Some(name)
}

/// Who answers at a UDP port.
fn who_udp(from: &Namespace, host: &str, port: u16) -> Option<String> {
    let address: SocketAddr = (host.parse::<IpAddr>().unwrap(), port).into();
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.enter(|| UdpSocket::bind(any).unwrap());
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send(b"?").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn a_client_reaches_the_internet_and_nothing_private_unless_allowed() {
    let Some(bond) = Bond::new() else { return };
    bond.add_ipv6();
    let private = ["10.9.9.9", "192.168.50.1", "172.20.0.1", "100.64.0.1", "fd12::1"];
    let secret = [
        "169.254.169.254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
    ];
    for address in private.iter().chain(&secret) {
        let prefix = if address.contains(':') { 128 } else { 32 };
        bond.internet
            .run(&format!("ip addr add {address}/{prefix} dev lo"));
        if !address.contains(':') {
            // Not only refused by a missing route.
            bond.server
                .run(&format!("ip route add {address} via 203.0.113.1"));
        }
        wait(address, || pings(&bond.server, address));
    }
    service(&bond.server, "server", "0.0.0.0", 7022);
    let (_client, mut server) = start(&bond, "", "");
    assert!(pings(&bond.client, INTERNET) && pings(&bond.host, INTERNET));
    assert!(pings(&bond.client, INTERNET_V6));
    assert!(pings(&bond.client, INNER) && pings(&bond.client, "fd73:656e:6e69:7400::1"));
    for address in private.iter().chain(&secret) {
        assert!(!pings(&bond.client, address), "{address} was reached");
    }
    for host in [INNER, SERVER] {
        assert_eq!(
            (who(&bond.client, host, 7022), who_udp(&bond.client, host, 7022)),
            (None, None),
            "{host}"
        );
    }
    assert!(!pings(&bond.client, SERVER_V6));

    reload(
        &bond,
        &mut server,
        "",
        "allow = [\"10.9.0.0/16\", \"server:tcp/7022\"]",
    );
    assert!(pings(&bond.client, "10.9.9.9") && pings(&bond.host, "10.9.9.9"));
    assert!(!pings(&bond.client, "192.168.50.1"));
    assert_eq!(who(&bond.client, INNER, 7022).as_deref(), Some("server"));
    assert_eq!(who_udp(&bond.client, INNER, 7022), None);

    reload(&bond, &mut server, "", "allow = [\"lan\", \"server\"]");
    for address in private {
        assert!(pings(&bond.client, address), "{address}");
    }
    for address in secret {
        assert!(!pings(&bond.client, address), "{address} was reached");
    }
    assert_eq!(who_udp(&bond.client, INNER, 7022).as_deref(), Some("server"));

    // Somebody flushes all rules: with the next look the table is there again.
    bond.server.run("nft flush ruleset");
    reload(&bond, &mut server, "", "");
    assert!(!pings(&bond.client, "10.9.9.9") && pings(&bond.client, INTERNET));
}

#[test]
fn ports_lead_to_the_only_client_and_through_it_to_hosts_behind() {
    let Some(bond) = Bond::new() else { return };
    bond.add_ipv6();
    service(&bond.server, "server", "0.0.0.0", 8022);
    service(&bond.client, "client", "::", 5555);
    service(&bond.client, "web", "0.0.0.0", 5080);
    service(&bond.host, "host", "0.0.0.0", 6000);
    // What UPnP or the router's own firewall would set.
    bond.client.nft(
        "add table ip lanmap; add chain ip lanmap in { type nat hook prerouting priority -100; }; \
         add rule ip lanmap in iifname sennit0 tcp dport 9000 dnat to 192.168.7.2:6000; \
         add rule ip lanmap in iifname sennit0 udp dport 9000 dnat to 192.168.7.2:6000",
    );
    let (_client, mut server) = start(&bond, "", "forward = [\"tcp/80:5080\", \"443-445:5554\"]");
    let from = &bond.internet;
    for (port, name) in [(5555, "client"), (9000, "host"), (8022, "server")] {
        assert_eq!(who(from, SERVER, port).as_deref(), Some(name), "tcp {port}");
        assert_eq!(who_udp(from, SERVER, port).as_deref(), Some(name), "udp {port}");
    }
    assert_eq!(who(from, SERVER_V6, 5555).as_deref(), Some("client"));
    assert_eq!(who_udp(from, SERVER_V6, 5555).as_deref(), Some("client"));
    assert_eq!(who(from, SERVER, 80).as_deref(), Some("web"));
    assert_eq!(who(from, SERVER, 444).as_deref(), Some("client"));
    assert_eq!(who_udp(from, SERVER, 444).as_deref(), Some("client"));
    // From inside as from outside.
    assert_eq!(who(&bond.host, SERVER, 9000).as_deref(), Some("host"));
    assert_eq!(who(&bond.client, SERVER, 5555).as_deref(), Some("client"));
    // A port that a program of the server takes is its own from the next look on.
    service(&bond.server, "late", "0.0.0.0", 5555);
    reload(&bond, &mut server, "", "");
    assert_eq!(who(from, SERVER, 5555).as_deref(), Some("late"));
    assert_eq!(who(from, SERVER, 80), None);

    reload(
        &bond,
        &mut server,
        "forward = \"none\"",
        "forward = [\"udp/9000\"]",
    );
    assert_eq!(who(from, SERVER, 9000), None);
    assert_eq!(who_udp(from, SERVER, 9000).as_deref(), Some("host"));
    assert_eq!(bond.leaked(), 0);
}

#[test]
fn of_several_clients_each_has_its_own_forwards_and_they_do_not_meet() {
    let Some(bond) = Bond::new() else { return };
    let second = Namespace::new().unwrap();
    let home = Home::new();
    let key = home.key();
    second.connect("w9", "192.0.9.2/24", &bond.internet, "192.0.9.1/24");
    second.run("ip route add default via 192.0.9.1 dev w9");
    let entry = |first: &str, more: &str| {
        format!(
            "{first}\n[[client]]\nname = \"second\"\npublic_key = \"{key}\"\naddress = [\"10.73.0.3\"]\n{more}"
        )
    };
    service(&bond.client, "first", "0.0.0.0", 5000);
    service(&second, "second", "0.0.0.0", 5000);
    let (_client, mut server) = start(
        &bond,
        "",
        &entry("forward = [\"tcp/5001:5000\"]", "forward = [\"tcp/5002:5000\"]"),
    );
    let server_key = std::process::Command::new(common::SENNIT)
        .args(["pubkey", text(&bond.server_home.path("key"))])
        .output()
        .unwrap();
    let server_key = String::from_utf8(server_key.stdout).unwrap();
    let config = home.configure(&format!(
        "private_key_file = {:?}\n[server]\naddress = \"{SERVER}\"\npublic_key = \"{}\"\n",
        home.path("key"),
        server_key.trim()
    ));
    let _second = second.sennit(&["run", "client", "--config", text(&config)]);
    home.wait_status("the second client is connected", |status| {
        status["state"] == "connected"
    });

    assert_eq!(who(&bond.internet, SERVER, 5001).as_deref(), Some("first"));
    assert_eq!(who(&bond.internet, SERVER, 5002).as_deref(), Some("second"));
    assert_eq!(who(&bond.internet, SERVER, 5000), None);
    assert!(!pings(&bond.client, "10.73.0.3") && !pings(&second, CLIENT));
    assert_eq!(who(&second, CLIENT, 5000), None);
    // By a forward anybody may come, a client, too.
    assert_eq!(who(&second, SERVER, 5001).as_deref(), Some("first"));

    reload(&bond, &mut server, "", &entry("", "allow = [\"clients\"]"));
    assert!(pings(&second, CLIENT));
    assert!(
        !pings(&bond.client, "10.73.0.3"),
        "only the other direction is allowed"
    );
}

/// The client's IPv6 address is its own outside, too: how neighbours and routers find it differs.
fn reached_by_its_own_address(mode: &str, prefix: &str, prepare: impl Fn(&Bond), first_hop: &str) {
    let Some(bond) = Bond::new() else { return };
    bond.add_ipv6();
    prepare(&bond);
    let (server, client) = (format!("{prefix}1"), format!("{prefix}2"));
    service(&bond.client, "client", "::", 5555);
    service(&bond.client, "low", "::", 555);
    let lines = format!("ipv6 = \"{mode}\"\naddress = [\"10.73.0.1/24\", \"{server}/112\"]");
    configure(&bond, &lines, "forward = [\"tcp/600:555\"]");
    let file = bond.server_home.path("sennit.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, written.replace("fd73:656e:6e69:7400::2", &client)).unwrap();
    let before =
        bond.server.run("ip -6 neigh show proxy") + &bond.server.run("sysctl net.ipv6.conf.s0.proxy_ndp");
    let (_client, _server) = (bond.start_client(), bond.start_server());
    bond.wait_paths(2);
    wait(first_hop, || pings(&bond.client, INTERNET_V6));
    assert!(pings(&bond.internet, &client) && pings(&bond.internet, &server));
    assert_eq!(who(&bond.internet, &client, 5555).as_deref(), Some("client"));
    assert_eq!(who_udp(&bond.internet, &client, 5555).as_deref(), Some("client"));
    assert_eq!(
        who(&bond.internet, &client, 555).as_deref(),
        Some("low"),
        "a forward, as the client numbers it"
    );
    assert_eq!(who_udp(&bond.internet, &client, 555), None);
    assert_eq!(who(&bond.internet, SERVER, 600).as_deref(), Some("low"));
    // Nothing was translated.
    let seen = bond.client.enter(|| UdpSocket::bind("[::]:5556").unwrap());
    let asking = bond.internet.enter(|| UdpSocket::bind((INTERNET_V6, 7)).unwrap());
    asking.send_to(b"?", (client.as_str(), 5556)).unwrap();
    seen.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(
        seen.recv_from(&mut [0; 9]).unwrap().1.ip().to_string(),
        INTERNET_V6
    );
    let config = bond.server_home.path("sennit.toml");
    bond.server
        .run(&format!("{} down --config {}", common::SENNIT, text(&config)));
    let after =
        bond.server.run("ip -6 neigh show proxy") + &bond.server.run("sysctl net.ipv6.conf.s0.proxy_ndp");
    assert_eq!(after, before);
}

#[test]
fn ipv6_of_clients_may_be_routed_to_the_server() {
    let route = |bond: &Bond| {
        bond.internet
            .run("ip route add 2001:db8:77::/64 via 2001:db8:5::5");
    };
    reached_by_its_own_address("routed", "2001:db8:77::", route, "by a route");
}

#[test]
fn ipv6_of_clients_may_be_a_part_of_the_uplinks_network() {
    reached_by_its_own_address("ndp", "2001:db8:5::73:", |_| {}, "by neighbour discovery");
}

#[test]
fn check_proves_ports_from_outside_through_a_client() {
    let Some(bond) = Bond::new() else { return };
    let (_client, _server) = start(&bond, "", "forward = [\"tcp/80:5080\"]");
    let config = bond.server_home.path("sennit.toml");
    let check = || {
        let arguments = ["server", "check", "--config", text(&config)];
        let output = bond.server.command(common::SENNIT, &arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let found = check();
    assert!(
        found.contains("ok       reached from outside by boat\n"),
        "{found}"
    );
    assert!(
        found.contains("ok       the Internet reaches TCP port 80\n"),
        "{found}"
    );
    assert_eq!(
        found.matches("ok       the Internet reaches TCP port ").count(),
        2,
        "{found}"
    );
    // A cloud that lets in nothing but the tunnel.
    bond.internet.nft(
        "add table ip cloud; add chain ip cloud group { type filter hook forward priority 0; }; \
         add rule ip cloud group ip daddr 203.0.113.5 meta l4proto tcp drop",
    );
    let found = check();
    assert!(
        found.contains("problem  what a client sent to the forwarded TCP port 80 by a WAN did not arrive\n"),
        "{found}"
    );
    assert!(!bond.server.run("nft list ruleset").contains("sennit_check"));
}
