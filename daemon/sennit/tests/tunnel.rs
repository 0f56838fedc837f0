//! Both ends, two WANs and a LAN host behind the client, in namespaces: traffic flows, survives what may happen, and
//! never leaves by a WAN in clear.
#![allow(clippy::unwrap_used)]

mod common;

use common::bond::{Bond, INTERNET, SERVER, SERVER_V6, active_paths};
use common::transfer::Transfer;
use common::{SENNIT, has, picture, text};
use rustix::process::Signal;

#[test]
fn hosts_behind_the_client_reach_the_internet_over_both_wans() {
    let Some(bond) = Bond::new() else { return };
    let _running = bond.start(2);
    bond.host.run(&format!("ping -c 3 -i 0.2 -W 2 {INTERNET}"));
    bond.client.run(&format!("ping -c 3 -i 0.2 -W 2 {INTERNET}"));
    bond.client.run("ping -c 2 -i 0.2 -W 2 10.73.0.1");
    bond.client.run("ping -6 -c 2 -i 0.2 -W 2 fd73:656e:6e69:7400::1");
    let transfer = Transfer::start(&bond);
    bond.client_home
        .wait_status("both WANs carry the transfer", |status| {
            let wans = status["wans"].as_array().unwrap();
            wans.iter()
                .all(|wan| wan["paths"][0]["sent_bytes"].as_u64() > Some(100_000))
        });
    transfer.finish();
    assert_eq!(bond.leaked(), 0);
}

#[test]
fn the_wans_may_have_ipv6_only() {
    let Some(bond) = Bond::new() else { return };
    bond.add_ipv6();
    for wan in ["w1", "w2"] {
        bond.client.run(&format!("ip -4 addr flush dev {wan}"));
    }
    bond.configure_both(SERVER_V6, "lan = [\"lan\"]", "");
    let _running = (bond.start_client(), bond.start_server());
    bond.wait_paths(2);
    bond.host.run(&format!("ping -c 3 -i 0.2 -W 2 {INTERNET}"));
    let transfer = Transfer::start(&bond);
    transfer.goes_on(300_000);
    // The silent death of one of them.
    bond.internet.nft(
        "add table netdev dead; add chain netdev dead in { type filter hook ingress device w1 priority 0; policy drop; }",
    );
    transfer.goes_on(300_000);
    bond.client_home
        .wait_status("w1 is given up", |status| active_paths(status) == ["w2"]);
    transfer.finish();
}

#[test]
fn without_encryption_only_if_both_ends_want_that() {
    let Some(bond) = Bond::new() else { return };
    let off = "encryption = \"off\"";
    for (client, server, ciphers) in [
        (off, off, ["none", "none"]),
        (off, "", ["AES-256-GCM", "ChaCha20-Poly1305"]),
        ("", off, ["AES-256-GCM", "ChaCha20-Poly1305"]),
    ] {
        bond.configure_both(SERVER, client, server);
        let _running = (bond.start_client(), bond.start_server());
        bond.wait_paths(2);
        bond.client.run("ping -c 2 -i 0.2 -W 2 10.73.0.1");
        let status = bond
            .client_home
            .wait_status("it says how", |status| status["cipher"].is_string());
        assert!(ciphers.contains(&status["cipher"].as_str().unwrap()), "{status}");
        let shown = bond.client_home.sennit(&["status"]).stdout;
        let shown = String::from_utf8_lossy(&shown);
        assert_eq!(shown.contains("not encrypted"), ciphers[0] == "none", "{shown}");
    }
}

#[test]
fn connections_survive_sigkill_of_either_end_and_nothing_leaks() {
    let Some(bond) = Bond::new() else { return };
    let (mut client, mut server) = bond.start(2);
    let transfer = Transfer::start(&bond);
    transfer.goes_on(300_000);
    for _ in 0..3 {
        client.kill();
        // The host's packets meet an interface that nobody reads.
        bond.host
            .command("ping", &["-c", "2", "-i", "0.2", "-W", "1", INTERNET])
            .output()
            .unwrap();
        assert_eq!(bond.leaked(), 0);
        client = bond.start_client();
        transfer.goes_on(300_000);
        server.kill();
        server = bond.start_server();
        transfer.goes_on(300_000);
    }
    // Even without the interface.
    client.kill();
    bond.client.run("ip link del sennit0");
    for namespace in [&bond.host, &bond.client] {
        let ping = namespace
            .command("ping", &["-c", "2", "-i", "0.2", "-W", "1", INTERNET])
            .output()
            .unwrap();
        assert!(!ping.status.success());
    }
    assert_eq!(bond.leaked(), 0);
    let _client = bond.start_client();
    transfer.goes_on(300_000);
    transfer.finish();
    assert_eq!(bond.leaked(), 0);
}

