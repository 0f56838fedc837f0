//! The bond: the released program, run as its users run it.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sennit_engine::handshake::PublicKey;
use serde_json::Value;

use super::{Process, Started, Tools, temporary_folder, translate, write};
use crate::scenario::{Scenario, Side, Variant};
use crate::topology::{SERVER, Topology, wan_interface};
use crate::traffic::Reach;
use crate::{Error, Result, interrupt};

const INNER_SERVER: &str = "10.73.0.1";
const INNER_CLIENT: &str = "10.73.0.2";
/// How long it may take to connect over all WANs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The `sennit` program: the one named, or the one beside this program.
pub fn find_program(named: Option<PathBuf>) -> Result<Option<PathBuf>> {
    if let Some(path) = named {
        if path.is_file() {
            return Ok(Some(path));
        }
        return Err(Error::user(format!("no program {}", path.display()), BUILD));
    }
    let own = std::env::current_exe().ok();
    Ok(own
        .and_then(|own| Some(own.parent()?.join("sennit")))
        .filter(|path| path.is_file()))
}

const BUILD: &str = "cargo build --release -p sennit -p sennit-lab";

pub(super) fn start(
    topology: &Topology,
    scenario: &Scenario,
    variant: &Variant,
    tools: &Tools,
) -> Result<Started> {
    let program = program(tools)?;
    let folder = temporary_folder()?;
    let place = |name: &str| folder.path().join(name);
    let client_key = keygen(program, &place("client.key"))?;
    let server_key = keygen(program, &place("server.key"))?;
    write(
        &place("server.toml"),
        &server_configuration(
            folder.path(),
            &[
                format!("{INNER_SERVER}/24"),
                "fd73:656e:6e69:7400::1/64".to_owned(),
            ],
            &[Admitted {
                name: "lab".to_owned(),
                key: client_key,
                addresses: vec![INNER_CLIENT.to_owned(), "fd73:656e:6e69:7400::2".to_owned()],
            }],
        ),
    )?;
    write(
        &place("client.toml"),
        &client_configuration(folder.path(), &server_key, scenario, variant),
    )?;
    let mut processes = Vec::new();
    for (side, host) in [(Side::Server, &topology.server), (Side::Client, &topology.client)] {
        let mut command = host.command(program);
        command
            .args(["run", &side.to_string(), "--config"])
            .arg(place(&format!("{side}.toml")));
        processes.push(Process::start(side, command, place(&format!("{side}.log")))?);
    }
    let (control, server_control) = (place("client.sock"), place("server.sock"));
    let wanted = scenario.links.len();
    let mut seen = Value::Null;
    let connected = interrupt::wait(PATIENCE, || {
        processes.iter_mut().try_for_each(Process::check)?;
        // Before the socket is there, there is nothing to ask.
        if let Ok(answer) = status(&control) {
            seen = answer;
        }
        Ok(seen["state"] == "connected" && active_paths(&seen) >= wanted)
    })?;
    if !connected {
        let logs: Vec<String> = processes
            .iter()
            .map(|process| format!("{}:\n{}", process.side, process.log_end()))
            .collect();
        return Err(Error::environment(
            format!(
                "sennit did not connect over {wanted} WANs within {} s (state {}, {} active)\n{}",
                PATIENCE.as_secs(),
                seen["state"],
                active_paths(&seen),
                logs.join("\n")
            ),
            "the logs above say why",
        ));
    }
    if scenario.uses_lan() {
        // The server knows the client's own inner address only.
        translate(topology, "sennit0", &format!("snat to {INNER_CLIENT}"))?;
    }
    let target = INNER_SERVER
        .parse()
        .map_err(|_| Error::environment("no inner address", ""))?;
    Ok(Started {
        reaches: vec![Reach::new("sennit", target, None)],
        processes,
        tunnel: Some(("sennit0".into(), "sennit0".into())),
        controls: vec![(Side::Client, control), (Side::Server, server_control)],
        folder: Some(folder),
    })
}

fn program(tools: &Tools) -> Result<&Path> {
    tools.sennit.as_deref().ok_or_else(|| {
        Error::environment(
            "the program sennit is not beside sennit-lab",
            format!("{BUILD}, or name it with --sennit FILE"),
        )
    })
}

