//! Scenarios: links, traffic, events and goals, declared in TOML and checked here.

mod check;
mod raw;
mod shipped;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use check::LinkShapes;
pub use shipped::{SHIPPED, TRACES};

use crate::contestant::Kind;
use crate::emulator::Way;
use crate::link::Change;
use crate::time::Nanos;
use crate::{Error, Result};

/// A scenario, checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name: that of its file.
    pub name: String,
    /// One line.
    pub title: String,
    /// What is measured and why, for people.
    pub about: String,
    /// Length of each run.
    pub seconds: f64,
    /// Time between the contestant's start and that of the run, beside what starting takes.
    pub settle: f64,
    /// Runs of each contestant.
    pub repeat: u32,
    /// Whether `bench` runs it.
    pub bench: bool,
    /// The number of the benchmark's item that it is about, see [`crate::item`]; 0 is none.
    pub item: usize,
    /// Without emulator, see [`crate::topology::Plan::bare`].
    pub bare: bool,
    /// Who takes part.
    pub contestants: Vec<Kind>,
    /// All combinations to run.
    pub variants: Vec<Variant>,
    /// The links.
    pub links: Vec<LinkShapes>,
    /// Bulk transfers.
    pub bulks: Vec<Bulk>,
    /// Probes.
    pub probes: Vec<Probe>,
    /// Page loads.
    pub pages: Vec<PageLoad>,
    /// Floods of datagrams.
    pub floods: Vec<Flood>,
    /// Many clients of one server, instead of a contestant and its traffic.
    pub crowd: Option<Crowd>,
    /// What happens on the way, in the order of time.
    pub events: Vec<Event>,
    /// What is to be reached.
    pub goals: Vec<Goal>,
}

/// One combination of what a scenario varies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    /// Which way bulk flows go.
    pub way: Way,
    /// Their congestion control.
    pub congestion: String,
    /// The mode of a bond.
    pub mode: String,
    /// How many bulk flows at once.
    pub flows: usize,
}

impl Variant {
    /// Whether two differ in nothing but the mode, which means something to a bond only.
    pub fn alike(&self, other: &Self) -> bool {
        (self.way, &self.congestion, self.flows) == (other.way, &other.congestion, other.flows)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.way == Way::Up { "up" } else { "down" };
        write!(f, "{way} {} {}", self.congestion, self.mode)?;
        if self.flows > 1 {
            write!(f, " {} flows", self.flows)
        } else {
            Ok(())
        }
    }
}

/// Which host sends or receives at the clients' side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// The machine on which the contestant's client runs.
    #[default]
    Client,
    /// A host behind it.
    Lan,
    /// A host beside it on this WAN, which does not use the contestant.
    Neighbour(usize),
}

/// Bulk transfers of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Bulk {
    /// Flows at once; those of the variant if none.
    pub flows: Option<usize>,
    /// Which way; that of the variant if none.
    pub way: Option<Way>,
    /// Congestion control; that of the variant if none.
    pub congestion: Option<String>,
    /// When it begins.
    pub start: Nanos,
    /// Whose it is.
    pub host: Host,
}

/// A probe of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What its measures are called.
    pub name: String,
    /// Datagrams a second.
    pub per_second: u32,
    /// Payload of each.
    pub bytes: usize,
    /// When it begins.
    pub start: Nanos,
    /// Whose it is.
    pub host: Host,
}

/// Datagrams of a scenario at rising rates, from the client's own host.
#[derive(Clone, Debug, PartialEq)]
pub struct Flood {
    /// Payload of each.
    pub bytes: usize,
    /// Rates, each for an equal part of the run.
    pub per_second: Vec<u32>,
}

/// Many clients of one server, as many as the variant has flows, each with a path over every WAN.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    /// Payload that is offered to each of them, in Mbit/s.
    pub each: f64,
    /// Payload of each datagram.
    pub bytes: usize,
    /// Initiations of strangers in the last two thirds of the run.
    pub hostile_per_second: u32,
}

/// Page loads of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageLoad {
    /// When they begin.
    pub start: Nanos,
    /// Whose they are.
    pub host: Host,
}

/// Something that happens during a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, after the start.
    pub at: Nanos,
    /// What.
    pub action: Action,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A link changes, without anybody being told.
    Change {
        /// Which link.
        link: usize,
        /// Which ways.
        ways: Vec<Way>,
        /// How.
        change: Change,
    },
    /// The plug of a WAN is pulled or put in: its carrier goes or comes.
    Plug {
        /// Which link.
        link: usize,
        /// In or out.
        plugged: bool,
    },
    /// The contestant's client or server is killed (SIGKILL).
    Kill(Side),
    /// It is started again.
    Restart(Side),
}

