//! Other packet filters of this machine. A packet must pass all of them, whatever our own table says: where one drops, it
//! gets rules that let the tunnel through, at the top of its chains, marked by a comment.
//!
//! Rules that vanish with a reboot (iptables, nftables, Docker's chain) are set by the server itself, again and again.
//! Programs that keep rules of their own (ufw, firewalld) are only recognised here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::Undo;
use crate::config::InterfaceName;
use crate::{Error, Result};

/// By this comment our rules are known.
const COMMENT: &str = "sennit";
/// The chain that Docker asks first, and leaves to others.
const DOCKER: &str = "DOCKER-USER";

/// What has to get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The tunnel interface: whatever comes from it or goes to it is judged by our own table.
    pub tunnel: InterfaceName,
    /// UDP ports on which clients reach this machine.
    pub ports: BTreeSet<u16>,
}

/// Which way packets take through a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hook {
    Input,
    Forward,
}

/// A filter that drops what nobody allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// Rules of the program ufw.
    Ufw,
    /// Rules of the service firewalld.
    Firewalld,
    /// Rules of iptables, those of Docker among them.
    Iptables {
        /// `iptables`, `ip6tables`, or one of their variants.
        program: String,
        /// Those of its chains that need rules: `INPUT`, and `FORWARD` or the one that Docker keeps for rules of others.
        chains: Vec<String>,
    },
    /// A table of nftables that nobody else looks after.
    Nftables(Vec<Chain>),
}

/// A chain of nftables that packets enter from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Hook,
}

impl Filter {
    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::Ufw => "ufw".to_owned(),
            Self::Firewalld => "firewalld".to_owned(),
            Self::Iptables { program, chains } if chains.iter().any(|chain| chain == DOCKER) => {
                format!("{program} (Docker)")
            }
            Self::Iptables { program, .. } => program.clone(),
            Self::Nftables(chains) => {
                let first = chains.first();
                let (family, table) = first.map_or(("", ""), |chain| (&chain.family, &chain.table));
                format!("nftables ({family} {table})")
            }
        }
    }
}

/// A rule of ours in another filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// In a chain of iptables.
    Iptables {
        /// Which iptables.
        program: String,
        /// The chain.
        chain: String,
        /// What it matches.
        matches: Vec<String>,
    },
    /// In a chain of nftables.
    Nftables {
        /// Address family of the table.
        family: String,
        /// The table.
        table: String,
        /// The chain.
        chain: String,
        /// What it matches.
        matches: String,
    },
}

impl Rule {
    fn iptables(program: &str, chain: &str, matches: &[&str]) -> Self {
        Self::Iptables {
            program: program.to_owned(),
            chain: chain.to_owned(),
            matches: matches.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Iptables {
                program,
                chain,
                matches,
            } => format!("{program} {chain}: {}", matches.join(" ")),
            Self::Nftables {
                family,
                table,
                chain,
                matches,
            } => {
                format!("nft {family} {table} {chain}: {matches}")
            }
        }
    }

    /// Whether it is there.
    pub fn is_set(&self) -> bool {
        match self {
            Self::Iptables { .. } => self.iptables_command("-C").is_ok(),
            Self::Nftables { .. } => !self.handles().is_empty(),
        }
    }

    fn set(&self) -> Result<()> {
        match self {
            Self::Iptables { .. } => self.iptables_command("-I"),
            Self::Nftables {
                family,
                table,
                chain,
                matches,
            } => {
                let comment = format!("\"{COMMENT}: {}\"", matches.replace('"', ""));
                run(
                    "nft",
                    &[
                        "insert", "rule", family, table, chain, matches, "accept", "comment", &comment,
                    ],
                )
                .map(|_| ())
            }
        }
    }

    /// Takes it away, as often as it is there.
    pub fn remove(&self) {
        match self {
            Self::Iptables { .. } => while self.iptables_command("-D").is_ok() {},
            Self::Nftables {
                family, table, chain, ..
            } => {
                for handle in self.handles() {
                    // One that somebody else takes away at the same moment is gone, too.
                    let _ = run(
                        "nft",
                        &["delete", "rule", family, table, chain, "handle", &handle],
                    );
                }
            }
        }
    }

