//! `sennit invite`: makes a join code, and shows it as a line to paste and as a QR code.

use std::io::IsTerminal;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::Value;

use super::printer::{say, show};
use super::{Daemon, not_understood};
use crate::config::{self, ServerConfig};
use crate::control::{Caller, Request};
use crate::registry::{Action, Registry};
use crate::{Error, Result};

#[derive(clap::Args)]
pub(super) struct Invite {
    /// What the client will be called; without it, what it calls itself.
    name: Option<String>,
    /// How long the code counts: 30m, 24h, 7d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_time)]
    expires: u64,
    /// Name or address by which the client reaches this server, if not that of the configuration. May be repeated.
    #[arg(long = "address", value_name = "HOST[:PORT]")]
    addresses: Vec<String>,
    /// Print {"code": …, "name": …, "expires": …}.
    #[arg(long)]
    json: bool,
    /// Print nothing but the line to paste.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Seconds of a time as people write it.
pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a time: 90s, 30m, 24h or 7d");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| wrong())?;
    let unit = match &text[end..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    // A code that counts for longer is one that is forgotten.
    match number.checked_mul(unit) {
        Some(seconds) if (1..=365 * 24 * 3600).contains(&seconds) => Ok(seconds),
        _ => Err("a code counts for at most a year (365d)".to_owned()),
    }
}

/// Does something to the registry: by the running daemon, or if there is none in the file itself.
pub(super) fn administer(daemon: &Daemon, action: Action) -> Result<Value> {
    let common = daemon.common()?;
    if common.control.exists()
        && let Ok(mut caller) = Caller::connect(&common.control)
    {
        return caller.ask(&Request::Registry { action });
    }
    let config: ServerConfig = config::read(daemon.file())?;
    action.perform(&Registry::open(&config.common.state_dir)?, &config)
}

pub(super) fn run(invite: Invite) -> Result<()> {
    let action = Action::Invite {
        name: invite.name,
        valid_s: invite.expires,
        addresses: invite.addresses,
    };
    let made = administer(&invite.daemon, action)?;
    if invite.json {
        show(&made.to_string());
        return Ok(());
    }
    let code = made["code"].as_str().ok_or_else(not_understood)?;
    present(code, invite.expires, invite.quiet)
}

/// Shows a code: the line for stdout, all else for people.
pub(super) fn present(code: &str, valid_s: u64, quiet: bool) -> Result<()> {
    if !quiet {
        if std::io::stderr().is_terminal() {
            say(&picture(code)?);
        }
        say(&format!(
            "Paste this line on the router. It admits one client, once, within {}; whoever reads it can join.\n",
            lasting(valid_s)
        ));
    }
    show(&format!("sennit join {code}"));
    Ok(())
}

/// The code as a camera reads it; in capitals it needs fewer dots.
fn picture(code: &str) -> Result<String> {
    let made = QrCode::new(code.as_bytes()).map_err(|error| {
        Error::environment(
            format!("the code cannot be drawn: {error}"),
            "sennit invite --quiet prints it without",
        )
    })?;
    // Light on dark, as most terminals are; cameras read both.
    Ok(made
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build())
}

pub(super) fn lasting(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse_time("90s"), Ok(90));
        assert_eq!(parse_time("24h"), Ok(86_400));
        assert_eq!(parse_time("7d"), Ok(604_800));
        for wrong in [
            "",
            "h",
            "24",
            "24 h",
            "-1h",
            "1.5h",
            "0s",
            "400d",
            "99999999999999999999d",
        ] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        assert_eq!(lasting(86_400), "24 hours");
    }
}
