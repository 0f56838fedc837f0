//! `sennit clients`: who may use this server, and how much.

use clap::Subcommand;
use serde_json::Value;

use super::invite::{administer, lasting};
use super::printer::{say, show};
use super::table::aligned;
use super::{Daemon, not_understood};
use crate::config::{self, Forward, Rate};
use crate::control::Request;
use crate::registry::{self, Action};
use crate::{Error, Result};

#[derive(Subcommand)]
pub(super) enum Clients {
    /// All clients and open invitations.
    List {
        #[command(flatten)]
        how: How,
    },
    /// Everything about one client.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// How fast a client may be, and how much it may carry in a month.
    Limit {
        /// Its name.
        name: String,
        /// The most that it may send: "20 Mbit/s"; 0: no limit.
        #[arg(long, value_name = "RATE")]
        up: Option<Rate>,
        /// The most that it is sent.
        #[arg(long, value_name = "RATE")]
        down: Option<Rate>,
        /// Bytes a calendar month, both directions together: 500GB; 0: no quota.
        #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
        quota: Option<u64>,
        #[command(flatten)]
        how: How,
    },
    /// Lead ports of this server to a client: tcp/8080, udp/5000-5100, tcp/8080:80.
    Forward {
        /// Its name.
        name: String,
        /// The ports.
        #[arg(required = true)]
        forwards: Vec<Forward>,
        /// Not any more.
        #[arg(long)]
        remove: bool,
        #[command(flatten)]
        how: How,
    },
    /// Let a client reach what clients may not.
    Allow {
        /// Its name.
        name: String,
        /// What, as the key `allow` of a client in the configuration says it.
        #[arg(required = true)]
        what: Vec<config::Allow>,
        /// Not any more.
        #[arg(long)]
        remove: bool,
        #[command(flatten)]
        how: How,
    },
    /// Lock a client out at once, or take an invitation back.
    Revoke {
        /// Its name, or that of the invitation.
        #[arg(required_unless_present = "invitations")]
        name: Option<String>,
        /// All open invitations: no code that was given out counts any more.
        #[arg(long, conflicts_with = "name")]
        invitations: bool,
        #[command(flatten)]
        how: How,
    },
}

#[derive(clap::Args)]
pub(super) struct How {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Bytes of an amount as people write it.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not an amount: 500GB, 1.5TB, 800MB or 0");
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let factor = match text[end..].trim().to_ascii_uppercase().as_str() {
        "" if number == 0.0 => 1.0,
        "B" => 1.0,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return Err(wrong()),
    };
    let bytes = number * factor;
    (bytes < 1e18).then_some(bytes as u64).ok_or_else(wrong)
}

pub(super) fn run(command: Clients) -> Result<()> {
    match command {
        Clients::List { how } => {
            let listed = administer(&how.daemon, Action::List {})?;
            if how.json {
                show(&listed.to_string());
                return Ok(());
            }
            let status = how
                .daemon
                .call()
                .and_then(|mut caller| caller.ask(&Request::Status {}));
            show(list(&listed, status.ok().as_ref())?.trim_end());
            Ok(())
        }
        Clients::Show { name, how } => {
            let client = administer(&how.daemon, Action::Show { name })?;
            if how.json {
                show(&client.to_string());
            } else {
                show(details(&client).trim_end());
            }
            Ok(())
        }
        Clients::Limit {
            name,
            up,
            down,
            quota,
            how,
        } => {
            if up.is_none() && down.is_none() && quota.is_none() {
                return Err(Error::user(
                    "nothing to change",
                    "sennit clients limit NAME --down \"50 Mbit/s\", --up RATE, --quota 500GB",
                ));
            }
            let action = Action::Limit {
                name,
                up: up.map(|rate| rate.0),
                down: down.map(|rate| rate.0),
                quota,
            };
            changed(&how, action)
        }
        Clients::Forward {
            name,
            forwards,
            remove,
            how,
        } => {
            let (add, remove) = if remove {
                (Vec::new(), forwards)
            } else {
                (forwards, Vec::new())
            };
            changed(&how, Action::Forward { name, add, remove })
        }
        Clients::Allow {
            name,
            what,
            remove,
            how,
        } => {
            let (add, remove) = if remove {
                (Vec::new(), what)
            } else {
                (what, Vec::new())
            };
            changed(&how, Action::Allow { name, add, remove })
        }
        Clients::Revoke { name, how, .. } => {
            let action = name
                .clone()
                .map_or(Action::RevokeInvitations {}, |name| Action::Revoke { name });
            let gone = administer(&how.daemon, action)?;
            match name {
                _ if how.json => show(&gone.to_string()),
                None => say(&format!("{} invitations count no more", gone["invites"])),
                Some(name) if gone["invite"].is_string() => {
                    say(&format!("the invitation of {name} counts no more"));
                }
                Some(name) => say(&format!("{name} is locked out")),
            }
            Ok(())
        }
    }
}

