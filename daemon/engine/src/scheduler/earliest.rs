//! Earliest arrival, taken from the depth of the queue.
//!
//! The path with the shortest delay takes the heads of the queues. A slower path takes what lies as deep in the queue
//! as the faster paths will have sent by the time its packet arrives: D = sum over faster q of rate_q (owd_p - owd_q).
//! Everything then arrives in order, without waiting at the receiver. If less than D waits, the slower path stays idle:
//! whatever it took would arrive after what the faster paths could have brought.

use std::time::Duration;

use super::{Backlog, PathView, Scheduler, Take, takes_part};
use crate::settings::Priority;

/// Longest difference of delays that is bridged; a path that is slower than the fastest by more carries nothing.
const LONGEST_SKEW: Duration = Duration::from_millis(200);
/// A secondary WAN joins when this much waits for the primary ones.
const SECONDARY_BACKLOG: Duration = Duration::from_millis(20);
/// Differences of delay below this are noise.
const EQUAL: i64 = 1_000_000;

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct EarliestArrival;

impl Scheduler for EarliestArrival {
    fn take(&self, candidate: usize, paths: &[PathView], backlog: Backlog) -> Take {
        if !takes_part(candidate, paths) {
            return Take::Nothing;
        }
        let this = paths[candidate];
        let mut depth: u64 = 0;
        let mut slowest_skew = 0;
        for (index, other) in paths.iter().enumerate() {
            if index == candidate || !other.usable || !takes_part(index, paths) {
                continue;
            }
            if other.priority > this.priority {
                // It joins when this one is loaded; if this one waited for it in turn, neither would begin.
                continue;
            }
            let skew = this.one_way.saturating_sub(other.one_way);
            if skew > EQUAL {
                slowest_skew = slowest_skew.max(skew);
                depth = depth.saturating_add(other.rate.bytes_in(skew.unsigned_abs()));
            }
            if this.priority == Priority::Secondary && other.priority == Priority::Primary {
                depth = depth.saturating_add(other.rate.bytes_in(SECONDARY_BACKLOG.as_nanos() as u64));
            }
        }
        if slowest_skew > LONGEST_SKEW.as_nanos() as i64 {
            return Take::Nothing;
        }
        if depth == 0 {
            return Take::Anything;
        }
        // The faster paths serve all flows in turn, so that one flow gets its share of what they bring until then.
        let depth = depth / backlog.flows.max(1);
        if backlog.deepest > depth {
            Take::Depth(depth)
        } else {
            Take::Nothing
        }
    }

    fn duplicates(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::WanId;
    use crate::settings::BytesPerSecond;

    fn path(wan: u16, one_way_ms: i64, megabits: u64) -> PathView {
        PathView {
            wan: WanId(wan),
            priority: Priority::Primary,
            usable: true,
            one_way: one_way_ms * 1_000_000,
            rate: BytesPerSecond(megabits * 125_000),
        }
    }

    fn backlog(bytes: u64) -> Backlog {
        Backlog {
            deepest: bytes,
            flows: 1,
        }
    }

    #[test]
    fn the_fastest_path_takes_the_head_and_a_slower_one_what_lies_deep() {
        let paths = [path(0, 10, 50), path(1, 35, 20)];
        assert_eq!(EarliestArrival.take(0, &paths, backlog(1)), Take::Anything);
        // 50 Mbit/s for 25 ms.
        assert_eq!(
            EarliestArrival.take(1, &paths, backlog(200_000)),
            Take::Depth(156_250)
        );
        assert_eq!(EarliestArrival.take(1, &paths, backlog(156_250)), Take::Nothing);
    }

    #[test]
    fn equal_paths_share_the_head() {
        let paths = [path(0, 10, 50), path(1, 10, 50)];
        assert_eq!(EarliestArrival.take(0, &paths, backlog(1)), Take::Anything);
        assert_eq!(EarliestArrival.take(1, &paths, backlog(1)), Take::Anything);
    }

    #[test]
    fn a_dead_path_holds_nobody_back() {
        let mut paths = [path(0, 10, 50), path(1, 35, 20)];
        paths[0].usable = false;
        assert_eq!(EarliestArrival.take(1, &paths, backlog(1)), Take::Anything);
    }

    #[test]
    fn a_path_that_is_far_slower_carries_nothing() {
        let paths = [path(0, 10, 50), path(1, 400, 20)];
        assert_eq!(
            EarliestArrival.take(1, &paths, backlog(10_000_000)),
            Take::Nothing
        );
    }

    #[test]
    fn backups_wait_until_the_others_are_gone() {
        let mut paths = [path(0, 10, 50), path(1, 10, 50)];
        paths[1].priority = Priority::Backup;
        assert_eq!(EarliestArrival.take(1, &paths, backlog(1_000_000)), Take::Nothing);
        paths[0].usable = false;
        assert_eq!(EarliestArrival.take(1, &paths, backlog(1)), Take::Anything);
    }

    #[test]
    fn a_slow_primary_wan_does_not_wait_for_a_fast_secondary_one() {
        let mut paths = [path(0, 40, 50), path(1, 10, 50)];
        paths[1].priority = Priority::Secondary;
        assert_eq!(EarliestArrival.take(0, &paths, backlog(100)), Take::Anything);
        assert_eq!(EarliestArrival.take(1, &paths, backlog(100)), Take::Nothing);
    }

    #[test]
    fn a_secondary_wan_joins_when_the_primary_ones_are_loaded() {
        let mut paths = [path(0, 10, 50), path(1, 10, 50)];
        paths[1].priority = Priority::Secondary;
        assert_eq!(EarliestArrival.take(1, &paths, backlog(100_000)), Take::Nothing);
        assert_eq!(
            EarliestArrival.take(1, &paths, backlog(200_000)),
            Take::Depth(125_000)
        );
    }
}