    fn iptables_command(&self, action: &str) -> Result<()> {
        let Self::Iptables {
            program,
            chain,
            matches,
        } = self
        else {
            return Ok(());
        };
        // Waits for its lock, which others hold for moments.
        let mut words = vec!["-w", "5", action, chain];
        words.extend(matches.iter().map(String::as_str));
        words.extend(["-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]);
        run(program, &words).map(|_| ())
    }

    fn handles(&self) -> Vec<String> {
        let Self::Nftables {
            family,
            table,
            chain,
            matches,
        } = self
        else {
            return Vec::new();
        };
        let comment = format!("comment \"{COMMENT}: {}\"", matches.replace('"', ""));
        let listed = run("nft", &["-a", "list", "chain", family, table, chain]).unwrap_or_default();
        listed
            .lines()
            .filter(|line| line.contains(&comment))
            .filter_map(|line| line.rsplit_once("# handle "))
            .map(|(_, handle)| handle.trim().to_owned())
            .collect()
    }
}

/// The filters of this machine that drop what nobody allows.
pub fn survey() -> Vec<Filter> {
    let rules = run("nft", &["-t", "list", "ruleset"]).unwrap_or_default();
    let mut filters = in_ruleset(&rules, &|program| variant(program, "nft"));
    // Asking would load it into the kernel.
    for (names, plain) in [
        ("/proc/net/ip_tables_names", "iptables"),
        ("/proc/net/ip6_tables_names", "ip6tables"),
    ] {
        let loaded = std::fs::read_to_string(Path::new(names)).unwrap_or_default();
        if loaded.lines().any(|table| table == "filter") {
            let Some(program) = variant(plain, "legacy") else {
                continue;
            };
            let listed = run(&program, &["-w", "5", "-S"]).unwrap_or_default();
            filters.extend(in_legacy(&listed, program));
        }
    }
    filters.sort();
    filters.dedup();
    filters
}

/// The rules that let the tunnel through a filter. None for those that keep rules themselves.
pub fn rules(filter: &Filter, opening: &Opening) -> Vec<Rule> {
    let tunnel = opening.tunnel.as_str();
    match filter {
        Filter::Ufw | Filter::Firewalld => Vec::new(),
        Filter::Iptables { program, chains } => {
            let mut rules = Vec::new();
            for chain in chains {
                rules.push(Rule::iptables(program, chain, &["-i", tunnel]));
                if chain != "INPUT" {
                    rules.push(Rule::iptables(program, chain, &["-o", tunnel]));
                    continue;
                }
                for port in &opening.ports {
                    let port = port.to_string();
                    rules.push(Rule::iptables(program, chain, &["-p", "udp", "--dport", &port]));
                }
            }
            rules
        }
        Filter::Nftables(chains) => {
            let rules_of = |chain: &Chain| {
                let mut matches = vec![format!("iifname \"{tunnel}\"")];
                match chain.hook {
                    Hook::Forward => matches.push(format!("oifname \"{tunnel}\"")),
                    Hook::Input => {
                        matches.extend(opening.ports.iter().map(|port| format!("udp dport {port}")))
                    }
                }
                let rule = |matches| Rule::Nftables {
                    family: chain.family.clone(),
                    table: chain.table.clone(),
                    chain: chain.name.clone(),
                    matches,
                };
                matches.into_iter().map(rule).collect::<Vec<_>>()
            };
            chains.iter().flat_map(rules_of).collect()
        }
    }
}

/// Sets the rules that are missing, each remembered first. Returns those that were.
pub fn open(undo: &mut Undo, opening: &Opening) -> Result<Vec<Rule>> {
    let mut set = Vec::new();
    for filter in survey() {
        for rule in rules(&filter, opening) {
            // Even if it is there: somebody may have saved and loaded it again.
            undo.remember_rule(&rule)?;
            if !rule.is_set() {
                rule.set()?;
                set.push(rule);
            }
        }
    }
    Ok(set)
}

/// The name of a program's variant, where the system has several, or of the program; `None` if it is not there.
fn variant(program: &str, variant: &str) -> Option<String> {
    [format!("{program}-{variant}"), program.to_owned()]
        .into_iter()
        .find(|name| run(name, &["--version"]).is_ok())
}

/// Reads what `nft list ruleset` prints. `program` names the program for a table of iptables.
fn in_ruleset(rules: &str, program: &dyn Fn(&str) -> Option<String>) -> Vec<Filter> {
    let mut filters = Vec::new();
    for table in rules
        .split("\ntable ")
        .map(|text| text.strip_prefix("table ").unwrap_or(text))
    {
        let mut lines = table.lines();
        let mut words = lines.next().unwrap_or_default().split_whitespace();
        let (Some(family), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let (mut chains, mut docker, mut ufw, mut drops) = (Vec::new(), false, false, false);
        let mut chain = "";
        for line in lines.map(str::trim) {
            if let Some(rest) = line.strip_prefix("chain ") {
                chain = rest.trim_end_matches(['{', ' ']);
                docker |= chain == DOCKER;
                ufw |= chain.starts_with("ufw") && chain.ends_with("-user-input");
            }
            let hook = match line.strip_prefix("type filter hook ") {
                Some(rest) if rest.starts_with("input ") => Some(Hook::Input),
                Some(rest) if rest.starts_with("forward ") => Some(Hook::Forward),
                _ => None,
            };
            chains.extend(hook.map(|hook| Chain {
                family: family.to_owned(),
                table: name.to_owned(),
                name: chain.to_owned(),
                hook,
            }));
            drops |= line
                .split([' ', ';', '"'])
                .any(|word| matches!(word, "drop" | "reject" | "DROP" | "REJECT"));
        }
        if !drops || chains.is_empty() || (family, name) == ("inet", "sennit") {
            continue;
        }
        let of_iptables = name == "filter"
            && chains
                .iter()
                .any(|chain| matches!(&chain.name[..], "INPUT" | "FORWARD"));
        let program = of_iptables
            .then(|| program(if family == "ip" { "iptables" } else { "ip6tables" }))
            .flatten();
        match (family, program) {
            _ if name == "firewalld" => filters.push(Filter::Firewalld),
            ("ip" | "ip6", Some(_)) if ufw => filters.push(Filter::Ufw),
            ("ip" | "ip6", Some(program)) => filters.push(Filter::Iptables {
                program,
                chains: chains
                    .iter()
                    .map(|chain| of_iptables_chain(&chain.name, docker))
                    .collect(),
            }),
            ("ip" | "ip6" | "inet", None) => filters.push(Filter::Nftables(chains)),
            _ => {}
        }
    }
    filters
}

fn of_iptables_chain(name: &str, docker: bool) -> String {
    if docker && name == "FORWARD" { DOCKER } else { name }.to_owned()
}

/// Reads what `iptables -S` prints.
fn in_legacy(listed: &str, program: String) -> Option<Filter> {
    let chain = |name: &str| listed.lines().any(|line| line.split(' ').eq(["-N", name]));
    let drops = listed
        .split_whitespace()
        .any(|word| matches!(word, "DROP" | "REJECT"));
    if !drops {
        None
    } else if chain("ufw-user-input") || chain("ufw6-user-input") {
        Some(Filter::Ufw)
    } else if chain("INPUT_ZONES") {
        Some(Filter::Firewalld)
    } else {
        let docker = chain(DOCKER);
        let chains = ["INPUT", "FORWARD"]
            .map(|name| of_iptables_chain(name, docker))
            .into();
        Some(Filter::Iptables { program, chains })
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::environment(format!("failed to run {}: {error}", line()), "run sennit as root")
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said
        .lines()
        .find(|line| !line.is_empty())
        .unwrap_or("no reason given");
    Err(Error::environment(
        format!("{} failed: {reason}", line()),
        "run it by hand to see more, or open the filter yourself and set open_filters = false",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULESET: &str = "\
table inet sennit {
\tchain forward {
\t\ttype filter hook forward priority -10; policy accept;
\t\tiifname \"sennit0\" ct state invalid drop
\t}
}
table inet mine {
\tchain incoming {
\t\ttype filter hook input priority filter; policy drop;
\t}
\tchain through {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
\tchain DOCKER-USER {
\t\tcounter packets 0 bytes 0 return
\t}
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t\tcounter packets 0 bytes 0 jump DOCKER-USER
\t}
}
table ip6 filter {
\tchain INPUT {
\t\ttype filter hook input priority filter; policy accept;
\t}
}
table inet firewalld {
\tchain filter_INPUT {
\t\ttype filter hook input priority filter + 10; policy accept;
\t\treject with icmpx admin-prohibited
\t}
}
table ip nat {
\tchain PREROUTING {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t}
}
";

    #[test]
    fn filters_that_drop_are_told_apart() {
        let found = in_ruleset(RULESET, &|program| Some(program.to_owned()));
        let names: Vec<_> = found.iter().map(Filter::name).collect();
        assert_eq!(names, ["nftables (inet mine)", "iptables (Docker)", "firewalld"]);
        let ufw = RULESET.replace("DOCKER-USER", "ufw-user-input");
        assert!(in_ruleset(&ufw, &|program| Some(program.to_owned())).contains(&Filter::Ufw));
        assert_eq!(in_ruleset("", &|program| Some(program.to_owned())), []);
    }

    #[test]
    fn each_chain_gets_what_it_needs() {
        let opening = Opening {
            tunnel: InterfaceName::default(),
            ports: [7300].into(),
        };
        let found = in_ruleset(RULESET, &|program| Some(program.to_owned()));
        let texts: Vec<_> = found
            .iter()
            .flat_map(|filter| rules(filter, &opening))
            .map(|rule| rule.text())
            .collect();
        assert_eq!(
            texts,
            [
                "nft inet mine incoming: iifname \"sennit0\"",
                "nft inet mine incoming: udp dport 7300",
                "nft inet mine through: iifname \"sennit0\"",
                "nft inet mine through: oifname \"sennit0\"",
                "iptables DOCKER-USER: -i sennit0",
                "iptables DOCKER-USER: -o sennit0",
            ]
        );
    }

    #[test]
    fn the_old_iptables_is_read() {
        let read = |text: &str| in_legacy(text, "iptables-legacy".to_owned());
        assert_eq!(read("-P INPUT ACCEPT\n-P FORWARD ACCEPT\n"), None);
        assert_eq!(
            read("-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n"),
            Some(Filter::Iptables {
                program: "iptables-legacy".to_owned(),
                chains: vec!["INPUT".to_owned(), DOCKER.to_owned()],
            })
        );
        assert_eq!(read("-P INPUT DROP\n-N ufw-user-input\n"), Some(Filter::Ufw));
    }
}
