//! A server made from an empty rented machine: cloud-init's user-data executed for real, in QEMU.
//!
//! Needs root and the disk that `cargo run --release -p ci -- cloud` makes.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

#[path = "cloud/machine.rs"]
mod machine;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{Home, Namespace, SENNIT, has};
use machine::{Machine, image};

/// What is asked of a person who makes a server; emulated, on a machine that does other things too, it takes longer.
const LONGEST: Duration = Duration::from_secs(400);
/// For what takes moments.
const SOON: Duration = Duration::from_secs(20);

/// The rented machine's network, as its provider describes it.
const NETWORK: &str = "version: 2\nethernets:\n  eth0:\n    addresses: [203.0.113.5/24, '2001:db8:5::5/64']\n    \
                       accept-ra: false\n    gateway4: 203.0.113.1\n    gateway6: '2001:db8:5::1'\n";

/// The Internet between the rented machine and a client with two WANs; it has a mirror and the released program.
struct Internet {
    outside: Namespace,
}

impl Internet {
    fn new() -> Option<Self> {
        if !image().join("made").exists() {
            eprintln!("skipped: no cloud here (cargo run --release -p ci -- cloud)");
            return None;
        }
        if !has("qemu-system-x86_64") || !has("qemu-img") {
            return None;
        }
        let outside = Namespace::new()?;
        outside.run("ip tuntap add dev cloud mode tap");
        outside.run("ip addr add 203.0.113.1/24 dev cloud");
        outside.run("ip addr add 2001:db8:5::1/64 dev cloud nodad");
        outside.run("ip link set cloud up");
        outside.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        let listener = outside.enter(|| TcpListener::bind(("0.0.0.0", 8000)).unwrap());
        std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
        Some(Self { outside })
    }
}

/// One request for a file of the mirror, or for the program.
fn serve(mut stream: std::net::TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().replace("%2b", "+");
    let file = match path.strip_prefix("/archive/") {
        Some(name) if !name.contains("..") => image().join("archive").join(name.trim_start_matches("./")),
        None if path == "/sennit" => SENNIT.into(),
        _ => "/nonexistent".into(),
    };
    let answer = match std::fs::read(file) {
        Ok(content) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                content.len()
            );
            [head.into_bytes(), content].concat()
        }
        Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    };
    // Who hangs up asks again.
    let _ = stream.write_all(&answer);
}

/// A machine with two links, and its own `/etc/sennit`.
fn router(internet: &Internet) -> Namespace {
    let router = Namespace::machine().unwrap();
    for number in [1, 2] {
        let (own, gateway) = (format!("192.0.{number}.2"), format!("192.0.{number}.1"));
        let name = format!("eth{number}");
        router.connect(
            &name,
            &format!("{own}/24"),
            &internet.outside,
            &format!("{gateway}/24"),
        );
        router.run(&format!("ip route add default via {gateway} metric {number}"));
    }
    router
}