/// An end of a contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At the WANs.
    Client,
    /// At the public address.
    Server,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// What a scenario wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Name of the measure.
    pub measure: String,
    /// Whose.
    pub contestant: String,
    /// Only in this mode, if one is named.
    pub mode: Option<String>,
    /// Only where bulk transfers go this way, if one is named.
    pub way: Option<Way>,
    /// The same measure of another contestant, by which it is divided; `ideal` is what the links can carry, and
    /// `fewest flows` is the same contestant with as few flows as any variant has.
    pub relative_to: Option<String>,
    /// The congestion control that this other contestant ran, if not that of the variant.
    pub relative_congestion: Option<String>,
    /// Another measure of the same run, which is subtracted.
    pub minus: Option<String>,
    /// Lower limit.
    pub at_least: Option<f64>,
    /// Upper limit.
    pub at_most: Option<f64>,
}

impl Scenario {
    /// The scenario of that name, or in that file.
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text, Path::new("."));
        }
        let path = Path::new(name);
        if path.extension().is_none_or(|extension| extension != "toml") {
            let near = SHIPPED
                .iter()
                .map(|(shipped, _)| *shipped)
                .find(|shipped| shipped.contains(name));
            let hint = match near {
                Some(near) => format!("did you mean {near}? `sennit-lab list` shows all"),
                None => "`sennit-lab list` shows all; a file of your own ends in .toml".to_owned(),
            };
            return Err(Error::user(format!("no scenario is called {name}"), hint));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::user(format!("failed to read {name}: {error}"), "check the path"))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&stem, &text, path.parent().unwrap_or(Path::new(".")))
    }

    /// All that are shipped.
    pub fn all() -> Result<Vec<Self>> {
        SHIPPED
            .iter()
            .map(|(name, text)| Self::parse(name, text, Path::new(".")))
            .collect()
    }

    /// Parses TOML; traces that are files are looked for in `folder`.
    pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Self> {
        check::scenario(name, text, folder)
    }

    /// What the links can carry one way, in Mbit/s of TCP payload: Σ rate · (1 − loss) · 1448/1514, rates counted
    /// in bytes of frames.
    pub fn ideal(&self, way: Way) -> f64 {
        (0..self.links.len()).map(|link| self.ideal_of(link, way)).sum()
    }

    /// The same of one link.
    pub fn ideal_of(&self, link: usize, way: Way) -> f64 {
        let shape = self.links[link].way(way);
        let rate = shape.service.mean_rate(Nanos::from_secs(self.seconds));
        let rate = shape
            .policer
            .map_or(rate, |policer| rate.min(policer.rate as f64));
        rate * (1.0 - shape.loss.share()) * 1448.0 / 1514.0 / 1e6
    }

    /// What the links carry against that way, in Mbit/s of frames; infinite if one has no limit.
    pub fn capacity_against(&self, way: Way) -> f64 {
        let shape = |link: &LinkShapes| match way {
            Way::Up => link.down.clone(),
            Way::Down => link.up.clone(),
        };
        let span = Nanos::from_secs(self.seconds);
        let rates = self.links.iter().map(|link| shape(link).service.mean_rate(span));
        rates.sum::<f64>() / 1e6
    }

    /// Whether the machine and not its links limits what is seen, or its processor or memory is what is looked at: such
    /// a scenario cannot be measured beside another one.
    pub fn wants_the_machine(&self) -> bool {
        /// Emulated rates below take a sixth of a small machine, in Mbit/s.
        const MOST: f64 = 160.0;
        let fast = [Way::Up, Way::Down]
            .iter()
            .any(|way| self.capacity_against(*way) > MOST);
        let of_the_machine = |goal: &Goal| {
            ["cpu", "memory", "bond.instructions"]
                .iter()
                .any(|start| goal.measure.starts_with(start))
        };
        self.bare || fast || self.crowd.is_some() || self.goals.iter().any(of_the_machine)
    }

    /// WANs with neighbours on them.
    pub fn neighbours(&self) -> Vec<usize> {
        let hosts = self
            .bulks
            .iter()
            .map(|bulk| bulk.host)
            .chain(self.probes.iter().map(|probe| probe.host));
        let hosts = hosts.chain(self.pages.iter().map(|page| page.host));
        let mut wans: Vec<usize> = hosts
            .filter_map(|host| match host {
                Host::Neighbour(wan) => Some(wan),
                Host::Client | Host::Lan => None,
            })
            .collect();
        wans.sort_unstable();
        wans.dedup();
        wans
    }

    /// Whether a LAN host takes part.
    pub fn uses_lan(&self) -> bool {
        self.bulks.iter().any(|bulk| bulk.host == Host::Lan)
            || self.probes.iter().any(|probe| probe.host == Host::Lan)
    }
}
