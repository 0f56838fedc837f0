//! The firewall table `inet sennit`, written as text for `nft`, which replaces the whole table in one transaction. On a
//! client: address translation, and the second line against leaks. Other tables are never touched.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use super::ServerFirewall;
use crate::config::InterfaceName;
use crate::{Error, Result};

/// Creating it first makes deleting it no error.
pub(super) const REMOVE: &str = "table inet sennit\ndelete table inet sennit\n";

/// The client's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirewall {
    /// The tunnel interface.
    pub tunnel: InterfaceName,
    /// Interfaces by which nothing forwarded may leave; empty if that is allowed.
    pub uplinks: BTreeSet<String>,
    /// Inner addresses of this machine: what hosts behind it send gets one of them as its source.
    pub sources: Vec<IpAddr>,
}

impl ClientFirewall {
    fn text(&self) -> String {
        let mut text = String::from(REMOVE);
        let tunnel = &self.tunnel;
        // What tracking knows nothing of is not translated; asked in every table, it also keeps tracking on while the
        // tunnel has no address yet.
        let _ = write!(
            text,
            "table inet sennit {{\nchain invalid {{\ntype filter hook forward priority -9\n\
             oifname \"{tunnel}\" ct state invalid drop\n\
             iifname \"{tunnel}\" ct state invalid drop\n}}\n"
        );
        if !self.uplinks.is_empty() {
            let uplinks: Vec<String> = self
                .uplinks
                .iter()
                .map(|uplink| format!("\"{uplink}\""))
                .collect();
            let uplinks = uplinks.join(", ");
            // Before the filters that accept.
            let _ = write!(
                text,
                "chain forward {{\ntype filter hook forward priority -10\n\
                 oifname {{ {uplinks} }} drop\n\
                 iifname {{ {uplinks} }} oifname \"{tunnel}\" drop\n}}\n"
            );
        }
        text.push_str("chain source {\ntype nat hook postrouting priority 100\n");
        for source in &self.sources {
            // Not "masquerade": that forgets the connections whenever the interface goes down.
            let ip = version(*source);
            let _ = writeln!(
                text,
                "oifname \"{tunnel}\" {ip} saddr != {source} snat {ip} to {source}"
            );
        }
        text.push_str("}\n}\n");
        text
    }
}

pub(super) fn version(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

/// Hands the table to `nft`, if it differs from the one before.
#[derive(Debug, Default)]
pub struct Firewall {
    present: Option<String>,
}

impl Firewall {
    /// Sets the client's table.
    pub fn set_client(&mut self, table: &ClientFirewall) -> Result<()> {
        self.set(table.text())
    }

    /// Sets the server's table.
    pub fn set_server(&mut self, table: &ServerFirewall) -> Result<()> {
        self.set(table.text())
    }

    /// Whether this value has set the table.
    pub fn is_set(&self) -> bool {
        self.present.is_some()
    }

    /// Sets the table again if somebody has removed it (`nft flush ruleset`, a restart of another firewall); whether that
    /// was so.
    pub fn restore(&mut self) -> Result<bool> {
        let Some(text) = &self.present else {
            return Ok(false);
        };
        let listed = Command::new("nft")
            .args(["list", "table", "inet", "sennit"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if listed.is_ok_and(|status| status.success()) {
            return Ok(false);
        }
        run(text)?;
        Ok(true)
    }

    /// Hands a text to `nft`.
    pub fn run(text: &str) -> Result<()> {
        run(text).map_err(Error::from)
    }

    /// Removes the table. Without `nft` there is none.
    pub fn remove() -> Result<()> {
        match run(REMOVE) {
            Err(Failure::Missing) => Ok(()),
            outcome => outcome.map_err(Error::from),
        }
    }

    fn set(&mut self, text: String) -> Result<()> {
        if self.present.as_ref() != Some(&text) {
            self.present = None;
            run(&text)?;
            self.present = Some(text);
        }
        Ok(())
    }
}

enum Failure {
    Missing,
    NotStarted(io::Error),
    Refused(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Missing => Self::environment(
                "the program nft is missing: the firewall cannot be set",
                "install the package nftables",
            ),
            Failure::NotStarted(error) => {
                Self::environment(format!("failed to run nft: {error}"), "run sennit as root")
            }
            Failure::Refused(message) => Self::environment(
                format!("nft refused the table inet sennit: {message}"),
                "run sennit as root; the kernel needs nf_tables with NAT (kmod-nft-nat on OpenWrt)",
            ),
        }
    }
}

fn run(text: &str) -> Result<(), Failure> {
    let spawned = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Missing),
        Err(error) => return Err(Failure::NotStarted(error)),
    };
    if let Some(mut input) = child.stdin.take() {
        // A program that ended early says why on its stderr.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(Failure::NotStarted)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let first = message.lines().next().unwrap_or("no reason given");
    Err(Failure::Refused(first.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_table_drops_what_would_leave_by_a_wan() {
        let table = ClientFirewall {
            tunnel: InterfaceName::default(),
            uplinks: ["eth1".to_owned(), "wwan0".to_owned()].into(),
            sources: vec!["10.73.0.2".parse().unwrap(), "fd73::2".parse().unwrap()],
        };
        let text = table.text();
        assert!(text.contains("oifname { \"eth1\", \"wwan0\" } drop\n"), "{text}");
        assert!(
            text.contains("oifname \"sennit0\" ip saddr != 10.73.0.2 snat ip to 10.73.0.2\n"),
            "{text}"
        );
        assert!(
            text.contains("oifname \"sennit0\" ip6 saddr != fd73::2 snat ip6 to fd73::2\n"),
            "{text}"
        );
        assert!(!text.contains("masquerade"));
        let open = ClientFirewall {
            uplinks: BTreeSet::new(),
            ..table
        };
        assert!(!open.text().contains("oifname {"));
    }
}
