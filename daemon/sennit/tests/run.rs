//! The real binary in a network namespace of its own: start, signals, reload, and errors that say what to do.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use common::{Home, Namespace, Running, SENNIT, text};
use rustix::process::Signal;

#[test]
fn the_interface_stays_at_sigterm_is_taken_over_and_goes_with_down() {
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    let config = home.configure("interface = \"bond7\"\n");
    for _ in 0..2 {
        let mut sennit = namespace.sennit(&["run", "client", "--config", text(&config)]);
        sennit.wait_for("running role=\"client\" interface=bond7 mtu=1500");
        assert!(namespace.has_interface("bond7"));
        sennit.wait_for("no server is joined");

        sennit.signal(Signal::TERM);
        let line = sennit.wait_for("stopping");
        assert!(line.contains("signal=\"SIGTERM\" interface=bond7"), "{line}");
        assert_eq!(sennit.finish().0.code(), Some(0));
        assert!(namespace.has_interface("bond7"));
    }
    namespace.run(&format!("{SENNIT} down --config {}", text(&config)));
    assert!(!namespace.has_interface("bond7"));
    assert!(!home.path("state/undo.json").exists());
}

#[test]
fn down_ends_a_running_daemon() {
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    let config = home.configure("");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&config)]);
    sennit.wait_for("no server is joined");
    namespace.run(&format!("{SENNIT} down --config {}", text(&config)));
    sennit.wait_for("going down");
    assert_eq!(sennit.finish().0.code(), Some(0));
    assert!(!namespace.has_interface("sennit0"));
    assert!(!home.path("control").exists());
}

#[test]
fn sigint_stops_a_server_too() {
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    home.key();
    let config = home.configure(&format!(
        "private_key_file = {:?}\nnat = false\nfilter = false\n",
        home.path("key")
    ));
    let mut sennit = namespace.sennit(&["run", "server", "--config", text(&config)]);
    sennit.wait_for("running role=\"server\" interface=sennit0");
    sennit.wait_for("listening clients=0");
    sennit.signal(Signal::INT);
    assert_eq!(sennit.finish().0.code(), Some(0));
}

#[test]
fn packets_that_enter_the_tunnel_without_a_server_are_taken_out_and_counted() {
    const PAYLOAD: usize = 1000;
    const IP_AND_UDP_HEADERS: usize = 28;
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    let config = home.configure("");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&config)]);
    sennit.wait_for("no server is joined");
    namespace.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let index = rustix::net::netdevice::name_to_index(&socket, "sennit0").unwrap();
        let unspecified = Ipv4Addr::UNSPECIFIED;
        rustix::net::sockopt::set_ip_multicast_if_with_ifindex(&socket, &unspecified, &unspecified, index)
            .unwrap();
        socket.send_to(&[0; PAYLOAD], "224.0.0.9:9").unwrap();
    });
    let status = home.wait_status("the packet is counted", |status| {
        status["counters"]["tunnel_in_bytes"].as_u64() >= Some((PAYLOAD + IP_AND_UDP_HEADERS) as u64)
    });
    assert_eq!(status["state"], "no_server");
    assert_eq!(
        status["counters"]["tunnel_in"],
        status["counters"]["tunnel_in_refused"]
    );
    sennit.signal(Signal::TERM);
    let line = sennit.wait_for("stopping");
    assert!(line.contains("bytes=") && !line.contains("packets=0"), "{line}");
}

#[test]
fn sighup_takes_a_new_configuration_and_refuses_a_bad_one() {
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    let path = home.configure("interface = \"old0\"\n");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&path)]);
    sennit.wait_for("no server is joined");

    home.configure("interface = \"new0\"\n");
    sennit.signal(Signal::HUP);
    sennit.wait_for("configuration read again changed=true");
    assert!(namespace.has_interface("new0"));
    common::wait("the old interface goes", || !namespace.has_interface("old0"));

    home.configure("interfaces = \"x\"\n");
    sennit.signal(Signal::HUP);
    let line = sennit.wait_for("the new configuration is refused");
    assert!(
        line.contains("sennit.toml:3:1: unknown field `interfaces`")
            && line.contains("did you mean `interface`?"),
        "{line}"
    );
    assert!(namespace.has_interface("new0"));

    home.configure("interface = \"lo\"\n");
    sennit.signal(Signal::HUP);
    sennit.wait_for("the interface lo is already in use");
    assert!(namespace.has_interface("new0"));

    home.configure("interface = \"new0\"\nlog_level = \"warn\"\n");
    sennit.signal(Signal::HUP);
    sennit.signal(Signal::TERM);
    let (status, rest) = sennit.finish();
    assert_eq!(status.code(), Some(0), "{rest}");
}

#[test]
fn an_interface_in_use_and_a_second_daemon_are_named() {
    let Some(namespace) = Namespace::new() else { return };
    let (home, other) = (Home::new(), Home::new());
    let config = home.configure("");
    let mut first = namespace.sennit(&["run", "client", "--config", text(&config)]);
    first.wait_for("no server is joined");
    let fails = |config: &std::path::Path, error: &str| {
        let (status, log) = namespace
            .sennit(&["run", "client", "--config", text(config)])
            .finish();
        assert_eq!(status.code(), Some(2));
        assert!(log.contains(error), "{log}");
    };
    fails(&config, "error: another sennit answers on ");
    fails(
        &other.configure(""),
        "error: the interface sennit0 is already in use\nhint: stop the other sennit",
    );
}

