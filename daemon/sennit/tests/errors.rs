//! What goes wrong on the way to a first tunnel, as a reader of the README would meet it: the cause and the remedy are named.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output};

use common::{Namespace, Running, SENNIT};

/// What a command said on stderr, and its exit code.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

/// A machine with keys, and the configuration of a client of this server.
fn client_of(server: &str) -> Option<Namespace> {
    let machine = Namespace::machine()?;
    let key = machine.run(&format!("{SENNIT} keygen --out /etc/sennit/other.key"));
    machine.run(&format!(
        "{SENNIT} setup client --server {server} --server-key {}",
        key.trim()
    ));
    Some(machine)
}

/// What `sennit check` finds; it must find something.
fn check(machine: &Namespace) -> String {
    let output = machine.command(SENNIT, &["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    String::from_utf8(output.stdout).unwrap()
}

fn add_wan(machine: &Namespace) {
    machine.run("ip link add eth1 type veth peer name far1");
    machine.run("ip link set far1 up");
    machine.run("ip link set eth1 up");
    machine.run("ip addr add 192.0.1.2/24 dev eth1");
    machine.run("ip route add default via 192.0.1.1 dev eth1");
}

#[test]
fn without_a_tun_device() {
    let Some(machine) = client_of("203.0.113.5") else {
        return;
    };
    machine.run("mount -t tmpfs tmpfs /dev/net");
    let (code, text) = said(&machine.command(SENNIT, &["run", "client"]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(
        text.contains("error: failed to open /dev/net/tun: ")
            && text.contains("\nhint: the kernel has no TUN"),
        "{text}"
    );
}

#[test]
fn as_an_ordinary_user() {
    let Some(machine) = client_of("203.0.113.5") else {
        return;
    };
    let nobody = |arguments: &[&str]| {
        let options = ["--reuid=65534", "--regid=65534", "--clear-groups", SENNIT];
        said(
            &machine
                .command("setpriv", &[&options[..], arguments].concat())
                .output()
                .unwrap(),
        )
    };
    // A daemon that runs, and does not speak to everybody.
    let mut running = machine.sennit(&["run", "client"]);
    running.wait_for("running");
    for arguments in [
        &["status"][..],
        &["down"],
        &["run", "client"],
        &["keygen", "--force"],
        &["pubkey"],
    ] {
        let (code, text) = nobody(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains("error: ") && text.contains("\nhint: ") && text.contains("as root"),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn without_a_wan_and_without_a_route_to_the_server() {
    let Some(machine) = client_of("203.0.113.5") else {
        return;
    };
    let mut client = machine.sennit(&["run", "client"]);
    let line = client.wait_for("no WAN can be used");
    assert!(line.contains("hint: ip route show default"), "{line}");
    assert!(
        machine
            .run(&format!("{SENNIT} status"))
            .starts_with("client: no WAN can be used")
    );

    // There is one now, but its router is not there.
    add_wan(&machine);
    client.wait_for("joined wan=\"eth1\"");
    let found = check(&machine);
    assert!(
        found.contains("the server does not answer over WAN eth1: its gateway 192.0.1.1 does not answer\n         hint: is that"),
        "{found}"
    );
}

#[test]
fn with_a_server_on_which_nothing_runs() {
    let (Some(client), Some(server)) = (client_of("203.0.113.5"), Namespace::machine()) else {
        return;
    };
    client.connect("eth1", "192.0.1.2/24", &server, "192.0.1.1/24");
    client.run("ip route add default via 192.0.1.1");
    server.run("ip addr add 203.0.113.5/32 dev lo");
    let mut running = client.sennit(&["run", "client"]);
    let line = running.wait_for("the server does not answer");
    assert!(line.contains("hint: on the server run sennit check"), "{line}");
    let found = check(&client);
    assert!(
        found.contains(
            "over WAN eth1: nothing listens on its UDP port\n         hint: start it there: sennit run server"
        ),
        "{found}"
    );
}

#[test]
fn with_a_router_that_knows_no_way() {
    let (Some(client), Some(router)) = (client_of("203.0.113.5"), Namespace::machine()) else {
        return;
    };
    client.connect("eth1", "192.0.1.2/24", &router, "192.0.1.1/24");
    client.run("ip route add default via 192.0.1.1");
    router.run("sysctl -qw net.ipv4.ip_forward=1");
    let mut running = client.sennit(&["run", "client"]);
    running.wait_for("joined wan=\"eth1\"");
    let found = check(&client);
    assert!(
        found.contains(
            "over WAN eth1: a router says that there is no route to it\n         hint: is the server's"
        ),
        "{found}"
    );
}

#[test]
fn with_a_server_of_an_unknown_name() {
    let Some(machine) = client_of("no-such-server.invalid") else {
        return;
    };
    add_wan(&machine);
    let mut client: Running = machine.sennit(&["run", "client"]);
    let line = client.wait_for("the server's name is not resolved");
    assert!(line.contains("hint: check server.address"), "{line}");
    let found = check(&machine);
    assert!(
        found.contains("problem  the server's name no-such-server.invalid is not resolved: "),
        "{found}"
    );
}

#[test]
fn with_keys_and_names_that_are_none() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (arguments, cause) in [
        (
            &["server", "--client", "boat=CLIENT_PUBLIC_KEY"][..],
            "44 characters",
        ),
        (&["server", "--client", key], "NAME=PUBLIC_KEY"),
        (
            &[
                "client",
                "--server",
                "203.0.113.5",
                "--server-key",
                "SERVER_PUBLIC_KEY",
            ],
            "44 characters",
        ),
        (
            &["client", "--server", "203.0.113.5:99999", "--server-key", key],
            "port",
        ),
    ] {
        let output = Command::new(SENNIT)
            .arg("setup")
            .args(arguments)
            .output()
            .unwrap();
        let (code, text) = said(&output);
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        assert!(text.contains(cause), "{arguments:?}: {text}");
    }
}
