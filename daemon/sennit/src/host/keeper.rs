//! Programs that keep a machine's packet filter rules over reboots: ufw and firewalld. They are told once.

use super::{Change, Installed, Work, run};
use crate::Result;
use crate::system::filters::{Filter, Opening};

/// Something that a program is told to let through.
struct Wanted {
    what: String,
    is_set: bool,
    set: Vec<String>,
    undo: Vec<String>,
}

/// Tells those of these filters that keep rules what must get through. `uplinks`: interfaces by which clients come.
pub(super) fn open(
    filters: &[Filter],
    opening: &Opening,
    uplinks: &[String],
    installed: &mut Installed,
    work: &mut Work<'_>,
) -> Result<()> {
    let mut wanted = Vec::new();
    for filter in filters {
        wanted.extend(wanted_of(filter, opening, uplinks)?);
    }
    for Wanted { what, set, undo, .. } in wanted.into_iter().filter(|wanted| !wanted.is_set) {
        let command = set.join(" ");
        work.step(&format!("runs {command}"), || {
            installed.remember(Change::Command { what, undo })?;
            let words: Vec<&str> = set.iter().map(String::as_str).collect();
            run(&words).map(|_| ())
        })?;
    }
    Ok(())
}

/// What a filter that keeps rules has not been told yet.
pub fn missing(filter: &Filter, opening: &Opening, uplinks: &[String]) -> Vec<String> {
    match wanted_of(filter, opening, uplinks) {
        Ok(wanted) => wanted
            .into_iter()
            .filter(|wanted| !wanted.is_set)
            .map(|wanted| wanted.what)
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn wanted_of(filter: &Filter, opening: &Opening, uplinks: &[String]) -> Result<Vec<Wanted>> {
    match filter {
        Filter::Ufw => of_ufw(opening),
        Filter::Firewalld => Ok(of_firewalld(opening, uplinks)),
        Filter::Iptables { .. } | Filter::Nftables(_) => Ok(Vec::new()),
    }
}

fn of_ufw(opening: &Opening) -> Result<Vec<Wanted>> {
    let tunnel = &opening.tunnel;
    let mut rules: Vec<String> = opening
        .ports
        .iter()
        .map(|port| format!("allow {port}/udp"))
        .collect();
    rules.extend(
        ["allow", "route allow", "route allow"]
            .iter()
            .zip(["in", "in", "out"])
            .map(|(rule, way)| format!("{rule} {way} on {tunnel}")),
    );
    let added = run(&["ufw", "show", "added"])?;
    let wanted = |rule: String| {
        let line = format!("ufw {rule}");
        let is_set = added.lines().any(|known| {
            known
                .strip_prefix(&line)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(" comment"))
        });
        let deleted = match rule.strip_prefix("route ") {
            Some(rest) => format!("ufw route delete {rest}"),
            None => format!("ufw delete {rule}"),
        };
        Wanted {
            is_set,
            set: words(&format!("{line} comment sennit")),
            undo: words(&deleted),
            what: line,
        }
    };
    Ok(rules.into_iter().map(wanted).collect())
}

/// Both what runs now and what is loaded at the next start.
fn of_firewalld(opening: &Opening, uplinks: &[String]) -> Vec<Wanted> {
    let mut places: Vec<(String, String)> =
        vec![("trusted".to_owned(), format!("interface={}", opening.tunnel))];
    let default = || run(&["firewall-cmd", "--get-default-zone"]);
    for uplink in uplinks {
        let zone =
            run(&["firewall-cmd", &format!("--get-zone-of-interface={uplink}")]).or_else(|_| default());
        let Ok(zone) = zone else { continue };
        for port in &opening.ports {
            let place = (zone.trim().to_owned(), format!("port={port}/udp"));
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    let mut wanted = Vec::new();
    for (zone, what) in places {
        for permanent in ["", " --permanent"] {
            let command = |action: &str| {
                words(&format!(
                    "firewall-cmd --quiet{permanent} --zone={zone} --{action}-{what}"
                ))
            };
            let query = command("query");
            let query: Vec<&str> = query.iter().map(String::as_str).collect();
            wanted.push(Wanted {
                what: command("add").join(" "),
                is_set: run(&query).is_ok(),
                set: command("add"),
                undo: command("remove"),
            });
        }
    }
    wanted
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
