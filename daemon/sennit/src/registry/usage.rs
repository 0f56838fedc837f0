//! How much each client used in each calendar month, as the registry keeps it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Registry, Table, TableDefinition, UnixTime};
use crate::Result;
use crate::key::PublicKey;

pub(super) const USAGE: Table = TableDefinition::new("usage");
/// Months that are remembered.
const MONTHS: usize = 13;

/// A calendar month in UTC; written as `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: u32,
    /// 1 to 12.
    month: u32,
}

impl Month {
    /// The month of a time.
    pub fn of(time: UnixTime) -> Self {
        // Years are counted from March, so that the leap day is the last; eras have 400 years.
        const DAYS_OF_AN_ERA: u64 = 146_097;
        const DAYS_BEFORE_1970: u64 = 719_468;
        let day = time / 86_400 + DAYS_BEFORE_1970;
        let (era, day) = (day / DAYS_OF_AN_ERA, day % DAYS_OF_AN_ERA);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day + 2) / 153;
        let (month, next_year) = if from_march < 10 {
            (from_march + 3, 0)
        } else {
            (from_march - 9, 1)
        };
        Self {
            year: (era * 400 + year + next_year) as u32,
            month: month as u32,
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

impl TryFrom<String> for Month {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text
            .split_once('-')
            .and_then(|(year, month)| Some((year.parse().ok()?, month.parse().ok()?)));
        match parsed {
            Some((year, month @ 1..=12)) => Ok(Self { year, month }),
            _ => Err(format!("{text:?} is not a month")),
        }
    }
}

/// Bytes of inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From the client.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

impl Traffic {
    /// Both directions together.
    pub fn total(self) -> u64 {
        self.up.saturating_add(self.down)
    }
}

/// What one client used in each of the last months.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    months: BTreeMap<Month, Traffic>,
}

impl Usage {
    /// In one month.
    pub fn of(&self, month: Month) -> Traffic {
        self.months.get(&month).copied().unwrap_or_default()
    }

    /// Counts more in this month; the oldest ones are forgotten.
    pub fn add(&mut self, month: Month, used: Traffic) {
        let sum = self.months.entry(month).or_default();
        sum.up = sum.up.saturating_add(used.up);
        sum.down = sum.down.saturating_add(used.down);
        while self.months.len() > MONTHS {
            self.months.pop_first();
        }
    }
}

impl Registry {
    /// What this client used.
    pub fn usage(&self, client: &PublicKey) -> Result<Usage> {
        Ok(self.get(USAGE, &client.to_string())?.unwrap_or_default())
    }

    /// Keeps what these clients used, in one transaction.
    pub fn set_usages<'a>(&self, usages: impl Iterator<Item = (&'a PublicKey, &'a Usage)>) -> Result<()> {
        self.write(|changes| {
            for (client, usage) in usages {
                changes.put(USAGE, &client.to_string(), usage)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn months_follow_the_calendar() {
        for (time, month) in [
            (0, "1970-01"),
            (951_782_399, "2000-02"),
            (951_868_800, "2000-03"),
            (1_709_164_800, "2024-02"),
            (1_735_689_599, "2024-12"),
            (1_735_689_600, "2025-01"),
            (4_107_542_400, "2100-03"),
        ] {
            assert_eq!(Month::of(time).to_string(), month, "{time}");
        }
    }

    #[test]
    fn usage_is_kept_by_month_and_survives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let client = PrivateKey::generate().unwrap().public();
        let (november, december) = (Month::of(1_763_800_000), Month::of(1_766_000_000));
        let mut usage = Usage::default();
        usage.add(november, Traffic { up: 1, down: 2 });
        usage.add(november, Traffic { up: 10, down: 20 });
        usage.add(december, Traffic { up: 5, down: 0 });
        let registry = Registry::open(folder.path()).unwrap();
        registry.set_usages([(&client, &usage)].into_iter()).unwrap();
        drop(registry);
        let registry = Registry::open(folder.path()).unwrap();
        let kept = registry.usage(&client).unwrap();
        assert_eq!(kept.of(november), Traffic { up: 11, down: 22 });
        assert_eq!(kept.of(december).total(), 5);
        assert_eq!(kept.of(Month::of(0)), Traffic::default());
    }
}
