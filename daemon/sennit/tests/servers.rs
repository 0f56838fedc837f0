//! A client that has several servers: one at a time, the user's, or another one when that fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::bond::{Bond, INTERNET, SERVER};
use common::{Home, Namespace, Running, text};

/// Where the other server is reached.
const OTHER: &str = "203.0.114.5";

struct Two {
    bond: Bond,
    other: Namespace,
    other_home: Home,
}

impl Two {
    fn new() -> Option<Self> {
        let bond = Bond::new()?;
        let other = Namespace::new()?;
        other.connect("s1", &format!("{OTHER}/24"), &bond.internet, "203.0.114.1/24");
        other.run("ip route add default via 203.0.114.1");
        let other_home = Home::new();
        let client = bond.client_home.key();
        let mut servers = String::new();
        for (name, region, address, home) in [
            ("fra", "eu", SERVER, &bond.server_home),
            ("nyc", "us", OTHER, &other_home),
        ] {
            let key = home.key();
            home.configure(&format!(
                "private_key_file = {:?}\n[[client]]\nname = \"boat\"\npublic_key = \"{client}\"\n\
                 address = [\"10.73.0.2\"]\n",
                home.path("key")
            ));
            servers.push_str(&format!(
                "[[server]]\nname = \"{name}\"\nregion = \"{region}\"\naddress = \"{address}\"\npublic_key = \"{key}\"\n"
            ));
        }
        bond.client_home.configure(&format!(
            "private_key_file = {:?}\n{servers}",
            bond.client_home.path("key")
        ));
        Some(Self {
            bond,
            other,
            other_home,
        })
    }

    fn start_other(&self) -> Running {
        let config = self.other_home.path("sennit.toml");
        self.other.sennit(&["run", "server", "--config", text(&config)])
    }

    /// Waits until the client is connected to this server, and reaches the Internet through it.
    fn wait_used(&self, address: &str) {
        let server = format!("{address}:7300");
        self.bond
            .client_home
            .wait_status(&format!("connected to {server}"), |status| {
                status["state"] == "connected" && status["server"] == server.as_str()
            });
        self.bond.client.run(&format!("ping -c 1 -W 5 {INTERNET}"));
    }

    fn servers(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.bond.client_home.sennit(&[&["servers"], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }
}

#[test]
fn another_server_takes_over_from_one_that_died() {
    let Some(two) = Two::new() else { return };
    let first = two.bond.start_server();
    let _other = two.start_other();
    let _client = two.bond.start_client();
    two.wait_used(SERVER);
    first.kill();
    let died = Instant::now();
    two.wait_used(OTHER);
    assert!(died.elapsed() < Duration::from_secs(10), "{:?}", died.elapsed());
    // It stays there: going back would break what has begun.
    let _first = two.bond.start_server();
    let (code, table) = two.servers(&[]);
    assert_eq!(code, Some(0), "{table}");
    two.wait_used(OTHER);
}

#[test]
fn the_user_sees_how_far_they_are_and_chooses_by_name_or_region() {
    let Some(two) = Two::new() else { return };
    let _first = two.bond.start_server();
    let _other = two.start_other();
    let _client = two.bond.start_client();
    two.wait_used(SERVER);
    let (_, table) = two.servers(&[]);
    for server in ["fra", "nyc"] {
        let line = table.lines().find(|line| line.starts_with(server)).unwrap();
        // Over each of the two WANs.
        assert_eq!(line.matches(" ms").count(), 2, "{table}");
        assert_eq!(line.contains("in use"), server == "fra", "{table}");
    }
    assert_eq!(two.servers(&["use", "us"]).0, Some(0));
    two.wait_used(OTHER);
    assert_eq!(two.servers(&["use", "fra"]).0, Some(0));
    two.wait_used(SERVER);
    let (code, said) = two.servers(&["use", "moon"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("sennit servers use fra|nyc|eu|us|auto"), "{said}");
}

#[test]
fn a_server_that_the_user_wants_is_waited_for() {
    let Some(two) = Two::new() else { return };
    let first = two.bond.start_server();
    let _other = two.start_other();
    let _client = two.bond.start_client();
    two.wait_used(SERVER);
    assert_eq!(two.servers(&["use", "fra"]).0, Some(0));
    first.kill();
    two.bond
        .client_home
        .wait_status("the server's silence is noticed", |status| {
            status["state"] == "connecting"
        });
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(two.bond.client_home.status()["state"], "connecting");
    let _first = two.bond.start_server();
    two.wait_used(SERVER);
}