fn changed(how: &How, action: Action) -> Result<()> {
    let client = administer(&how.daemon, action)?;
    if how.json {
        show(&client.to_string());
    } else {
        say(details(&client).trim_end());
    }
    Ok(())
}

fn list(listed: &Value, status: Option<&Value>) -> Result<String> {
    let clients = listed["clients"].as_array().ok_or_else(not_understood)?;
    let invites = listed["invites"].as_array().ok_or_else(not_understood)?;
    let running = status.and_then(|status| status["clients"].as_array());
    let mut rows = vec![
        ["client", "addresses", "state", "this month", "from"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for client in clients {
        let live = running.and_then(|running| running.iter().find(|live| live["name"] == client["name"]));
        let state = match live {
            None => "",
            Some(live) if live["connected"] == true => "connected",
            Some(_) => "away",
        };
        let from = if client["configured"] == true {
            "the configuration"
        } else {
            "a join code"
        };
        rows.push(vec![
            text(&client["name"]),
            texts(&client["addresses"]),
            state.to_owned(),
            live.map(used).unwrap_or_default(),
            from.to_owned(),
        ]);
    }
    let now = registry::now();
    for invite in invites {
        let left = invite["expires"].as_u64().unwrap_or(0).saturating_sub(now);
        rows.push(vec![
            invite["name"].as_str().unwrap_or("(any name)").to_owned(),
            String::new(),
            format!("invited, for {} more", lasting(left)),
            String::new(),
            "a join code".to_owned(),
        ]);
    }
    if rows.len() == 1 {
        return Ok("no client has joined; sennit invite makes a join code".to_owned());
    }
    Ok(aligned(&rows))
}

/// What a running server says of a client's use in this month.
fn used(live: &Value) -> String {
    let gigabytes = |value: &Value| value.as_u64().map(|bytes| bytes as f64 / 1e9);
    let (Some(up), Some(down)) = (gigabytes(&live["used_up"]), gigabytes(&live["used_down"])) else {
        return String::new();
    };
    let mut text = format!("{:.2} GB", up + down);
    if let Some(quota) = gigabytes(&live["quota"]) {
        text.push_str(&format!(" of {quota:.0}"));
    }
    if live["slowed"] == true {
        text.push_str(", slowed down");
    }
    text
}

fn details(client: &Value) -> String {
    let rate = |value: &Value| match value.as_u64() {
        None | Some(0) => "no limit".to_owned(),
        Some(bits) => format!("{} kbit/s", bits / 1000),
    };
    let quota = client["quota"].as_u64().map_or_else(
        || "none".to_owned(),
        |bytes| format!("{:.1} GB a month", bytes as f64 / 1e9),
    );
    let rows = [
        ("client", text(&client["name"])),
        ("public key", text(&client["public_key"])),
        ("addresses", texts(&client["addresses"])),
        ("limit up", rate(&client["limit_up"])),
        ("limit down", rate(&client["limit_down"])),
        ("quota", quota),
        ("forwards", texts(&client["forwards"])),
        ("may also reach", texts(&client["allow"])),
    ];
    aligned(&rows.map(|(key, value)| vec![key.to_owned(), value]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> String {
    let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<String> = values.iter().map(text).collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_said_with_the_quota() {
        let live = serde_json::json!({
            "used_up": 1_500_000_000u64, "used_down": 9_000_000_000u64, "quota": 10_000_000_000u64, "slowed": true,
        });
        assert_eq!(used(&live), "10.50 GB of 10, slowed down");
        assert_eq!(
            used(&serde_json::json!({ "used_up": 0, "used_down": 0, "quota": null })),
            "0.00 GB"
        );
        assert_eq!(used(&Value::Null), "");
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("500GB"), Ok(500_000_000_000));
        assert_eq!(parse_bytes("1.5 tb"), Ok(1_500_000_000_000));
        assert_eq!(parse_bytes("0"), Ok(0));
        for wrong in ["", "500", "GB", "-1GB", "1e9GB", "9999999999TB", "NaN"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
