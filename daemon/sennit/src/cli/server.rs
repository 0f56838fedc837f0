//! `sennit server`: makes this machine a server, and takes that back.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::invite::{administer, present};
use super::printer::{say, show};
use super::run::start_log;
use super::setup::parse_client;
use super::{Daemon, check};
use crate::config::{Common, DEFAULT_PORT, LogLevel};
use crate::control::Caller;
use crate::error::Exit;
use crate::host::{self, Awaited, Outcome, Wish, Work};
use crate::join::CodeError;
use crate::key::PublicKey;
use crate::registry::{Action, Registry};
use crate::role::Role;
use crate::system::write_with_mode;
use crate::{Error, Result};

/// Seconds that the code of a new server counts.
const FIRST_CODE_COUNTS: u64 = 24 * 3600;

#[derive(Subcommand)]
pub(super) enum Server {
    /// Make this machine a server: key, configuration, service, firewall. What is there already stays.
    Init {
        /// Address or name by which clients reach this machine, where its interfaces do not have it (a cloud's NAT). May
        /// be repeated.
        #[arg(long = "address", value_name = "HOST")]
        addresses: Vec<String>,
        /// UDP port on which clients reach it.
        #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// What the first client will be called; without it, what it calls itself.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// File with the code of the client that had this server made by `sennit cloud-init`.
        #[arg(long, value_name = "FILE", requires = "client")]
        first_contact: Option<PathBuf>,
        /// That client: a name, and its public key.
        #[arg(long, value_name = "NAME=PUBLIC_KEY", requires = "first_contact", value_parser = parse_client)]
        client: Option<(String, PublicKey)>,
        #[command(flatten)]
        talk: Talk,
    },
    /// Write clients and invitations to a file, for a backup or a move to another machine.
    Export(Backup),
    /// Take clients and invitations from a file that `export` wrote; the server must be stopped.
    Import(Backup),
    /// Find out what keeps this machine from working as a server: settings, ports, packet filters, clock.
    Check {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Stop being a server: take back all that `init` changed.
    Uninstall {
        /// Remove configuration, key and clients as well.
        #[arg(long)]
        purge: bool,
        #[command(flatten)]
        talk: Talk,
    },
}

/// Where clients and invitations are kept.
#[derive(clap::Args)]
pub(super) struct Backup {
    /// The file.
    file: PathBuf,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(clap::Args)]
pub(super) struct Talk {
    /// Only print what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print nothing but what was asked for, and errors.
    #[arg(long)]
    quiet: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Talk {
    /// Calls `action` with a listener that prints each step, or keeps it for JSON.
    fn work<T>(&self, action: impl FnOnce(&mut Work<'_>) -> Result<T>) -> Result<(T, Vec<String>)> {
        let mut steps = Vec::new();
        let mut tell = |step: &str| {
            if !self.quiet && !self.json {
                say(&format!("{}{step}", if self.dry_run { "would: " } else { "" }));
            }
            steps.push(step.to_owned());
        };
        let outcome = action(&mut Work {
            dry: self.dry_run,
            tell: &mut tell,
        })?;
        Ok((outcome, steps))
    }
}

pub(super) fn run(command: &Server) -> Result<Exit> {
    start_log(LogLevel::Warn);
    match command {
        Server::Check { daemon } => return check::run(daemon, Some(Role::Server)),
        Server::Init {
            addresses,
            port,
            name,
            first_contact,
            client,
            talk,
        } => {
            let wish = Wish {
                addresses: addresses.clone(),
                port: *port,
                first_contact: awaited(first_contact.as_deref(), client.as_ref())?,
            };
            let (outcome, steps) = talk.work(|work| host::init(&wish, work))?;
            let code = match wish.first_contact.is_none() && !talk.dry_run {
                true => first_code(name.clone())?,
                false => None,
            };
            show_server(&outcome, &steps, code.as_deref(), talk)?;
        }
        Server::Export(backup) => {
            let exported = administer(&backup.daemon, Action::Export {})?;
            let text = format!("{exported:#}\n");
            write_with_mode(&backup.file, text.as_bytes(), 0o600)?;
        }
        Server::Import(backup) => import(backup)?,
        Server::Uninstall { purge, talk } => {
            let common = Common::read(None)?;
            let ((), steps) = talk.work(|work| host::uninstall(&common, *purge, work))?;
            if talk.json {
                show(&json!({ "dry_run": talk.dry_run, "steps": steps }).to_string());
            } else if !talk.quiet && !talk.dry_run {
                say(if *purge {
                    "nothing of sennit is left"
                } else {
                    "this machine is no server any more; configuration, key and clients are kept (--purge removes them)"
                });
            }
        }
    }
    Ok(Exit::Ok)
}

/// A code for the first client; none if one has joined.
fn first_code(name: Option<String>) -> Result<Option<String>> {
    let daemon = Daemon::default();
    let listed = administer(&daemon, Action::List {})?;
    if listed["clients"]
        .as_array()
        .is_none_or(|clients| !clients.is_empty())
    {
        return Ok(None);
    }
    let action = Action::Invite {
        name,
        valid_s: FIRST_CODE_COUNTS,
        addresses: Vec::new(),
    };
    let made = administer(&daemon, action)?;
    Ok(made["code"].as_str().map(str::to_owned))
}

fn awaited(file: Option<&Path>, client: Option<&(String, PublicKey)>) -> Result<Option<Awaited>> {
    let (Some(file), Some((name, public_key))) = (file, client) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        Error::user(
            format!("failed to read {}: {error}", file.display()),
            "name the file that sennit cloud-init has the machine write",
        )
    })?;
    let code = text.parse().map_err(|error: CodeError| {
        Error::user(
            format!("{}: {error}", file.display()),
            "make new user-data: sennit cloud-init",
        )
    })?;
    Ok(Some(Awaited {
        code,
        name: name.clone(),
        public_key: *public_key,
    }))
}

fn import(backup: &Backup) -> Result<()> {
    let common = backup.daemon.common()?;
    if Caller::connect(&common.control).is_ok() {
        return Err(Error::user(
            "the server runs, and has its clients to itself",
            "stop it, import, start it: systemctl stop sennit-server; sennit server import FILE; systemctl start sennit-server",
        ));
    }
    let failed = |why: &dyn std::fmt::Display| {
        Error::user(
            format!("{}: {why}", backup.file.display()),
            "name a file that sennit server export wrote; nothing was changed",
        )
    };
    let text = std::fs::read_to_string(&backup.file).map_err(|error| failed(&error))?;
    let value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    let count = Registry::open(&common.state_dir)?.import(value)?;
    say(&format!("{count} clients are there now"));
    Ok(())
}

fn show_server(outcome: &Outcome, steps: &[String], code: Option<&str>, talk: &Talk) -> Result<()> {
    let public: Vec<String> = outcome.public.iter().map(ToString::to_string).collect();
    let key = outcome.public_key.as_ref().map(ToString::to_string);
    if talk.json {
        let value = json!({
            "dry_run": talk.dry_run,
            "steps": steps,
            "public_key": key,
            "public": public,
            "interfaces": outcome.interfaces,
            "program": outcome.program,
            "supervisor": outcome.supervisor,
            "kept_ports": outcome.kept,
            "code": code,
        });
        show(&value.to_string());
        return Ok(());
    }
    if !talk.quiet && !talk.dry_run {
        if !public.is_empty() {
            say(&format!(
                "this server is reached at {} (UDP)",
                public.join(" and ")
            ));
        }
        if !outcome.kept.is_empty() {
            say(&format!(
                "ports 1024 to 65000 lead to the only client, except those of this machine: {}",
                outcome.kept.join(", ")
            ));
        }
        say(&format!("its public key is {}", key.unwrap_or_default()));
    }
    match code {
        Some(code) => present(code, FIRST_CODE_COUNTS, talk.quiet),
        None => Ok(()),
    }
}