#[test]
fn wans_come_and_go_while_a_transfer_runs() {
    let Some(bond) = Bond::new() else { return };
    let (mut client, _server) = bond.start(2);
    let transfer = Transfer::start(&bond);
    transfer.goes_on(300_000);

    // Set down: the default route goes with it.
    bond.client.run("ip link set w1 down");
    client.wait_for("left: it has no default route any more wan=\"w1\"");
    bond.client_home
        .wait_status("w1 is out", |status| active_paths(status) == ["w2"]);
    transfer.goes_on(300_000);
    bond.client.run("ip link set w1 up");
    bond.client
        .run("ip route add default via 192.0.1.1 dev w1 metric 1");
    bond.wait_paths(2);

    // The cable is pulled at the other end: routes stay, the carrier goes.
    bond.internet.run("ip link set w2 down");
    bond.client_home.wait_status("w2 has no carrier", |status| {
        let wans = status["wans"].as_array().unwrap();
        wans.iter()
            .any(|wan| wan["name"] == "w2" && wan["why"] == "no carrier")
    });
    transfer.goes_on(300_000);
    bond.internet.run("ip link set w2 up");
    bond.wait_paths(2);

    // Another one is plugged in; an address changes.
    bond.add_wan(3);
    bond.wait_paths(3);
    bond.client.run("ip addr flush dev w3");
    bond.client.run("ip addr add 192.0.3.77/24 dev w3");
    bond.client
        .run("ip route add default via 192.0.3.1 dev w3 metric 3");
    bond.wait_paths(3);
    transfer.goes_on(300_000);

    // All are gone for a while.
    for number in [1, 2, 3] {
        bond.internet.run(&format!("ip link set w{number} down"));
    }
    bond.client_home
        .wait_status("no WAN is left", |status| active_paths(status).is_empty());
    assert_eq!(bond.leaked(), 0);
    for number in [1, 2, 3] {
        bond.internet.run(&format!("ip link set w{number} up"));
    }
    bond.wait_paths(3);
    transfer.goes_on(300_000);
    transfer.finish();
    assert_eq!(bond.leaked(), 0);
}

#[test]
fn settings_change_while_running_and_are_kept() {
    let Some(bond) = Bond::new() else { return };
    let (mut client, server) = bond.start(2);
    let transfer = Transfer::start(&bond);
    let ok = |arguments: &[&str]| {
        let output = bond.client_home.sennit(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    ok(&["mode", "redundant"]);
    assert_eq!(ok(&["mode"]), "redundant\n");
    ok(&["wan", "w2", "off"]);
    bond.client_home
        .wait_status("w2 is off", |status| active_paths(status) == ["w1"]);
    assert!(ok(&["wan"]).contains("w2   off"));
    let unknown = bond.client_home.sennit(&["wan", "eth9", "backup"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("hint: the WANs are: w1, w2"),
        "{}",
        String::from_utf8_lossy(&unknown.stderr)
    );
    transfer.goes_on(300_000);
    client.kill();
    client = bond.start_client();
    bond.wait_paths(1);
    assert_eq!(ok(&["mode"]), "redundant\n");
    ok(&["wan", "w2", "primary"]);
    ok(&["mode", "speed"]);
    bond.wait_paths(2);

    // A reload of both ends disturbs nothing.
    bond.configure("lan = [\"lan\"]\n[wan.w2]\npriority = \"backup\"");
    client.signal(Signal::HUP);
    server.signal(Signal::HUP);
    client.wait_for("configuration read again changed=true");
    bond.client_home.wait_status("w2 is a backup", |status| {
        let wans = status["wans"].as_array().unwrap();
        wans.iter()
            .any(|wan| wan["name"] == "w2" && wan["priority"] == "backup")
    });
    transfer.goes_on(300_000);
    assert!(ok(&["log"]).contains("priority priority=off wan=w2") || ok(&["log"]).contains("connected"));
    transfer.finish();
}

#[test]
fn a_server_that_does_not_know_us_and_a_missing_wan_are_explained() {
    let Some(bond) = Bond::new() else { return };
    bond.configure("");
    // Another key than the one that the server knows.
    std::fs::remove_file(bond.client_home.path("key")).unwrap();
    bond.client_home.key();
    let _server = bond.start_server();
    let mut client = bond.start_client();
    let line = client.wait_for("the server does not answer");
    assert!(line.contains("hint: ") && line.contains("public key"), "{line}");
    let check = bond.client_home.sennit(&["check"]);
    assert_eq!(check.status.code(), Some(3));
    let found = String::from_utf8(check.stdout).unwrap();
    assert!(
        found.contains("problem  the server does not answer over WAN w1"),
        "{found}"
    );
    client.kill();

    for number in [1, 2] {
        bond.client.run(&format!("ip link del w{number}"));
    }
    let mut client = bond.start_client();
    let line = client.wait_for("no WAN can be used");
    assert!(line.contains("hint: ip route show default"), "{line}");
}

#[test]
fn down_leaves_nothing_behind() {
    let Some(bond) = Bond::new() else { return };
    bond.client.run("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    let offloads = || {
        if has("ethtool") {
            bond.client.run("ethtool -k lan")
        } else {
            String::new()
        }
    };
    let offloads_before = offloads();
    let clients_before = picture(&bond.client);
    let servers_before = picture(&bond.server);
    let (client, server) = bond.start(2);
    bond.host.run(&format!("ping -c 1 -W 2 {INTERNET}"));
    assert_ne!(picture(&bond.client), clients_before);
    assert_ne!(picture(&bond.server), servers_before);
    assert!(offloads().is_empty() || offloads().contains("rx-udp-gro-forwarding: on"));

    // One is running, the other one was killed.
    server.kill();
    for (namespace, home) in [
        (&bond.client, &bond.client_home),
        (&bond.server, &bond.server_home),
    ] {
        let config = home.path("sennit.toml");
        namespace.run(&format!("{SENNIT} down --config {}", text(&config)));
    }
    assert_eq!(client.finish().0.code(), Some(0));
    assert_eq!(picture(&bond.client), clients_before);
    assert_eq!(picture(&bond.server), servers_before);
    assert_eq!(offloads(), offloads_before);
}
