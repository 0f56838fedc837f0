//! Makes the shipped traces: a cell whose rate wanders over an order of magnitude and stalls now and then. They
//! are synthetic, and say so; recorded ones in the same format are used in the same way.

use super::random::Random;
use super::trace::{OPPORTUNITY, Trace, TraceError};

/// What a cell is like.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Name of the trace.
    pub name: &'static str,
    /// Chance.
    pub seed: u64,
    /// Rate around which it wanders, in bits per second.
    pub middle: f64,
    /// Standard deviation of the logarithm of the rate.
    pub spread: f64,
    /// Seconds after which the rate has forgotten where it was.
    pub memory: f64,
    /// Stalls per minute, each of 200 to 500 ms.
    pub stalls: f64,
}

/// The shipped ones: a moving car, a street, and a room with a weak signal.
pub const CELLS: [Cell; 3] = [
    Cell {
        name: "car",
        seed: 11,
        middle: 10e6,
        spread: 1.1,
        memory: 3.0,
        stalls: 5.0,
    },
    Cell {
        name: "street",
        seed: 12,
        middle: 16e6,
        spread: 1.05,
        memory: 1.5,
        stalls: 4.0,
    },
    Cell {
        name: "room",
        seed: 21,
        middle: 6e6,
        spread: 1.2,
        memory: 2.5,
        stalls: 4.0,
    },
];

/// Length of the shipped traces.
const SECONDS: u32 = 60;
/// The scheduler of a cell gives a terminal its share in slots, not evenly.
const SLOT: u32 = 5;

impl Cell {
    /// The trace of this cell, the same at every call.
    pub fn trace(&self) -> Result<Trace, TraceError> {
        let mut random = Random::new(self.seed, 0);
        let step = f64::from(SLOT) / 1000.0;
        let keep = 1.0 - step / self.memory;
        let fresh = (1.0 - keep * keep).sqrt();
        let (mut logarithm, mut credit, mut stalled_until) = (0.0_f64, 0.0, 0);
        let mut times = Vec::new();
        let mut slot = 0;
        while slot < SECONDS * 1000 {
            logarithm = (keep * logarithm + fresh * random.normal()).clamp(-2.5, 2.0);
            if slot >= stalled_until && random.chance(self.stalls / 60.0 * step) {
                stalled_until = slot + 200 + (random.unit() * 300.0) as u32;
            }
            // Terminals share the cell: some slots bring nothing, the others more.
            if slot >= stalled_until && random.chance(0.7) {
                let rate = self.middle * exponential(self.spread * logarithm);
                credit += rate * step / 0.7 / (f64::from(OPPORTUNITY) * 8.0);
                while credit >= 1.0 {
                    times.push(slot + SLOT);
                    credit -= 1.0;
                }
            }
            slot += SLOT;
        }
        // The period is a round number whatever the last slot brought.
        times.push(SECONDS * 1000);
        Trace::new(times)
    }
}

/// e^x by its series: the machine's own functions differ in the last digit, and with it would the traces.
fn exponential(x: f64) -> f64 {
    let reduced = x / 16.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..16 {
        term *= reduced / f64::from(n);
        sum += term;
    }
    (0..4).fold(sum, |value, _| value * value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Nanos;

    #[test]
    fn the_cells_move_and_stall_as_radio_does() {
        for cell in CELLS {
            let statistics = cell.trace().unwrap().statistics();
            assert!(
                statistics.p90 / statistics.p10 >= 8.0,
                "{}: {statistics:?}",
                cell.name
            );
            assert!(
                statistics.stalls_per_minute >= 2.0,
                "{}: {statistics:?}",
                cell.name
            );
            assert!(
                statistics.longest_pause <= Nanos::from_millis(700.0),
                "{}: {statistics:?}",
                cell.name
            );
        }
    }

    #[test]
    fn the_shipped_files_are_what_the_generator_makes() {
        for cell in CELLS {
            let shipped = crate::scenario::TRACES
                .iter()
                .find(|(name, _)| *name == cell.name);
            let (_, text) = shipped.expect("each cell has its file");
            assert!(
                cell.trace().unwrap().to_text() == *text,
                "{}: sennit-lab traces --write daemon/lab/traces",
                cell.name
            );
        }
    }
}
