//! Packet-delivery traces in Mahimahi's format: one line a delivery opportunity, its time in milliseconds; the
//! trace repeats after its last line. Here an opportunity carries one full frame of 1514 bytes, Ethernet header
//! included, so that the capacity of a trace counts as that of any other link.

use std::fmt;
use std::sync::Arc;

use crate::time::Nanos;

/// Bytes of frames that one opportunity carries.
pub(super) const OPPORTUNITY: u32 = 1514;

/// A trace, shared by the links that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Times of the opportunities in milliseconds, not descending, each at most the period.
    opportunities: Arc<[u32]>,
}

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// Line number from 1; 0 if it is about the whole text.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.reason),
            line => write!(f, "line {line}: {}", self.reason),
        }
    }
}

/// What a trace is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceStatistics {
    /// Mean rate in bits per second.
    pub mean: f64,
    /// Rate that nine tenths of all windows of 500 ms exceed.
    pub p10: f64,
    /// Rate that one tenth of them exceed.
    pub p90: f64,
    /// Pauses of 200 ms and more, per minute.
    pub stalls_per_minute: f64,
    /// The longest pause.
    pub longest_pause: Nanos,
}

impl Trace {
    /// Parses Mahimahi's format.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut opportunities = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let error = |reason| TraceError {
                line: number + 1,
                reason,
            };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let time: u32 = line
                .parse()
                .map_err(|_| error("not a whole number of milliseconds"))?;
            if opportunities.last().is_some_and(|last| *last > time) {
                return Err(error("earlier than the line before"));
            }
            opportunities.push(time);
        }
        Self::new(opportunities)
    }

    /// From times in milliseconds, not descending.
    pub(super) fn new(opportunities: Vec<u32>) -> Result<Self, TraceError> {
        match opportunities.last() {
            None => Err(TraceError {
                line: 0,
                reason: "no delivery opportunity",
            }),
            Some(0) => Err(TraceError {
                line: 0,
                reason: "the last line is 0: the trace would have no length",
            }),
            Some(_) => Ok(Self {
                opportunities: opportunities.into(),
            }),
        }
    }

    /// After what time it repeats.
    pub fn period(&self) -> Nanos {
        Nanos(u64::from(self.opportunities.last().copied().unwrap_or(1)) * 1_000_000)
    }

    /// Time of the opportunity with this number, counted over all repetitions, from the start of the trace.
    pub(super) fn time(&self, number: u64) -> Nanos {
        let count = self.opportunities.len() as u64;
        let within = u64::from(self.opportunities[(number % count) as usize]) * 1_000_000;
        Nanos(number / count * self.period().0 + within)
    }

    /// The first opportunity at or after a time since the start.
    pub(super) fn first_at(&self, time: Nanos) -> u64 {
        let rounds = time.0 / self.period().0;
        // One opportunity may lie exactly at the end of the round before.
        let rounds = if time.0.is_multiple_of(self.period().0) && rounds > 0 {
            rounds - 1
        } else {
            rounds
        };
        let within = time.0 - rounds * self.period().0;
        let index = self
            .opportunities
            .partition_point(|at| u64::from(*at) * 1_000_000 < within);
        rounds * self.opportunities.len() as u64 + index as u64
    }

    /// Bits that it could carry within a span, from its start on.
    pub fn capacity(&self, span: Nanos) -> f64 {
        self.first_at(span) as f64 * f64::from(OPPORTUNITY) * 8.0
    }

    /// The lines of the file.
    pub fn to_text(&self) -> String {
        self.opportunities
            .iter()
            .map(|time| format!("{time}\n"))
            .collect()
    }

    /// Its statistics in a line.
    pub fn describe(&self) -> String {
        let statistics = self.statistics();
        format!(
            "mean {:.1} Mbit/s, p10 {:.1}, p90 {:.1} (ratio {:.1}), {:.1} stalls of 200 ms or more a minute, longest \
             pause {:.0} ms, repeats after {:.0} s",
            statistics.mean / 1e6,
            statistics.p10 / 1e6,
            statistics.p90 / 1e6,
            statistics.p90 / statistics.p10,
            statistics.stalls_per_minute,
            statistics.longest_pause.millis(),
            self.period().secs()
        )
    }

    /// What it is like.
    pub fn statistics(&self) -> TraceStatistics {
        const WINDOW: u32 = 500;
        let period = self.opportunities.last().copied().unwrap_or(1);
        let bits = f64::from(OPPORTUNITY) * 8.0;
        let mut windows = vec![0.0; (period / WINDOW).max(1) as usize];
        let mut before = 0;
        let (mut stalls, mut longest) = (0, 0);
        for time in self.opportunities.iter() {
            if let Some(window) = windows.get_mut((time / WINDOW) as usize) {
                *window += bits / (f64::from(WINDOW) / 1000.0);
            }
            let pause = time - before;
            stalls += u32::from(pause >= 200);
            longest = longest.max(pause);
            before = *time;
        }
        windows.sort_by(f64::total_cmp);
        let quantile = |share: f64| windows[((windows.len() - 1) as f64 * share).round() as usize];
        let seconds = f64::from(period) / 1000.0;
        TraceStatistics {
            mean: self.opportunities.len() as f64 * bits / seconds,
            p10: quantile(0.1),
            p90: quantile(0.9),
            stalls_per_minute: f64::from(stalls) * 60.0 / seconds,
            longest_pause: Nanos(u64::from(longest) * 1_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opportunities_repeat_after_the_last_one() {
        let trace = Trace::parse("1\n1\n5\n10\n").unwrap();
        let times: Vec<u64> = (0..6).map(|number| trace.time(number).0 / 1_000_000).collect();
        assert_eq!(times, [1, 1, 5, 10, 11, 11]);
        for (time, first) in [(0, 0), (1, 0), (2, 2), (10, 3), (11, 4), (15, 6)] {
            assert_eq!(trace.first_at(Nanos(time * 1_000_000)), first, "at {time} ms");
        }
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(
            Trace::parse("1\nx\n").unwrap_err().to_string(),
            "line 2: not a whole number of milliseconds"
        );
        assert_eq!(
            Trace::parse("5\n1\n").unwrap_err().to_string(),
            "line 2: earlier than the line before"
        );
        assert_eq!(
            Trace::parse("").unwrap_err().to_string(),
            "no delivery opportunity"
        );
        assert!(Trace::parse("0\n").is_err());
    }
}
