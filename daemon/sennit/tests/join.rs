//! Joining by a code, as people do it: two lines, one on each machine; and what happens to those who may not.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use common::bond::{Bond, INTERNET, SERVER};
use common::{Home, Running, SENNIT, text, wait};
use sennit::config::{self, ServerConfig};
use sennit::join::{Code, FirstContact};
use sennit::key::PrivateKey;
use sennit::registry::{self, Registry};

/// A server without clients, and a client without a server, both running.
fn strangers(bond: &Bond) -> (Running, Running) {
    bond.server_home.key();
    bond.server_home.configure(&format!(
        "private_key_file = {:?}\npublic = [\"{SERVER}\"]\n",
        bond.server_home.path("key")
    ));
    bond.client_home.configure(&format!(
        "private_key_file = {:?}\n",
        bond.client_home.path("key")
    ));
    let server = bond.start_server();
    wait("the server answers", || {
        bond.server_home.status()["role"] == "server"
    });
    (server, bond.start_client())
}

/// The line that `sennit invite` prints, less `sennit join`.
fn invite(bond: &Bond, arguments: &[&str]) -> String {
    let output = bond.server_home.sennit(&[&["invite"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let line = String::from_utf8(output.stdout).unwrap();
    line.trim().strip_prefix("sennit join ").unwrap().to_owned()
}

/// Joins from the client's machine, with the files of `home`.
fn join(bond: &Bond, home: &Home, arguments: &[&str]) -> Output {
    let config = home.path("sennit.toml");
    let mut command = bond.client.command(SENNIT, &["join", "--config", text(&config)]);
    command.args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Files of another client, which does not run.
fn other_client() -> Home {
    let home = Home::new();
    home.configure(&format!("private_key_file = {:?}\n", home.path("key")));
    home
}

#[test]
fn two_lines_make_a_tunnel() {
    let Some(bond) = Bond::new() else { return };
    let (_server, _client) = strangers(&bond);
    let code = invite(&bond, &["boat"]);
    let began = Instant::now();
    let output = join(&bond, &bond.client_home, &[&code]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).ends_with("connected\n"), "{}", said(&output));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    bond.wait_paths(2);
    bond.client.run(&format!("ping -c 2 -i 0.2 -W 3 {INTERNET}"));

    let listed = bond.server_home.sennit(&["clients", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("boat") && listed.contains("connected"),
        "{listed}"
    );
    // What the daemon was told outlives it, and the server knows its client after a restart.
    assert!(
        std::fs::read_to_string(bond.client_home.path("sennit.toml"))
            .unwrap()
            .contains(SERVER)
    );
}

#[test]
fn a_server_that_was_restarted_still_knows_who_joined() {
    let Some(bond) = Bond::new() else { return };
    let (server, _client) = strangers(&bond);
    let code = invite(&bond, &["boat"]);
    assert!(join(&bond, &bond.client_home, &[&code]).status.success());
    // A power cut, as far as a process can have one.
    server.kill();
    let _server = bond.start_server();
    wait("the client is back", || {
        let status = bond.server_home.status();
        status["clients"][0]["connected"] == true
    });
}

#[test]
fn a_code_that_was_used_has_expired_or_was_taken_back_admits_nobody() {
    let Some(bond) = Bond::new() else { return };
    let (_server, _client) = strangers(&bond);
    let used = invite(&bond, &["boat"]);
    assert!(join(&bond, &bond.client_home, &[&used]).status.success());
    let output = join(&bond, &other_client(), &[&used]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("used already"), "{}", said(&output));

    let expired = invite(&bond, &["camper", "--expires", "1s"]);
    std::thread::sleep(Duration::from_millis(1100));
    let output = join(&bond, &other_client(), &[&expired]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("expired"), "{}", said(&output));

    let taken_back = invite(&bond, &["van"]);
    assert!(
        bond.server_home
            .sennit(&["clients", "revoke", "van"])
            .status
            .success()
    );
    let output = join(&bond, &other_client(), &[&taken_back, "--wait", "3s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("does not know this code"),
        "{}",
        said(&output)
    );

    let nameless = invite(&bond, &[]);
    let all = bond.server_home.sennit(&["clients", "revoke", "--invitations"]);
    assert!(said(&all).starts_with("1 invitations"), "{}", said(&all));
    let output = join(&bond, &other_client(), &[&nameless, "--wait", "3s"]);
    assert_eq!(output.status.code(), Some(2));

    let status = bond.server_home.status();
    assert_eq!(status["clients"].as_array().unwrap().len(), 1, "{status:#}");
}

#[test]
fn a_revoked_client_is_out_within_a_second() {
    let Some(bond) = Bond::new() else { return };
    let (_server, _client) = strangers(&bond);
    let code = invite(&bond, &["boat"]);
    assert!(join(&bond, &bond.client_home, &[&code]).status.success());
    bond.client.run(&format!("ping -c 1 -W 3 {INTERNET}"));
    let revoked = bond.server_home.sennit(&["clients", "revoke", "boat"]);
    assert!(revoked.status.success(), "{}", said(&revoked));
    let late = bond
        .client
        .command("ping", &["-c", "5", "-i", "0.2", "-W", "1", INTERNET])
        .output()
        .unwrap();
    assert!(
        !late.status.success(),
        "a packet came through after the revocation"
    );
    let listed = bond.server_home.sennit(&["clients", "list"]);
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("boat"));
    // Nor does its key come back in.
    bond.client_home
        .wait_status("the client is not connected", |status| {
            status["state"] == "connecting"
        });
}

#[test]
fn fifty_join_at_the_same_time_and_each_gets_addresses_of_its_own() {
    let Some(bond) = Bond::new() else { return };
    let (_server, _client) = strangers(&bond);
    let codes: Vec<String> = (0..50).map(|_| invite(&bond, &[])).collect();
    let homes: Vec<Home> = codes.iter().map(|_| other_client()).collect();
    std::thread::scope(|scope| {
        for (code, home) in codes.iter().zip(&homes) {
            let bond = &bond;
            scope.spawn(move || {
                let output = join(bond, home, &[code]);
                assert!(output.status.success(), "{}", said(&output));
            });
        }
    });
    let status = bond.server_home.status();
    let clients = status["clients"].as_array().unwrap();
    let mut addresses: Vec<&str> = clients
        .iter()
        .flat_map(|client| client["addresses"].as_array().unwrap())
        .map(|address| address.as_str().unwrap())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!((clients.len(), addresses.len()), (50, 100));
}

/// A server as cloud-init makes it: it knows the client's public key and a code that the client made.
fn made_for_its_client(bond: &Bond) -> Code {
    bond.server_home.key();
    bond.client_home.key();
    let file: PathBuf = bond.server_home.configure(&format!(
        "private_key_file = {:?}\n",
        bond.server_home.path("key")
    ));
    bond.client_home.configure(&format!(
        "private_key_file = {:?}\n",
        bond.client_home.path("key")
    ));
    let config: ServerConfig = config::read(Some(&file)).unwrap();
    let client = PrivateKey::read(&bond.client_home.path("key")).unwrap().public();
    let code = Code::new(registry::now() + 3600, None).unwrap();
    let registry = Registry::open(&config.common.state_dir).unwrap();
    FirstContact::prepare(&registry, &config, &code, "boat", client, registry::now()).unwrap();
    code
}

#[test]
fn on_first_contact_the_client_learns_the_key_that_the_server_made_and_the_code_burns() {
    let Some(bond) = Bond::new() else { return };
    let code = made_for_its_client(&bond).to_string();
    let server = bond.start_server();
    let _client = bond.start_client();
    wait("the client answers", || {
        bond.client_home.status()["role"] == "client"
    });

    // Somebody who read the user-data has the code, but not the client's key.
    let thief = join(
        &bond,
        &other_client(),
        &[&code, "--server", SERVER, "--wait", "3s"],
    );
    assert_eq!(thief.status.code(), Some(2), "{}", said(&thief));

    let output = join(&bond, &bond.client_home, &[&code, "--server", SERVER]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).ends_with("connected\n"), "{}", said(&output));
    let own = PrivateKey::read(&bond.server_home.path("key")).unwrap().public();
    let kept = std::fs::read_to_string(bond.client_home.path("sennit.toml")).unwrap();
    assert!(kept.contains(&own.to_string()), "{kept}");

    // The same code again, as the client's own and as a thief's: it counts no more, and the server's key stays.
    for home in [&bond.client_home, &other_client()] {
        let again = join(&bond, home, &[&code, "--server", SERVER, "--wait", "3s"]);
        assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    }
    server.kill();
    let _server = bond.start_server();
    wait("the client is back", || {
        bond.server_home.status()["clients"][0]["connected"] == true
    });
}
