//! Versions as apk writes and orders them: `1.2.3b_rc1~0badcafe-r4`.

use std::cmp::Ordering;

/// Suffixes that come before the version without one, in order.
const BEFORE: [&str; 4] = ["alpha", "beta", "pre", "rc"];
/// Suffixes that come after it, in order.
const AFTER: [&str; 5] = ["cvs", "svn", "git", "hg", "p"];

/// A part of a version; the order of the variants is the order in which parts may follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    First(u64),
    Number(&'a str),
    Letter(u8),
    /// Rank among all suffixes; below `BEFORE.len()` it is a pre-release.
    Suffix(usize),
    SuffixNumber(u64),
    Commit(&'a str),
    Revision(u64),
    End,
}

impl Part<'_> {
    fn class(&self) -> u8 {
        match self {
            Part::First(_) => 0,
            Part::Number(_) => 1,
            Part::Letter(_) => 2,
            Part::Suffix(_) => 3,
            Part::SuffixNumber(_) => 4,
            Part::Commit(_) => 5,
            Part::Revision(_) => 6,
            Part::End => 7,
        }
    }

    fn is_prerelease(&self) -> bool {
        matches!(self, Part::Suffix(rank) if *rank < BEFORE.len())
    }
}

/// Whether apk takes this as a version.
pub fn is_valid(version: &str) -> bool {
    parts(version).is_some()
}

/// Which of two versions is the newer; `None` if one is no version.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (parts(a)?, parts(b)?);
    for (a, b) in a.iter().zip(&b) {
        let order = match (a, b) {
            (Part::Number(a), Part::Number(b)) if a.starts_with('0') || b.starts_with('0') => a.cmp(b),
            (Part::Number(a), Part::Number(b)) => a.parse::<u64>().ok().cmp(&b.parse().ok()),
            (Part::First(a), Part::First(b))
            | (Part::SuffixNumber(a), Part::SuffixNumber(b))
            | (Part::Revision(a), Part::Revision(b)) => a.cmp(b),
            (Part::Letter(a), Part::Letter(b)) => a.cmp(b),
            (Part::Suffix(a), Part::Suffix(b)) => a.cmp(b),
            (Part::Commit(a), Part::Commit(b)) => a.cmp(b),
            (Part::End, Part::End) => Ordering::Equal,
            // What goes on is newer, unless it goes on with "but not quite that version yet".
            (a, _) if a.is_prerelease() => Ordering::Less,
            (_, b) if b.is_prerelease() => Ordering::Greater,
            (a, b) => b.class().cmp(&a.class()),
        };
        if order != Ordering::Equal {
            return Some(order);
        }
    }
    Some(Ordering::Equal)
}

fn parts(version: &str) -> Option<Vec<Part<'_>>> {
    let (first, mut rest) = digits(version)?;
    let mut parts = vec![Part::First(first.parse().ok()?)];
    loop {
        let class = parts.last()?.class();
        let Some(next) = rest.chars().next() else { break };
        let (part, after) = match next {
            '.' => {
                let (number, after) = digits(&rest[1..])?;
                number.parse::<u64>().ok()?;
                (Part::Number(number), after)
            }
            'a'..='z' => (Part::Letter(next as u8), &rest[1..]),
            '_' => {
                let end = rest[1..]
                    .find(|c: char| !c.is_ascii_lowercase())
                    .map_or(rest.len(), |end| end + 1);
                let rank = BEFORE
                    .iter()
                    .chain(&AFTER)
                    .position(|suffix| *suffix == &rest[1..end])?;
                (Part::Suffix(rank), &rest[end..])
            }
            '0'..='9' if class == 3 => {
                let (number, after) = digits(rest)?;
                (Part::SuffixNumber(number.parse().ok()?), after)
            }
            '~' => {
                let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                let end = rest[1..]
                    .find(|c| !hexadecimal(c))
                    .map_or(rest.len(), |end| end + 1);
                (
                    Part::Commit(Some(&rest[1..end]).filter(|hash| !hash.is_empty())?),
                    &rest[end..],
                )
            }
            '-' => {
                let (number, after) = digits(rest.strip_prefix("-r")?)?;
                (Part::Revision(number.parse().ok()?), after)
            }
            _ => return None,
        };
        let fits = match part {
            Part::Number(_) | Part::Letter(_) => class <= 1,
            Part::Suffix(_) => class <= 4,
            _ => part.class() > class,
        };
        if !fits {
            return None;
        }
        parts.push(part);
        rest = after;
    }
    parts.push(Part::End);
    Some(parts)
}

/// Digits at the start, of which there must be some.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_apk_orders_them() {
        let ascending = [
            "0.9",
            "1.0_alpha1",
            "1.0_beta",
            "1.0_rc1-r1",
            "1.0_rc2",
            "1.0",
            "1.0-r1",
            "1.0-r2",
            "1.0-r10",
            "1.0~abc",
            "1.0_git20240101",
            "1.0_p1",
            "1.0a",
            "1.0.1",
            "1.2",
            "1.10",
            "2",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Some(Ordering::Less), "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Some(Ordering::Greater), "{pair:?}");
        }
        assert_eq!(compare("1.0", "1.0"), Some(Ordering::Equal));
    }

    #[test]
    fn what_apk_refuses_is_no_version() {
        for bad in [
            "", "a", "1.", "1..2", "1-1", "1-r", "1_rc1_", "1_foo", "1~", "1~xyz", "1.0-rc.1", "v1", "1 0",
            "1ab",
        ] {
            assert!(!is_valid(bad), "{bad:?}");
            assert_eq!(compare(bad, "1"), None);
        }
        for good in [
            "1",
            "1.2.3-r0",
            "2025.10.03~ebb92e6b-r1",
            "1699~f505120278",
            "1.0_rc1_git5-r2",
            "26.082.75780~067535e",
        ] {
            assert!(is_valid(good), "{good:?}");
        }
    }
}
