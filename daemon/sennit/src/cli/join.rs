//! `sennit join`: uses a join code, keeps what the server says, and waits until the tunnel is there.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Daemon;
use super::printer::{say, show};
use crate::config::{ClientConfig, Common, DEFAULT_KEY_PATH, Endpoint, InterfaceName, KeySource};
use crate::control::{Caller, Request};
use crate::join::{self, Code, Files, Heard, Kept, Partners, Reply, ToClient, ToServer};
use crate::key::{PrivateKey, PublicKey};
use crate::{Error, Result, config, registry};

/// How long the running daemon is given to connect.
const CONNECTS_WITHIN: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(super) struct Join {
    /// The code that `sennit invite` or `sennit cloud-init` printed. `-` reads it from standard input.
    code: String,
    /// Name or address of the server; a code of `sennit cloud-init` does not know it.
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<Endpoint>,
    /// Keep the servers that are known already: this one is called NAME, and the best is used (sennit servers).
    #[arg(long, value_name = "NAME")]
    beside: Option<String>,
    /// What this client calls itself; the server's word goes first.
    #[arg(long)]
    name: Option<String>,
    /// This machine's private key, if not that of its configuration; made if it does not exist.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How long to ask the server.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = super::invite::parse_time)]
    wait: u64,
    /// Print {"name": …, "server": …, "addresses": …, "connected": …}.
    #[arg(long)]
    json: bool,
    /// Print nothing but errors.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Where the server is asked for, and for how long.
struct Asking<'a> {
    asked: &'a [Endpoint],
    tunnel: &'a InterfaceName,
    patience: Duration,
}

/// What joining brought.
struct Joined {
    name: String,
    addresses: Vec<String>,
    server: PublicKey,
    address: Endpoint,
}

pub(super) fn run(join: &Join) -> Result<()> {
    let talk = |text: &str| {
        if !join.quiet && !join.json {
            say(text);
        }
    };
    let code = read_code(&join.code)?;
    if registry::now() >= code.expires {
        return Err(Error::user(
            "this code has expired (or this machine's clock is wrong)",
            "make another one on the server: sennit invite",
        ));
    }
    if let Some(name) = &join.beside {
        registry::check_name(name)?;
    }
    refuse_server(&join.daemon)?;
    let Own { key, file, common } = own(join.daemon.file(), join.key.as_deref())?;
    let files = Files {
        config: join.daemon.file().map(Path::to_owned),
        key: file,
    };
    let asked = endpoints(&code, join.server.as_ref())?;
    let names: Vec<String> = asked.iter().map(ToString::to_string).collect();
    talk(&format!("asking {} …", names.join(" and ")));
    let asking = Asking {
        asked: &asked,
        tunnel: &common.interface,
        patience: Duration::from_secs(join.wait),
    };
    let joined = match &code.server {
        Some(server) => by_invitation(&code, &server.public_key, &key, &asking, join.name.as_deref())?,
        None => by_first_contact(&code, &key, &asking, &files, join.beside.as_deref())?,
    };
    let kept = Kept {
        address: &joined.address,
        public_key: &joined.server,
        beside: join.beside.as_deref(),
    };
    let starts_itself = join::keep(&files, &kept)?;
    if joined.addresses.is_empty() {
        talk(&format!("joined {}", joined.address));
    } else {
        talk(&format!(
            "joined {} as {}, with the inner addresses {}",
            joined.address,
            joined.name,
            joined.addresses.join(" and ")
        ));
    }
    let connected = connect(&join.daemon, starts_itself)?;
    if join.json {
        let value = json!({
            "name": joined.name, "server": joined.address.to_string(), "public_key": joined.server,
            "addresses": joined.addresses, "connected": connected,
        });
        show(&value.to_string());
    }
    if connected {
        talk("connected");
    } else if starts_itself {
        talk("the service starts with it: /etc/init.d/sennit start; sennit status shows how far it is");
    } else {
        let option = files
            .config
            .as_ref()
            .map(|file| format!(" --config {}", file.display()));
        talk(&format!(
            "start it: sennit run client{}",
            option.unwrap_or_default()
        ));
    }
    Ok(())
}

