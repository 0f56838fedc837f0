//! `sennit servers`: which servers this client has, how far they are, and which one it uses.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::Value;

use super::printer::show;
use super::table::aligned;
use super::{Daemon, not_understood};
use crate::Result;
use crate::config::AUTO;
use crate::control::Request;

/// Longer than an answer can take.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Servers {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
struct How {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Subcommand)]
enum Command {
    /// Use this server, the best one of this region, or the best of all; the choice is kept.
    Use {
        /// A server's name, a region, or auto.
        #[arg(default_value = AUTO)]
        choice: String,
        #[command(flatten)]
        how: How,
    },
}

pub(super) fn run(servers: &Servers) -> Result<()> {
    if let Some(Command::Use { choice, how }) = &servers.command {
        let request = Request::UseServer {
            choice: choice.clone(),
        };
        let status = how.daemon.call()?.ask(&request)?;
        if how.json {
            show(&status.to_string());
        }
        return Ok(());
    }
    let (how, began) = (&servers.how, Instant::now());
    let mut status = how.daemon.call()?.ask(&Request::Servers {})?;
    // Asking starts the measurement; what was measured comes with a later answer.
    while status["measuring"] == true && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
        let state = how.daemon.call()?.ask(&Request::Status {})?;
        status = state["servers"].clone();
    }
    if how.json {
        show(&status.to_string());
    } else {
        show(table(&status)?.trim_end());
    }
    Ok(())
}

fn table(status: &Value) -> Result<String> {
    let servers = status["servers"].as_array().ok_or_else(not_understood)?;
    let wans: BTreeSet<&String> = servers
        .iter()
        .filter_map(|server| server["rtt_ms"].as_object())
        .flat_map(|wans| wans.keys())
        .collect();
    let mut head = vec!["server", "region", "address", "load"];
    head.extend(wans.iter().map(|wan| wan.as_str()));
    head.push("");
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for server in servers {
        let text = |key: &str| server[key].as_str().unwrap_or("-").to_owned();
        let load = server["load"].as_u64();
        let mut row = vec![
            text("name"),
            text("region"),
            text("address"),
            load.map_or_else(|| "-".to_owned(), |load| format!("{load} %")),
        ];
        for wan in &wans {
            let rtt = server["rtt_ms"][wan.as_str()].as_f64();
            row.push(rtt.map_or_else(|| "no answer".to_owned(), |rtt| format!("{rtt:.1} ms")));
        }
        row.push(if server["used"] == true { "in use" } else { "" }.to_owned());
        rows.push(row);
    }
    let choice = status["choice"].as_str().ok_or_else(not_understood)?;
    Ok(format!("{}\nchoice: {choice}\n", aligned(&rows)))
}