/// A command on the router that may fail: its exit code, and all that it said.
fn sennit(machine: &Namespace, arguments: &[&str]) -> (Option<i32>, String) {
    let output = machine.command(SENNIT, arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn join(machine: &Namespace, arguments: &[&str]) {
    let (code, said) = sennit(machine, &[&["join"], arguments].concat());
    assert_eq!(code, Some(0), "{said}");
}

/// Asks again until the answer is yes, for as long as an emulated machine may take.
fn wait(what: &str, mut answer: impl FnMut() -> bool) {
    let start = Instant::now();
    while !answer() {
        assert!(start.elapsed() < LONGEST, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn is_connected(router: &Namespace) -> bool {
    sennit(router, &["status"])
        .1
        .starts_with("client: connected over 2 of 2 WANs")
}

/// A host of the Internet sends to the server's port 8080, and is answered by the router.
fn a_port_reaches_through(internet: &Internet, router: &Namespace) {
    let listener = router.enter(|| TcpListener::bind(("0.0.0.0", 8080)).unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 4];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(&question).unwrap();
    });
    let ask = || -> std::io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect_timeout(&([203, 0, 113, 5], 8080).into(), SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    // Right after its start the server looks for ports that are its own.
    wait("the port reaches through", || {
        internet
            .outside
            .enter(|| ask().is_ok_and(|answer| answer == *b"ping"))
    });
    answering.join().unwrap();
}

/// What strangers send: noise of all lengths, and datagrams that begin as the tunnel's do.
fn flood(internet: &Internet) {
    internet.outside.enter(|| {
        let socket = UdpSocket::bind(("203.0.113.1", 0)).unwrap();
        socket.connect(("203.0.113.5", 7300)).unwrap();
        let mut noise = 0x9e37_79b9_u32;
        for number in 0..50_000_usize {
            let mut datagram = vec![0; number % 1400];
            for byte in &mut datagram {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (noise >> 24) as u8;
            }
            if let (Some(first), true) = (datagram.first_mut(), number % 2 == 0) {
                *first = (number / 2 % 16) as u8;
            }
            // A full queue is part of a flood.
            let _ = socket.send(&datagram);
        }
    });
}

#[test]
fn from_an_empty_machine_to_a_bond() {
    let Some(internet) = Internet::new() else { return };
    let router = router(&internet);
    let sum = common::run_here("sha256sum", &[SENNIT]);
    let (sum, _) = sum.split_once(' ').unwrap();
    let url = "http://203.0.113.1:8000/sennit";
    let made = router.run(&format!(
        "{SENNIT} cloud-init --name boat --binary-url {url} --sha256 {sum} --json"
    ));
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let (user_data, code) = (
        made["user_data"].as_str().unwrap(),
        made["code"].as_str().unwrap(),
    );

    let mut machine = Machine::rent(&internet.outside, "cloud", user_data, NETWORK);
    machine.start();
    let _client = router.sennit(&["run", "client"]);
    // As somebody who tries again and again, from the first moment on.
    let start = Instant::now();
    while sennit(
        &router,
        &["join", code, "--server", "203.0.113.5", "--wait", "5s"],
    )
    .0 != Some(0)
    {
        assert!(start.elapsed() < LONGEST, "{}", machine.console());
    }
    wait("the router is connected over both WANs", || is_connected(&router));
    let took = machine.uptime();
    eprintln!("from power on to a bond: {took:?}");
    a_port_reaches_through(&internet, &router);

    machine.wait_shell();
    machine.wait("test -e /run/cloud-init/result.json");
    let result = machine.run("cat /run/cloud-init/result.json; cloud-init schema --system");
    assert!(result.contains("\"errors\": []"), "{result}");
    assert!(result.contains("Valid cloud-config"), "{result}");
    // The code counts no more, and is not left lying about.
    machine.run("! test -e /run/sennit-setup");

    flood(&internet);
    router.run("ping -c 3 -i 0.2 -W 5 10.73.0.1");

    machine.reboot();
    wait("the router is connected after the reboot", || {
        is_connected(&router)
    });
    eprintln!("from reboot to a bond: {:?}", machine.uptime());
    a_port_reaches_through(&internet, &router);

    machine.cut_power();
    machine.start();
    machine.wait_shell();
    wait("the router is connected after the power cut", || {
        is_connected(&router)
    });
    eprintln!("from a power cut to a bond: {:?}", machine.uptime());
    a_port_reaches_through(&internet, &router);

    // Another program than the one that was meant is not started.
    let (_, script) = user_data.split_once("      #!/bin/sh\n").unwrap();
    let (script, _) = script.split_once("runcmd:").unwrap();
    let wrong = script.replace(sum, &"0".repeat(64));
    machine.run(&format!("cat > /root/wrong << 'END'\n{wrong}\nEND"));
    let (exit, said) = machine.try_run("sh /root/wrong");
    assert!(exit == 1 && said.contains("SHA-256"), "{exit} {said}");
    machine.run("! test -e /usr/local/bin/sennit.new");

    // The same by hand, on the machine as it was before.
    machine.run("sennit server uninstall --purge");
    machine.run("! systemctl is-enabled sennit-server && ! test -e /etc/sennit && ! ip link show sennit0");
    let said = machine.run("sennit server init --name boat");
    let line = said.lines().find_map(|line| line.strip_prefix("sennit join "));
    let code = line.unwrap_or_else(|| panic!("no code in {said}"));
    join(&router, &[code]);
    wait("the router is connected to the new server", || {
        is_connected(&router)
    });
    a_port_reaches_through(&internet, &router);

    let (exit, said) = sennit(&router, &["join", code, "--key", "/run/stranger.key"]);
    assert!(
        exit == Some(1) && said.contains("used already"),
        "{exit:?} {said}"
    );
    let expired = machine.run("sennit invite --expires 1s --quiet && sleep 2");
    let expired = expired.trim().strip_prefix("sennit join ").unwrap();
    let (exit, said) = sennit(&router, &["join", expired]);
    assert!(exit == Some(1) && said.contains("expired"), "{exit:?} {said}");

    machine.run("sennit clients revoke boat");
    let ping = router
        .command("ping", &["-c", "3", "-i", "0.3", "-W", "1", "10.73.0.1"])
        .output()
        .unwrap();
    assert!(!ping.status.success(), "a revoked client is answered");
}

#[test]
fn user_data_has_the_public_half_of_the_configured_key_and_no_more() {
    let home = Home::new();
    let public = home.key();
    home.configure(&format!("private_key_file = {:?}\n", home.path("key")));
    let sum = "0".repeat(64);
    let output = home.sennit(&[
        "cloud-init",
        "--binary-url",
        "https://example.net/sennit",
        "--sha256",
        &sum,
        "--json",
    ]);
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let private = std::fs::read_to_string(home.path("key")).unwrap();
    let user_data = made["user_data"].as_str().unwrap();
    assert_eq!(made["public_key"], public);
    assert!(user_data.contains(&public) && !user_data.contains(private.trim()));
    let kept = home.path("state/cloud-init.code");
    assert_eq!(std::fs::read_to_string(&kept).unwrap().trim(), made["code"]);
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn outside_a_release_the_program_has_to_be_named() {
    let home = Home::new();
    home.configure("");
    let output = home.sennit(&["cloud-init"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("--binary-url URL --sha256 HEX"), "{said}");
    let output = home.sennit(&["cloud-init", "--binary-url", "https://example.net/sennit"]);
    assert_eq!(output.status.code(), Some(1));
}