fn read_code(argument: &str) -> Result<Code> {
    let text = if argument == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(|error| {
            Error::environment(
                format!("failed to read standard input: {error}"),
                "paste the code there",
            )
        })?
    } else {
        argument.to_owned()
    };
    text.parse().map_err(|error: join::CodeError| {
        Error::user(error.to_string(), "paste the whole line that the server printed")
    })
}

/// A machine is either end, not both: the server's configuration would be spoilt.
fn refuse_server(daemon: &Daemon) -> Result<()> {
    let status = daemon
        .call()
        .and_then(|mut caller| caller.ask(&Request::Status {}));
    if status.is_ok_and(|status| status["role"] == "server") {
        return Err(Error::user(
            "this machine is a server",
            "run sennit join on the router or computer that has the bad links",
        ));
    }
    Ok(())
}

/// Who this machine is as a client.
pub(super) struct Own {
    /// What proves it.
    pub(super) key: PrivateKey,
    /// Where that lies.
    pub(super) file: PathBuf,
    /// What its configuration says besides.
    pub(super) common: Common,
}

/// With the files that the user named, else those that the daemon uses; a key that does not exist is made.
pub(super) fn own(config: Option<&Path>, key: Option<&Path>) -> Result<Own> {
    let path = config.map_or_else(join::default_config, Path::to_owned);
    let present = path
        .exists()
        .then(|| config::read::<ClientConfig>(Some(&path)))
        .transpose()?;
    // A configuration that names a key has the one that counts.
    let source = match (key, &present) {
        (Some(file), _) => KeySource::File(file.to_owned()),
        (None, Some(config)) => config.key.clone(),
        (None, None) => KeySource::File(DEFAULT_KEY_PATH.into()),
    };
    let common = present.map(|config| config.common).unwrap_or_default();
    let (key, file) = match source {
        KeySource::Inline(key) => (key, DEFAULT_KEY_PATH.into()),
        KeySource::File(file) if file.exists() => (PrivateKey::read(&file)?, file),
        KeySource::File(file) => {
            let key = PrivateKey::generate()?;
            key.write(&file, false)?;
            (key, file)
        }
    };
    Ok(Own { key, file, common })
}

fn endpoints(code: &Code, said: Option<&Endpoint>) -> Result<Vec<Endpoint>> {
    match (said, &code.server) {
        (Some(said), _) => Ok(vec![said.clone()]),
        (None, Some(server)) => Ok(server.addresses.clone()),
        (None, None) => Err(Error::user(
            "this code does not know where its server is",
            "sennit join CODE --server ADDRESS, with the address that your provider shows for the virtual machine",
        )),
    }
}

/// All addresses of the endpoints, with the endpoint that each one is of.
fn resolve(endpoints: &[Endpoint]) -> Result<Vec<(SocketAddr, Endpoint)>> {
    let mut found = Vec::new();
    let mut failure = None;
    for endpoint in endpoints {
        match (endpoint.host.as_str(), endpoint.port).to_socket_addrs() {
            Ok(addresses) => found.extend(addresses.map(|address| (address, endpoint.clone()))),
            Err(error) => failure = Some((endpoint, error)),
        }
    }
    match (found.is_empty(), failure) {
        (true, Some((endpoint, error))) => Err(Error::environment(
            format!("the server's name {} is not resolved: {error}", endpoint.host),
            "check the name, and that this machine has a name server",
        )),
        _ => Ok(found),
    }
}

fn speak<T>(
    identity: &PrivateKey,
    server: &PublicKey,
    asking: &Asking<'_>,
    hear: impl FnMut(Heard) -> Result<Reply<T>>,
) -> Result<(T, Endpoint)> {
    let asked = asking.asked;
    let resolved = resolve(asked)?;
    let addresses: Vec<SocketAddr> = resolved.iter().map(|(address, _)| *address).collect();
    let partners = Partners {
        identity,
        server,
        addresses: &addresses,
        tunnel: asking.tunnel,
    };
    let Some((value, address)) = join::converse(&partners, asking.patience, hear)? else {
        let ports: Vec<String> = asked
            .iter()
            .map(|endpoint| format!("UDP {}", endpoint.port))
            .collect();
        return Err(Error::environment(
            "the server does not answer, or does not know this code",
            format!(
                "check that the server runs (there: sennit status), that its provider's firewall lets {} in, and that the \
                 code was neither taken back nor made before the server was set up anew",
                ports.join(", ")
            ),
        ));
    };
    let endpoint = resolved.into_iter().find(|(known, _)| *known == address);
    let fallback = asked.first().cloned();
    let endpoint = endpoint.map(|(_, endpoint)| endpoint).or(fallback);
    endpoint
        .map(|endpoint| (value, endpoint))
        .ok_or_else(|| Error::user("the code names no address", "sennit join CODE --server ADDRESS"))
}

