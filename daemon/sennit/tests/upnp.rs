//! A host of the LAN asks its router for a port of the Internet, by UPnP IGD and by NAT-PMP, and is reached there from outside:
//! at the server's public address, through the tunnel, by the real programs (Debian's miniupnpd, miniupnpc and natpmpc).
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::bond::{Bond, INTERNET};
use common::{text, wait};

/// Where the server is reached: miniupnpd takes no address of a documentation network for a public one.
const PUBLIC: &str = "11.22.33.44";
const HOST: &str = "192.168.7.2";

fn is_installed(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs
        .iter()
        .filter(|program| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .output();
            !found.unwrap().status.success()
        })
        .collect();
    if !missing.is_empty() {
        eprintln!(
            "skipped: needs the programs {missing:?} (packages miniupnpd-nftables, miniupnpc, natpmpc)"
        );
    }
    missing.is_empty()
}

/// Ends a program with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts miniupnpd on the client, for its LAN.
fn start_miniupnpd(bond: &Bond, public: &str) -> Ends {
    // What Debian's and OpenWrt's scripts make before they start it, but for a policy that drops everything else.
    bond.client.nft(
        "table inet upnp {\nchain filter { }\nchain forward {\ntype filter hook forward priority 0\njump filter\n}\n\
         chain nat { }\nchain prerouting {\ntype nat hook prerouting priority -100\njump nat\n}\n\
         chain source { }\nchain postrouting {\ntype nat hook postrouting priority 100\njump source\n}\n}\n",
    );
    let file = bond.client_home.path("miniupnpd.conf");
    let leases = bond.client_home.path("leases");
    let config = format!(
        "ext_ifname=sennit0\next_ip={public}\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n\
         lease_file={}\nuuid=6cbd58b0-2ec1-4af3-9a2e-0f6b5f1b7a11\nmin_lifetime=120\nmax_lifetime=86400\n\
         upnp_table_name=upnp\nupnp_nat_table_name=upnp\nupnp_forward_chain=filter\nupnp_nat_chain=nat\n\
         upnp_nat_postrouting_chain=source\nallow 1-65535 192.168.7.0/24 1-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
        text(&leases)
    );
    std::fs::write(&file, config).unwrap();
    let pid = bond.client_home.path("miniupnpd.pid");
    let log = std::fs::File::create(bond.client_home.path("miniupnpd.log")).unwrap();
    let mut command = bond
        .client
        .command("miniupnpd", &["-d", "-f", text(&file), "-P", text(&pid)]);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Ends(command.spawn().unwrap())
}

/// What a host of the Internet hears from this port of the server, if anything.
fn answer(bond: &Bond, port: u16) -> Option<String> {
    bond.internet.enter(|| {
        let address = SocketAddr::from((PUBLIC.parse::<std::net::Ipv4Addr>().unwrap(), port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said)
    })
}

#[test]
fn a_host_that_asks_for_a_port_is_reached_from_outside() {
    let Some(bond) = Bond::new() else { return };
    if !is_installed(&["miniupnpd", "upnpc", "natpmpc"]) {
        return;
    }
    bond.server.run(&format!("ip addr add {PUBLIC}/32 dev s0"));
    bond.internet
        .run(&format!("ip route add {PUBLIC}/32 via 203.0.113.5"));
    let told = bond.client_home.path("public-address");
    let hook = bond.client_home.path("hook");
    std::fs::write(
        &hook,
        format!("#!/bin/sh\necho \"$1\" > {}.new && mv {0}.new {0}\n", text(&told)),
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let client_lines = format!(
        "lan = [\"lan\"]\nupnp_leases = {:?}\npublic_address_hook = {hook:?}",
        bond.client_home.path("leases")
    );
    bond.configure_both(PUBLIC, &client_lines, "forward = \"none\"");
    let (_client, mut server) = (bond.start_client(), bond.start_server());
    bond.wait_paths(2);
    wait("the hook is told the public address", || told.exists());
    let public = std::fs::read_to_string(&told).unwrap();
    assert_eq!(public.trim(), PUBLIC);
    let _miniupnpd = start_miniupnpd(&bond, public.trim());

    let listener = bond.host.enter(|| TcpListener::bind((HOST, 8080)).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"the host of the LAN");
        }
    });
    assert_eq!(answer(&bond, 8080), None, "nobody has asked for it yet");
    let upnpc = |arguments: &[&str]| {
        let output = bond
            .host
            .command("upnpc", &[&["-m", "lan"], arguments].concat())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut said = String::new();
    wait("miniupnpd is there", || {
        said = upnpc(&["-s"]);
        said.contains("Found valid IGD")
    });
    assert!(said.contains(&format!("ExternalIPAddress = {PUBLIC}")), "{said}");
    let said = upnpc(&["-a", HOST, "8080", "8080", "TCP", "3600"]);
    assert!(said.contains("is redirected to internal"), "{said}");
    wait("the host is reached from outside", || {
        answer(&bond, 8080).as_deref() == Some("the host of the LAN")
    });

    // The same by NAT-PMP, for UDP.
    let heard = bond.host.enter(|| UdpSocket::bind((HOST, 5000)).unwrap());
    heard.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let asked = bond
        .host
        .command(
            "natpmpc",
            &["-g", "192.168.7.1", "-a", "5000", "5000", "udp", "3600"],
        )
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(said.contains(&format!("Public IP address : {PUBLIC}")), "{said}");
    assert!(said.contains("Mapped public port 5000 protocol UDP"), "{said}");
    wait("a datagram reaches the host", || {
        // From another port each time: what was sent before the port was given is known as a connection that leads nowhere.
        let sender = bond.internet.enter(|| UdpSocket::bind((INTERNET, 0)).unwrap());
        sender.send_to(b"hello", (PUBLIC, 5000)).unwrap();
        heard.recv(&mut [0; 16]).is_ok()
    });

    // The tunnel's own port is nobody's.
    let said = upnpc(&["-a", HOST, "7300", "7300", "UDP", "3600"]);
    assert!(said.contains("is redirected to internal"), "{said}");
    server.wait_for("refused=1");

    let said = upnpc(&["-d", "8080", "TCP"]);
    assert!(said.contains("returned : 0"), "{said}");
    wait("the port is shut again", || answer(&bond, 8080).is_none());
    wait("the server has taken it back", || {
        bond.server_home.status()["clients"][0]["mapped"] == serde_json::json!(["udp/5000"])
    });
}
