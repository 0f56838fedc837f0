//! The README's way to a first tunnel, word for word: its commands, on two machines joined by two links.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Namespace, Running, SENNIT, picture, wait};

const README: &str = include_str!("../../../README.md");
/// The server's address in the README.
const SERVER: &str = "203.0.113.5";
/// The client's address inside the tunnel.
const INNER: &str = "10.73.0.2";

/// The commands of the code block behind `<!-- guide: NAME -->`.
fn commands(name: &str) -> Vec<&'static str> {
    let mark = format!("<!-- guide: {name} -->\n```sh\n");
    let Some((_, rest)) = README.split_once(&mark) else {
        panic!("the README has no block {name}");
    };
    let (block, _) = rest.split_once("\n```").unwrap();
    block.lines().collect()
}

/// A command as a reader types it, with `sennit` in the `PATH`.
fn typed(machine: &Namespace, line: &str) -> Command {
    let folder = Path::new(SENNIT).parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let mut command = machine.command("sh", &["-c", &format!("exec {line}")]);
    command.env("PATH", path);
    command
}

/// Runs a command, which must succeed; returns what it wrote to stdout.
fn shown(machine: &Namespace, line: &str) -> String {
    let output = typed(machine, line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_line_on_each_machine_makes_a_tunnel_and_afterwards_nothing_is_left() {
    let (Some(server), Some(client), Some(internet)) =
        (Namespace::machine(), Namespace::machine(), Namespace::new())
    else {
        return;
    };
    internet.run("sysctl -qw net.ipv4.ip_forward=1");
    server.connect("eth0", &format!("{SERVER}/24"), &internet, "203.0.113.1/24");
    server.run("ip route add default via 203.0.113.1");
    // Where `init` puts the program.
    server.run("mount -t tmpfs tmpfs /usr/local/bin");
    for number in [1, 2] {
        let (own, gateway) = (format!("192.0.{number}.2"), format!("192.0.{number}.1"));
        let name = format!("eth{number}");
        client.connect(&name, &format!("{own}/24"), &internet, &format!("{gateway}/24"));
        client.run(&format!("ip route add default via {gateway} metric {number}"));
    }
    for (machine, links) in [(&server, 1), (&client, 2)] {
        wait("all links are up", || {
            machine
                .run("ip -6 addr show scope link")
                .matches("fe80::")
                .count()
                == links
        });
    }
    let before = [picture(&server), picture(&client)];

    let [init] = commands("server")[..] else { panic!() };
    let line = shown(&server, init);
    // There is no systemd in a namespace.
    let server_runs = Running::start(typed(&server, "sennit run server"));
    wait("the server answers", || {
        typed(&server, "sennit status").output().unwrap().status.success()
    });
    let [join] = commands("join")[..] else { panic!() };
    assert_eq!(join, "sennit join CODE");
    shown(&client, line.trim());
    let [run] = commands("client")[..] else { panic!() };
    let client_runs = Running::start(typed(&client, run));

    wait("the client is connected over both WANs", || {
        let output = typed(&client, "sennit status").output().unwrap();
        String::from_utf8_lossy(&output.stdout).starts_with("client: connected over 2 of 2 WANs, mode speed")
    });
    let status = shown(&server, "sennit status");
    assert!(status.starts_with("server: 1 of 1 clients connected"), "{status}");
    for line in commands("try") {
        shown(&client, line);
    }
    echo(&server, &client);

    for (machine, running, machines) in [(&client, client_runs, "client"), (&server, server_runs, "server")] {
        for line in commands(&format!("down on the {machines}")) {
            shown(machine, line);
        }
        assert_eq!(running.finish().0.code(), Some(0));
    }
    assert_eq!([picture(&server), picture(&client)], before);
    for machine in [&server, &client] {
        let left = machine.command("sh", &["-c", "ls /etc/sennit/sennit.toml /usr/local/bin/sennit"]);
        let left = { left }.output().unwrap().stdout;
        let left = String::from_utf8(left).unwrap();
        assert!(std::ptr::eq(machine, &client) || left.is_empty(), "{left}");
    }
}

/// TCP through the tunnel: what the server sends comes back. (The other way round the server's services are refused.)
fn echo(server: &Namespace, client: &Namespace) {
    let listener = client.enter(|| TcpListener::bind((INNER, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let mut near = server.enter(|| TcpStream::connect((INNER, port)).unwrap());
    let (mut far, _) = listener.accept().unwrap();
    near.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sent: Vec<u8> = (0..2_000_000_u32)
        .map(|position| (position % 251) as u8)
        .collect();
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut back = far.try_clone().unwrap();
            std::io::copy(&mut far, &mut back).unwrap();
            back.shutdown(Shutdown::Write).unwrap();
        });
        let mut writing = near.try_clone().unwrap();
        let bytes = &sent;
        scope.spawn(move || {
            writing.write_all(bytes).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        near.read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}