/// Starts a server alone, for clients with these keys and inner addresses, and returns its public key.
pub fn start_server(
    topology: &Topology,
    tools: &Tools,
    address: Ipv4Addr,
    clients: &[(PublicKey, IpAddr)],
) -> Result<(Started, PublicKey)> {
    let program = program(tools)?;
    let folder = temporary_folder()?;
    let place = |name: &str| folder.path().join(name);
    let key = keygen(program, &place("server.key"))?;
    let key = key
        .parse()
        .map_err(|error| Error::environment(format!("sennit keygen wrote no key: {error}"), BUILD))?;
    let admitted: Vec<Admitted> = clients
        .iter()
        .enumerate()
        .map(|(number, (key, address))| Admitted {
            name: format!("client{number}"),
            key: key.to_string(),
            addresses: vec![address.to_string()],
        })
        .collect();
    write(
        &place("server.toml"),
        &server_configuration(folder.path(), &[format!("{address}/16")], &admitted),
    )?;
    let mut command = topology.server.command(program);
    command
        .args(["run", "server", "--config"])
        .arg(place("server.toml"));
    let mut process = Process::start(Side::Server, command, place("server.log"))?;
    let control = place("server.sock");
    let ready = interrupt::wait(PATIENCE, || {
        process.check()?;
        Ok(status(&control).is_ok())
    })?;
    if !ready {
        return Err(Error::environment(
            format!(
                "sennit's server did not answer within {} s\n{}",
                PATIENCE.as_secs(),
                process.log_end()
            ),
            "the log above says why",
        ));
    }
    let started = Started {
        reaches: Vec::new(),
        processes: vec![process],
        // The clients are in this process and have no interface.
        tunnel: None,
        controls: vec![(Side::Server, control)],
        folder: Some(folder),
    };
    Ok((started, key))
}

/// Asks a running client for its status.
pub fn status(control: &Path) -> Result<Value> {
    let failed = |error: std::io::Error| {
        Error::environment(format!("failed to ask sennit for its status: {error}"), "")
    };
    let mut stream = UnixStream::connect(control).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .map_err(failed)?;
    stream
        .write_all(b"{\"version\":1,\"command\":\"status\"}\n")
        .map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    let mut answer: Value = serde_json::from_str(&line)
        .map_err(|error| Error::environment(format!("sennit's status is no JSON: {error}"), ""))?;
    Ok(answer["ok"].take())
}

fn active_paths(status: &Value) -> usize {
    let wans = status["wans"].as_array().into_iter().flatten();
    wans.filter_map(|wan| wan["paths"].as_array())
        .flatten()
        .filter(|path| path["state"] == "active")
        .count()
}

fn keygen(program: &Path, file: &Path) -> Result<String> {
    let output = Command::new(program)
        .args(["keygen", "--out"])
        .arg(file)
        .output()
        .map_err(|error| {
            Error::environment(format!("failed to run {}: {error}", program.display()), BUILD)
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::environment(format!("sennit keygen failed: {said}"), BUILD));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A client as a server's configuration has it.
struct Admitted {
    name: String,
    key: String,
    addresses: Vec<String>,
}

fn server_configuration(folder: &Path, networks: &[String], clients: &[Admitted]) -> String {
    let folder = folder.display();
    let mut text = format!(
        "interface = \"sennit0\"\n\
         log_level = \"info\"\n\
         private_key_file = \"{folder}/server.key\"\n\
         control = \"{folder}/server.sock\"\n\
         state_dir = \"{folder}/server\"\n\
         listen = [\"[::]:7300\"]\n\
         address = {networks:?}\n\
         nat = false\n\
         # What is measured with is a service of the server.\n\
         filter = false\n"
    );
    for Admitted { name, key, addresses } in clients {
        text.push_str(&format!(
            "[[client]]\nname = \"{name}\"\npublic_key = \"{key}\"\naddress = {addresses:?}\n"
        ));
    }
    text
}

fn client_configuration(folder: &Path, server_key: &str, scenario: &Scenario, variant: &Variant) -> String {
    let (folder, mode) = (folder.display(), &variant.mode);
    let mut text = format!(
        "interface = \"sennit0\"\n\
         log_level = \"info\"\n\
         private_key_file = \"{folder}/client.key\"\n\
         control = \"{folder}/client.sock\"\n\
         state_dir = \"{folder}/client\"\n\
         mode = \"{mode}\"\n\
         route = \"default\"\n\
         [server]\n\
         address = \"{SERVER}:7300\"\n\
         public_key = \"{server_key}\"\n\
         [wans]\n\
         include = [\"wan*\"]\n"
    );
    for (wan, _) in scenario.links.iter().enumerate().filter(|(_, link)| link.metered) {
        text.push_str(&format!("[wan.{}]\nmetered = true\n", wan_interface(wan)));
    }
    text
}

/// What is known of a program's file: its size in MB, and whether it is linked statically (no interpreter is named
/// in its header). None if it is no 64-bit little-endian ELF file.
pub fn program_file(program: &Path) -> Option<(f64, bool)> {
    let bytes = std::fs::read(program).ok()?;
    let field = |at: usize, length: usize| {
        let part = bytes.get(at..at.checked_add(length)?)?;
        Some(
            part.iter()
                .rev()
                .fold(0_usize, |value, byte| value << 8 | usize::from(*byte)),
        )
    };
    if bytes.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    const INTERPRETER: usize = 3;
    let (table, entry, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
    let mut interpreted = false;
    for number in 0..count {
        interpreted |= field(table.checked_add(number * entry)?, 4)? == INTERPRETER;
    }
    Some((bytes.len() as f64 / 1e6, !interpreted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_linked_by_the_system_is_not_static() {
        let file = std::env::current_exe().expect("this test");
        let (size, is_static) = program_file(&file).expect("an ELF file");
        assert!(size > 0.1);
        assert_eq!(is_static, cfg!(target_feature = "crt-static"));
        assert_eq!(program_file(Path::new("/proc/self/cmdline")), None);
    }
}