fn refused(why: registry::Refusal) -> Error {
    Error::user(
        format!("the server refuses: {why}"),
        "make another code on the server: sennit invite; sennit clients list shows who joined",
    )
}

fn by_invitation(
    code: &Code,
    server: &PublicKey,
    key: &PrivateKey,
    asking: &Asking<'_>,
    name: Option<&str>,
) -> Result<Joined> {
    let name = name.map(str::to_owned).or_else(host_name);
    let hear = |heard: Heard| match heard {
        Heard::Connected => Ok(Reply::Say(ToServer::Register {
            public_key: key.public(),
            name: name.clone(),
        })),
        Heard::Message(ToClient::Registered { name, addresses }) => Ok(Reply::Done((name, addresses))),
        Heard::Message(ToClient::Refused { why }) => Err(refused(why)),
        Heard::Message(_) => Ok(Reply::Listen),
    };
    let ((name, addresses), address) = speak(&code.guest_key(), server, asking, hear)?;
    Ok(Joined {
        name,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        server: *server,
        address,
    })
}

/// The server's key is kept before the server is told so: from then on it has no other.
fn by_first_contact(
    code: &Code,
    key: &PrivateKey,
    asking: &Asking<'_>,
    files: &Files,
    beside: Option<&str>,
) -> Result<Joined> {
    let mut pinned = None;
    let first = asking.asked.first().cloned();
    let hear = |heard: Heard| match heard {
        Heard::Message(ToClient::Identity { public_key }) => {
            if let Some(first) = &first {
                let kept = Kept {
                    address: first,
                    public_key: &public_key,
                    beside,
                };
                join::keep(files, &kept)?;
            }
            pinned = Some(public_key);
            Ok(Reply::Say(ToServer::Pinned {}))
        }
        Heard::Message(ToClient::Registered { name, addresses }) => Ok(Reply::Done((name, addresses))),
        Heard::Message(ToClient::Refused { why }) => Err(refused(why)),
        Heard::Connected
        | Heard::Message(
            ToClient::Limits { .. } | ToClient::Ports { .. } | ToClient::Knock { .. } | ToClient::Unknown,
        ) => Ok(Reply::Listen),
    };
    let server = code.first_contact_key().public();
    let spoken = speak(key, &server, asking, hear);
    match (spoken, pinned, first) {
        (Ok(((name, addresses), address)), Some(server), _) => Ok(Joined {
            name,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            server,
            address,
        }),
        (Ok(_), None, _) => Err(Error::environment(
            "the server did not tell its key",
            "its sennit is of another version: update both",
        )),
        // Its key is kept, and with that it answers from now on. Only its last word was lost, as on a bad link; asking
        // for it again would be in vain, because the code has done its work.
        (Err(_), Some(server), Some(address)) => Ok(Joined {
            name: String::new(),
            addresses: Vec::new(),
            server,
            address,
        }),
        (Err(error), _, _) => Err(error),
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().split('.').next()?.to_owned();
    registry::check_name(&name).is_ok().then_some(name)
}

/// The running daemon takes the new server and connects. False if none runs.
fn connect(daemon: &Daemon, starts_itself: bool) -> Result<bool> {
    if starts_itself {
        // The service makes the daemon's configuration from UCI, and starts it.
        let reload = std::process::Command::new("/etc/init.d/sennit")
            .arg("reload")
            .status();
        if !reload.is_ok_and(|status| status.success()) {
            return Ok(false);
        }
    } else {
        let Ok(mut caller) = daemon.call() else {
            return Ok(false);
        };
        caller.ask(&Request::Reload {})?;
    }
    let until = Instant::now() + CONNECTS_WITHIN;
    while Instant::now() < until {
        let status = daemon
            .call()
            .and_then(|mut caller: Caller| caller.ask(&Request::Status {}));
        if status.is_ok_and(|status| status["state"] == "connected") {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Error::environment(
        "joined, but the tunnel does not come up",
        "sennit check finds out why; sennit log shows what happened",
    ))
}