#[test]
fn a_port_in_use_is_named_with_the_program_that_has_it() {
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    home.key();
    let holder = namespace.enter(|| UdpSocket::bind("0.0.0.0:7300").unwrap());
    let config = home.configure(&format!("private_key_file = {:?}\n", home.path("key")));
    let (status, log) = namespace
        .sennit(&["run", "server", "--config", text(&config)])
        .finish();
    drop(holder);
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("error: UDP port 7300 is in use"), "{log}");
    assert!(
        log.contains(&format!("(process {})\nhint: ", std::process::id())),
        "{log}"
    );
}

#[test]
fn an_interface_that_somebody_removes_ends_the_daemon() {
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    let config = home.configure("");
    let mut sennit = namespace.sennit(&["run", "client", "--config", text(&config)]);
    sennit.wait_for("no server is joined");
    namespace.run("ip link del sennit0");
    let (status, log) = sennit.finish();
    assert_eq!(status.code(), Some(2));
    assert!(
        log.contains("error: the tunnel interface sennit0 is gone"),
        "{log}"
    );
}

#[test]
fn without_privileges_the_error_says_so() {
    let Some(namespace) = Namespace::new() else { return };
    let home = Home::new();
    let config = home.configure("");
    let arguments = [
        "--bounding-set=-net_admin",
        SENNIT,
        "run",
        "client",
        "--config",
        text(&config),
    ];
    let (status, log) = Running::start(namespace.command("setpriv", &arguments)).finish();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("hint: run sennit as root"), "{log}");
}

#[test]
fn a_bad_configuration_is_the_users_error() {
    let home = Home::new();
    let config = home.configure("\nlog_level = 5\n");
    let mut command = Command::new(SENNIT);
    command.args(["run", "client", "--config", text(&config)]);
    let (status, log) = Running::start(command).finish();
    assert_eq!(status.code(), Some(1));
    assert!(
        log.contains(&format!("error: {}:4:13: ", config.display())),
        "{log}"
    );
    assert!(log.contains("\nhint: correct line 4"), "{log}");
}

#[test]
fn a_missing_or_wrong_key_is_the_users_error() {
    let home = Home::new();
    let config = home.configure(&format!("private_key_file = {:?}\n", home.path("key")));
    let run = || {
        let mut command = Command::new(SENNIT);
        command.args(["run", "server", "--config", text(&config)]);
        let (status, log) = Running::start(command).finish();
        assert_eq!(status.code(), Some(1), "{log}");
        log
    };
    let log = run();
    assert!(
        log.contains("there is no private key") && log.contains("hint: make one: sennit keygen --out"),
        "{log}"
    );
    std::fs::write(home.path("key"), "secretsecret\n").unwrap();
    let log = run();
    assert!(
        log.contains("key:1: this key has 12 characters") && !log.contains("secretsecret"),
        "{log}"
    );
}

#[test]
fn check_reads_the_configuration_and_opens_nothing() {
    let home = Home::new();
    let good = home.configure("interface = \"bond1\"\n");
    let output = Command::new(SENNIT)
        .args(["run", "client", "--check", "--config", text(&good)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{}: ok\n", good.display())
    );
}

#[test]
fn keys_are_made_once_and_setup_writes_what_run_reads() {
    let (server, client) = (Home::new(), Home::new());
    let call = |arguments: &[&str]| Command::new(SENNIT).args(arguments).output().unwrap();
    let (server_key, client_key) = (server.key(), client.key());
    assert_eq!((server_key.len(), client_key.len()), (44, 44));
    let again = call(&["keygen", "--out", text(&server.path("key"))]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("a private key is not overwritten"));
    let printed = call(&["pubkey", text(&server.path("key"))]);
    assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), server_key);

    let config = server.path("new.toml");
    let named = format!("boat={client_key}");
    let files = ["--config", text(&config), "--key", text(&server.path("key"))].map(str::to_owned);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let setup = [&["setup", "server", "--client", &named][..], &files].concat();
    assert!(call(&setup).status.success());
    assert!(
        call(&["run", "server", "--check", "--config", text(&config)])
            .status
            .success()
    );
    let refused = call(&setup);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exists\nhint: "));
    assert!(call(&[&setup[..], &["--force"]].concat()).status.success());
    assert!(server.path("new.toml.bak").exists());

    let wrong = call(&[
        "setup",
        "server",
        "--client",
        "boat=abc",
        "--config",
        "/nonexistent/x",
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("44 characters"));
}

#[test]
fn commands_for_a_daemon_that_does_not_run_say_so() {
    let home = Home::new();
    home.configure("");
    for command in ["status", "mode", "wan", "log"] {
        let output = home.sennit(&[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("error: no sennit is running here"), "{said}");
    }
}
#[test]
fn usage_errors_exit_with_1_and_the_version_is_printed() {
    let code = |arguments: &[&str]| {
        Command::new(SENNIT)
            .args(arguments)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(code(&["run", "referee"]), Some(1));
    assert_eq!(code(&[]), Some(1));
    assert_eq!(code(&["--help"]), Some(0));
    let version = Command::new(SENNIT).arg("--version").output().unwrap();
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        concat!("sennit ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
