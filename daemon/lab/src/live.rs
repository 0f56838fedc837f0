//! `sennit-lab live`: one download over three emulated WANs, of which one dies on the way, to look at.

use std::fmt::Write as _;

use crate::Result;
use crate::contestant::Kind;
use crate::run::Moment;
use crate::scenario::Scenario;
use crate::series::ScenarioReport;
use crate::topology::wan_interface;
use crate::verdict::Standing;

/// Columns of a bar.
const BAR: usize = 40;
/// Moments that a line of history shows.
const HISTORY: usize = 50;
/// Heights of a moment in that line.
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is run: the shipped scenario, its events moved to fit the length.
pub fn scenario(seconds: f64, contestant: Kind) -> Result<Scenario> {
    let mut scenario = Scenario::find("live")?;
    let factor = seconds / scenario.seconds;
    for event in &mut scenario.events {
        event.at = crate::time::Nanos((event.at.0 as f64 * factor) as u64);
    }
    scenario.seconds = seconds;
    scenario.contestants = vec![contestant];
    // Goals are about a bond; without one there is only something to look at.
    scenario.goals.retain(|goal| goal.contestant == contestant.name());
    Ok(scenario)
}

/// What is about to happen.
pub fn introduction(scenario: &Scenario, contestant: Kind) -> String {
    let mut text = format!("{} (carried by {})\n", scenario.title, contestant.name());
    for (wan, link) in scenario.links.iter().enumerate() {
        let rate = rate_of(scenario, wan);
        let _ = writeln!(
            text,
            "  {}  {rate:>5.0} Mbit/s, {:.0} ms",
            wan_interface(wan),
            link.down.delay.millis()
        );
    }
    for event in &scenario.events {
        let _ = writeln!(
            text,
            "  after {:.0} s: {}",
            event.at.secs(),
            crate::run::describe(&event.action)
        );
    }
    text.push('\n');
    text
}

fn rate_of(scenario: &Scenario, wan: usize) -> f64 {
    let span = crate::time::Nanos::from_secs(scenario.seconds);
    scenario.links[wan].down.service.mean_rate(span) / 1e6
}

/// The view: a few lines drawn over and over on a terminal, or one line a second elsewhere.
#[derive(Debug)]
pub struct View {
    rates: Vec<f64>,
    seconds: f64,
    terminal: bool,
    drawn: usize,
    last: Option<(f64, Vec<u64>, u64)>,
    last_line: f64,
    events_told: usize,
    history: Vec<Vec<f64>>,
}

impl View {
    /// A view of that scenario.
    pub fn new(scenario: &Scenario, terminal: bool) -> Self {
        let rates: Vec<f64> = (0..scenario.links.len())
            .map(|wan| rate_of(scenario, wan))
            .collect();
        Self {
            history: vec![Vec::new(); rates.len() + 1],
            rates,
            seconds: scenario.seconds,
            terminal,
            drawn: 0,
            last: None,
            last_line: f64::NEG_INFINITY,
            events_told: 0,
        }
    }

    /// What to print at this moment.
    pub fn draw(&mut self, moment: &Moment<'_>) -> String {
        let (at, wans, received) = self
            .last
            .replace((moment.at, moment.wans.clone(), moment.received))
            .unwrap_or_default();
        let span = (moment.at - at).max(0.05);
        let megabits = |now: u64, before: u64| now.saturating_sub(before) as f64 * 8.0 / 1e6 / span;
        let mut rates: Vec<f64> = moment
            .wans
            .iter()
            .enumerate()
            .map(|(wan, bytes)| megabits(*bytes, wans.get(wan).copied().unwrap_or(0)))
            .collect();
        rates.push(megabits(moment.received, received));
        for (history, rate) in self.history.iter_mut().zip(&rates) {
            history.push(*rate);
        }
        if self.terminal {
            self.picture(moment, &rates)
        } else {
            self.line(moment, &rates)
        }
    }

