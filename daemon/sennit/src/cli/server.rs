//! `sennit server`: makes this machine a server, and takes that back.

use clap::Subcommand;
use serde_json::json;

use super::printer::{say, show};
use super::run::start_log;
use crate::Result;
use crate::config::{Common, DEFAULT_PORT, LogLevel};
use crate::host::{self, Outcome, Wish, Work};

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
        #[command(flatten)]
        talk: Talk,
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

pub(super) fn run(command: &Server) -> Result<()> {
    start_log(LogLevel::Warn);
    match command {
        Server::Init {
            addresses,
            port,
            talk,
        } => {
            let wish = Wish {
                addresses: addresses.clone(),
                port: *port,
            };
            let (outcome, steps) = talk.work(|work| host::init(&wish, work))?;
            show_server(&outcome, &steps, talk);
        }
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
    Ok(())
}

fn show_server(outcome: &Outcome, steps: &[String], talk: &Talk) {
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
        });
        show(&value.to_string());
        return;
    }
    if talk.quiet || talk.dry_run {
        return;
    }
    say(&format!(
        "this server is reached at {} (UDP), its public key is {}",
        public.join(" and "),
        key.unwrap_or_default()
    ));
}
