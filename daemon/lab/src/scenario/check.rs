//! From what is written to what is meant: every value in its range, every name known.

use std::path::Path;

use super::raw::{RawBulk, RawCrowd, RawEvent, RawFlood, RawGoal, RawLink, RawProbe, RawScenario, RawShape};
use super::{
    Action, Bulk, Crowd, Event, Flood, Goal, Host, PageLoad, Probe, Scenario, Side, TRACES, Variant,
};
use crate::contestant::Kind;
use crate::emulator::Way;
use crate::item::ITEMS;
use crate::link::{Change, Jitter, Loss, Policer, Reorder, Service, Shape, Trace};
use crate::time::Nanos;
use crate::topology::MAX_WANS;
use crate::{Error, Result};

/// Both directions of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkShapes {
    /// From the client to the server.
    pub up: Shape,
    /// From the server to the client.
    pub down: Shape,
    /// A bond is told that its bytes cost money.
    pub metered: bool,
}

impl LinkShapes {
    /// One of the directions.
    pub fn way(&self, way: Way) -> &Shape {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

/// What is wrong, and where.
type Wrong = (String, String);

pub(super) fn scenario(name: &str, text: &str, folder: &Path) -> Result<Scenario> {
    let raw: RawScenario = toml::from_str(text).map_err(|error| {
        Error::user(
            format!("scenario {name}: {}", error.to_string().trim_end()),
            "see docs/lab.md",
        )
    })?;
    checked(name, raw, folder).map_err(|(place, wrong)| {
        Error::user(format!("scenario {name}, {place}: {wrong}"), "see docs/lab.md")
    })
}

fn checked(name: &str, raw: RawScenario, folder: &Path) -> Result<Scenario, Wrong> {
    if raw.link.is_empty() || raw.link.len() > MAX_WANS {
        return Err(("link".into(), format!("1 to {MAX_WANS} are needed")));
    }
    within("seconds", raw.seconds, 0.5, 86_400.0)?;
    within("settle", raw.settle, 0.0, 3600.0)?;
    if raw.repeat == 0 {
        return Err(("repeat".into(), "must be at least 1".into()));
    }
    if raw.item > ITEMS.len() {
        return Err(("item".into(), format!("there are {}", ITEMS.len())));
    }
    let count = raw.link.len();
    let links: Result<Vec<_>, Wrong> = raw
        .link
        .iter()
        .enumerate()
        .map(|(at, link)| shapes(at, link, folder))
        .collect();
    let bulks: Result<Vec<_>, Wrong> = raw.bulk.iter().map(|bulk| self::bulk(bulk, count)).collect();
    let probes: Result<Vec<_>, Wrong> = raw.probe.iter().map(|probe| self::probe(probe, count)).collect();
    let pages: Result<Vec<_>, Wrong> = raw
        .page
        .iter()
        .map(|page| {
            Ok(PageLoad {
                start: Nanos::from_secs(page.start),
                host: host("page", page.from.as_deref(), count)?,
            })
        })
        .collect();
    let floods: Result<Vec<_>, Wrong> = raw.flood.into_iter().map(flood).collect();
    let events: Result<Vec<_>, Wrong> = raw.event.iter().map(|event| self::event(event, count)).collect();
    let goals: Result<Vec<_>, Wrong> = raw.goal.into_iter().map(goal).collect();
    let mut contestants = Vec::new();
    for contestant in &raw.contestants {
        contestants.push(Kind::parse(contestant).ok_or_else(|| {
            (
                "contestants".to_owned(),
                format!("{contestant} is unknown; known are {}", Kind::names()),
            )
        })?);
    }
    if contestants.is_empty() {
        contestants = vec![Kind::Direct, Kind::Sennit];
    }
    let mut variants = Vec::new();
    for direction in &raw.directions {
        for congestion in &raw.congestion {
            for flows in &raw.flows {
                within("flows", *flows as f64, 1.0, 1000.0)?;
                variants.extend(raw.modes.iter().map(|mode| (direction, congestion, *flows, mode)));
            }
        }
    }
    let variants: Result<Vec<_>, Wrong> = variants
        .into_iter()
        .map(|(direction, congestion, flows, mode)| {
            Ok(Variant {
                way: way("directions", direction)?,
                congestion: self::congestion("congestion", congestion)?,
                mode: mode.clone(),
                flows,
            })
        })
        .collect();
    let variants = variants?;
    if variants.is_empty() {
        return Err((
            "directions".into(),
            "directions, congestion, flows and modes need at least one entry each".into(),
        ));
    }
    let mut events = events?;
    events.sort_by_key(|event| event.at);
    Ok(Scenario {
        name: name.to_owned(),
        title: raw.title,
        about: raw.about,
        seconds: raw.seconds,
        settle: raw.settle,
        repeat: raw.repeat,
        bench: raw.bench,
        item: raw.item,
        bare: raw.bare,
        contestants,
        variants,
        links: links?,
        bulks: bulks?,
        probes: probes?,
        pages: pages?,
        floods: floods?,
        crowd: raw.crowd.map(crowd).transpose()?,
        events,
        goals: goals?,
    })
}

fn shapes(at: usize, raw: &RawLink, folder: &Path) -> Result<LinkShapes, Wrong> {
    let shape =
        |raw: RawShape, way: &str| shape(&raw, folder).map_err(|wrong| (format!("link {at} {way}"), wrong));
    Ok(LinkShapes {
        up: shape(raw.both.overlaid(&raw.up), "up")?,
        down: shape(raw.both.overlaid(&raw.down), "down")?,
        metered: raw.metered,
    })
}

fn shape(raw: &RawShape, folder: &Path) -> Result<Shape, String> {
    let inside = |key: &str, value: Option<f64>, low: f64, high: f64| match value {
        Some(value) if !(low..=high).contains(&value) => {
            Err(format!("{key} = {value} is not within {low} to {high}"))
        }
        other => Ok(other),
    };
    let millis = |key: &str, value: Option<f64>| {
        inside(key, value, 0.0, 60_000.0).map(|value| value.map(Nanos::from_millis))
    };
    let bytes = |key: &str, value: Option<f64>| {
        Ok::<_, String>(inside(key, value, 0.0, 1e7)?.map(|kilobytes| (kilobytes * 1000.0) as u64))
    };
    let service = match (inside("rate", raw.rate, 0.001, 100_000.0)?, &raw.trace) {
        (Some(_), Some(_)) => return Err("rate and trace exclude one another".into()),
        (Some(rate), None) => Service::Rate((rate * 1e6) as u64),
        (None, Some(name)) => Service::Trace(trace(name, folder)?),
        (None, None) => Service::Unlimited,
    };
    let loss = match (
        inside("loss", raw.loss, 0.0, 1.0)?,
        inside("burst", raw.burst, 1.0, 1e6)?,
    ) {
        (None, None) => Loss::None,
        (Some(share), None) => Loss::Random(share),
        (Some(share), Some(length)) => Loss::Burst { share, length },
        (None, Some(_)) => return Err("burst needs a loss".into()),
    };
    let memory = millis("jitter_memory_ms", raw.jitter_memory_ms)?;
    let jitter = match (
        millis("jitter_ms", raw.jitter_ms)?,
        millis("grant_ms", raw.grant_ms)?,
    ) {
        (Some(_), Some(_)) => return Err("jitter_ms and grant_ms exclude one another".into()),
        (Some(spread), None) => Jitter::Wander {
            spread,
            memory: memory.unwrap_or(Nanos::from_millis(50.0)),
        },
        (None, Some(every)) => Jitter::Grants { every },
        (None, None) if memory.is_some() => return Err("jitter_memory_ms needs a jitter_ms".into()),
        (None, None) => Jitter::None,
    };
    let reorder = match (
        inside("reorder", raw.reorder, 0.0, 1.0)?,
        millis("reorder_ms", raw.reorder_ms)?,
    ) {
        (Some(share), Some(by)) => Some(Reorder { share, by }),
        (None, None) => None,
        _ => return Err("reorder and reorder_ms belong together".into()),
    };
    let policer = match (
        inside("policer_rate", raw.policer_rate, 0.001, 100_000.0)?,
        bytes("policer_kb", raw.policer_kb)?,
    ) {
        (Some(rate), burst) => Some(Policer {
            rate: (rate * 1e6) as u64,
            burst_bytes: burst.unwrap_or(50_000),
        }),
        (None, None) => None,
        (None, Some(_)) => return Err("policer_kb needs a policer_rate".into()),
    };
    Ok(Shape {
        service,
        delay: millis("delay_ms", raw.delay_ms)?.unwrap_or_default(),
        queue_bytes: bytes("queue_kb", raw.queue_kb)?.unwrap_or(250_000),
        loss,
        jitter,
        reorder,
        duplicate: inside("duplicate", raw.duplicate, 0.0, 1.0)?.unwrap_or(0.0),
        policer,
    })
}

/// A shipped trace by its name, or a file.
fn trace(name: &str, folder: &Path) -> Result<Trace, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("trace {name}: {error}");
    if let Some((_, text)) = TRACES.iter().find(|(shipped, _)| *shipped == name) {
        return Trace::parse(text).map_err(|error| wrong(&error));
    }
    let text = std::fs::read_to_string(folder.join(name)).map_err(|error| wrong(&error))?;
    Trace::parse(&text).map_err(|error| wrong(&error))
}

fn bulk(raw: &RawBulk, links: usize) -> Result<Bulk, Wrong> {
    raw.flows
        .map_or(Ok(()), |flows| within("bulk: flows", flows as f64, 1.0, 1000.0))?;
    Ok(Bulk {
        flows: raw.flows,
        way: raw
            .direction
            .as_deref()
            .map(|direction| way("bulk", direction))
            .transpose()?,
        congestion: raw
            .congestion
            .as_deref()
            .map(|name| congestion("bulk", name))
            .transpose()?,
        start: Nanos::from_secs(raw.start),
        host: host("bulk", raw.from.as_deref(), links)?,
    })
}

fn probe(raw: &RawProbe, links: usize) -> Result<Probe, Wrong> {
    let place = format!("probe {}", raw.name);
    within(
        &format!("{place}: per_second"),
        f64::from(raw.per_second),
        1.0,
        20_000.0,
    )?;
    within(&format!("{place}: bytes"), raw.bytes as f64, 16.0, 1400.0)?;
    Ok(Probe {
        name: raw.name.clone(),
        per_second: raw.per_second,
        bytes: raw.bytes,
        start: Nanos::from_secs(raw.start),
        host: host(&place, raw.from.as_deref(), links)?,
    })
}

fn flood(raw: RawFlood) -> Result<Flood, Wrong> {
    within("flood: bytes", raw.bytes as f64, 8.0, 1400.0)?;
    for rate in &raw.per_second {
        within("flood: per_second", f64::from(*rate), 1.0, 2e6)?;
    }
    if raw.per_second.is_empty() {
        return Err(("flood: per_second".into(), "needs a rate".into()));
    }
    Ok(Flood {
        bytes: raw.bytes,
        per_second: raw.per_second,
    })
}

fn crowd(raw: RawCrowd) -> Result<Crowd, Wrong> {
    within("crowd: each", raw.each, 0.001, 10_000.0)?;
    within("crowd: bytes", raw.bytes as f64, 16.0, 1400.0)?;
    within(
        "crowd: hostile_per_second",
        f64::from(raw.hostile_per_second),
        0.0,
        1e6,
    )?;
    Ok(Crowd {
        each: raw.each,
        bytes: raw.bytes,
        hostile_per_second: raw.hostile_per_second,
    })
}

fn event(raw: &RawEvent, links: usize) -> Result<Event, Wrong> {
    let place = format!("event at {}", raw.at);
    let wrong = |text: &str| (place.clone(), text.to_owned());
    let link = || match raw.link {
        Some(link) if link < links => Ok(link),
        Some(link) => Err(wrong(&format!("there is no link {link}; the first is 0"))),
        None => Err(wrong("needs a link")),
    };
    let value = |what: &str| {
        raw.value
            .filter(|value| *value >= 0.0)
            .ok_or_else(|| wrong(&format!("needs a value: {what}")))
    };
    let change = |change: Change| {
        let ways = match raw.way.as_deref() {
            None | Some("both") => vec![Way::Up, Way::Down],
            Some(other) => vec![way(&place, other)?],
        };
        Ok::<_, Wrong>(Action::Change {
            link: link()?,
            ways,
            change,
        })
    };
    let action = match raw.action.as_str() {
        "silence" => change(Change::Silence)?,
        "heal" => change(Change::Heal)?,
        "rate" => change(Change::Rate((value("Mbit/s")? * 1e6) as u64))?,
        "delay" => change(Change::Delay(Nanos::from_millis(value("ms")?)))?,
        "loss" => change(Change::Loss(Loss::Random(value("share, 0 to 1")?.min(1.0))))?,
        "unplug" => Action::Plug {
            link: link()?,
            plugged: false,
        },
        "plug" => Action::Plug {
            link: link()?,
            plugged: true,
        },
        "kill-client" => Action::Kill(Side::Client),
        "kill-server" => Action::Kill(Side::Server),
        "restart-client" => Action::Restart(Side::Client),
        "restart-server" => Action::Restart(Side::Server),
        other => {
            return Err(wrong(&format!(
                "{other} is unknown; known are silence, heal, rate, delay, loss, unplug, plug, kill-client, \
                 kill-server, restart-client, restart-server"
            )));
        }
    };
    Ok(Event {
        at: Nanos::from_secs(raw.at),
        action,
    })
}

fn goal(raw: RawGoal) -> Result<Goal, Wrong> {
    if raw.at_least.is_none() && raw.at_most.is_none() {
        return Err((
            format!("goal for {}", raw.measure),
            "needs at_least or at_most".into(),
        ));
    }
    Ok(Goal {
        measure: raw.measure,
        contestant: raw.contestant.unwrap_or_else(|| Kind::Sennit.name().to_owned()),
        mode: raw.mode,
        way: raw
            .direction
            .as_deref()
            .map(|direction| way("goal", direction))
            .transpose()?,
        relative_congestion: raw
            .relative_congestion
            .as_deref()
            .map(|name| congestion("goal", name))
            .transpose()?,
        relative_to: raw.relative_to,
        minus: raw.minus,
        at_least: raw.at_least,
        at_most: raw.at_most,
    })
}

fn way(place: &str, text: &str) -> Result<Way, Wrong> {
    match text {
        "up" => Ok(Way::Up),
        "down" => Ok(Way::Down),
        other => Err((place.to_owned(), format!("{other} is neither up nor down"))),
    }
}

fn congestion(place: &str, name: &str) -> Result<String, Wrong> {
    // A name that the kernel does not have is an error of the machine, found when the flow starts.
    let plain = !name.is_empty()
        && name.len() < 16
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain {
        Ok(name.to_owned())
    } else {
        Err((place.to_owned(), format!("{name} is no congestion control")))
    }
}

fn host(place: &str, from: Option<&str>, links: usize) -> Result<Host, Wrong> {
    let neighbour = |text: &str| {
        text.strip_prefix("neighbour")?
            .parse()
            .ok()
            .filter(|wan| *wan < links)
    };
    match from {
        None | Some("client") => Ok(Host::Client),
        Some("lan") => Ok(Host::Lan),
        Some(text) => neighbour(text).map(Host::Neighbour).ok_or_else(|| {
            (
                place.to_owned(),
                format!("from = {text} is none of client, lan, neighbour0, neighbour1, …"),
            )
        }),
    }
}

fn within(place: &str, value: f64, low: f64, high: f64) -> Result<(), Wrong> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err((place.to_owned(), format!("{value} is not within {low} to {high}")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::SHIPPED;

    fn parse(text: &str) -> Result<Scenario> {
        Scenario::parse("test", text, Path::new("."))
    }

    #[test]
    fn all_shipped_scenarios_are_in_order_and_none_is_forgotten() {
        assert_eq!(Scenario::all().expect("they parse").len(), SHIPPED.len());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        assert_eq!(
            std::fs::read_dir(folder).expect("readable").count(),
            SHIPPED.len()
        );
    }

    #[test]
    fn errors_name_the_place_and_what_would_be_right() {
        let link = "title = \"x\"\n[[link]]\nboth = { rate = 1 }\n";
        for (text, wrong) in [
            ("title = \"x\"\n", "link: 1 to 16 are needed"),
            (
                &format!("{link}[[bulk]]\nfrom = \"moon\"\n"),
                "bulk: from = moon is none of client, lan, neighbour0",
            ),
            (
                &format!("{link}[[event]]\nat = 1.0\nlink = 1\naction = \"heal\"\n"),
                "there is no link 1; the first is 0",
            ),
            (
                &format!("{link}[[goal]]\nmeasure = \"x\"\n"),
                "needs at_least or at_most",
            ),
            (
                "title = \"x\"\n[[link]]\nboth = { rate = 1, burst = 2 }\n",
                "link 0 up: burst needs a loss",
            ),
            (
                "title = \"x\"\n[[link]]\nboth = { rat = 1 }\n",
                "unknown field `rat`",
            ),
        ] {
            let error = parse(text).expect_err("wrong on purpose").to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn the_ideal_counts_loss_and_headers() {
        let scenario = parse(
            "title = \"x\"\n[[link]]\nboth = { rate = 50, loss = 0.01 }\nup = { rate = 2 }\n[[link]]\nboth = { rate = 50 }\n",
        )
        .expect("right");
        assert!((scenario.ideal(Way::Down) - 99.5 * 1448.0 / 1514.0).abs() < 1e-6);
        assert!((scenario.ideal(Way::Up) - 51.98 * 1448.0 / 1514.0).abs() < 1e-6);
    }
}