    fn picture(&mut self, moment: &Moment<'_>, rates: &[f64]) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        let total: f64 = self.rates.iter().sum();
        let mut lines = Vec::new();
        for (index, rate) in rates.iter().enumerate() {
            let (name, most) = match self.rates.get(index) {
                Some(most) => (wan_interface(index), *most),
                None => ("download".to_owned(), total),
            };
            let filled = ((rate / most * BAR as f64).round() as usize).min(BAR);
            let bar: String = "█".repeat(filled) + &"·".repeat(BAR - filled);
            let history = &self.history[index];
            let recent = &history[history.len().saturating_sub(HISTORY)..];
            let height = |rate: &f64| HEIGHTS[((rate / most * 8.0).round() as usize).min(8)];
            lines.push(format!(
                "{name:<9} {bar} {rate:>6.1} Mbit/s  {}",
                recent.iter().map(height).collect::<String>()
            ));
        }
        let trip = moment
            .round_trip
            .map_or("no answer yet".to_owned(), |trip| format!("{trip:.0} ms"));
        lines.push(format!("ping      {trip}"));
        let last = moment
            .events
            .last()
            .map_or(String::new(), |(at, what)| format!("after {at:.1} s: {what}"));
        lines.push(format!(
            "{:>5.1} of {:.0} s  {last}",
            moment.at.min(self.seconds),
            self.seconds
        ));
        self.drawn = lines.len();
        for line in lines {
            let _ = writeln!(text, "\x1b[2K{line}");
        }
        text
    }

    fn line(&mut self, moment: &Moment<'_>, rates: &[f64]) -> String {
        let mut text = String::new();
        for (at, what) in moment.events.iter().skip(self.events_told) {
            let _ = writeln!(text, "{at:>5.1} s  {what}");
        }
        self.events_told = moment.events.len();
        if moment.at - self.last_line < 0.95 {
            return text;
        }
        self.last_line = moment.at;
        let (wans, download) = rates.split_at(self.rates.len());
        let wans: Vec<String> = wans
            .iter()
            .enumerate()
            .map(|(wan, rate)| format!("{} {rate:>5.1}", wan_interface(wan)))
            .collect();
        let trip = moment
            .round_trip
            .map_or(String::new(), |trip| format!("  ping {trip:.0} ms"));
        let _ = writeln!(
            text,
            "{:>5.1} s  download {:>6.1} Mbit/s  ({}){trip}",
            moment.at,
            download.first().copied().unwrap_or(0.0),
            wans.join(", ")
        );
        text
    }
}

/// How it went, in sentences.
pub fn verdict(report: &ScenarioReport) -> String {
    let mut text = String::from("\n");
    for entry in report.entries.iter().filter(|entry| entry.runs > 0) {
        let value = |name: &str| entry.value(name);
        if let (Some(goodput), Some(pause)) = (value("goodput"), value("longest_zero")) {
            let _ = writeln!(
                text,
                "{}: {goodput:.1} Mbit/s over the whole time; the download's longest pause was {pause:.0} ms.",
                entry.contestant
            );
        }
        if let (Some(lost), Some(sent), Some(gap)) =
            (value("ping.lost"), value("ping.sent"), value("ping.gap_down"))
        {
            let _ = writeln!(
                text,
                "  {lost:.0} of {sent:.0} pings were lost; the longest wait between two answers was {gap:.0} ms."
            );
        }
    }
    for entry in &report.entries {
        let mut reasons = entry.invalid.clone();
        reasons.dedup();
        reasons.iter().for_each(|reason| {
            let _ = writeln!(text, "not valid: {reason}");
        });
    }
    for verdict in &report.verdicts {
        let value = verdict
            .value
            .map_or("not measured".to_owned(), crate::report::number);
        let stands = match verdict.standing {
            Standing::Reached => "reached",
            Standing::Missed => "MISSED",
            Standing::Unknown => "unknown",
        };
        let _ = writeln!(text, "{stands}: {} ({value})", verdict.goal());
    }
    if !report.verdicts.is_empty()
        && report
            .verdicts
            .iter()
            .all(|verdict| verdict.standing == Standing::Reached)
    {
        text.push_str("The WAN died, and nobody who used the bond could tell.\n");
    }
    text
}
