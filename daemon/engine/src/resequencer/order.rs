//! One flow's order: what is next, what waits behind a hole, and which holes were given up.

use std::collections::VecDeque;

use super::ranges::Ranges;
use super::{Held, HeldKind};
use crate::ids::FlowId;
use crate::time::Instant;
use crate::wire::expand_offset;

/// Where every flow begins: far enough from zero that offsets before it can be told from offsets behind it.
const BEGINNING: u64 = 1 << 32;
/// A flow whose first piece is further than this from its beginning began in an earlier life of ours.
const JOINED_BEHIND: u32 = 64 << 20;
/// Holes that were given up and may still be filled late. What belongs to one that is forgotten is dropped, because
/// it can no longer be told from a copy: that must be rarer than any weather makes it.
const GIVEN_UP: usize = 1024;
/// What is left to a flow if all flows together remember too many.
const GIVEN_UP_IF_SCARCE: usize = 16;

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub id: FlowId,
    /// Offset of the next unit in order. All before it was passed on, or given up.
    next: u64,
    /// What lies behind a hole: sorted, without overlaps.
    pub waiting: VecDeque<Held>,
    /// What may be delivered, in this order.
    pub ready: VecDeque<Held>,
    given_up: Ranges,
    /// How many holes of this flow stand in the session's count.
    pub remembered: usize,
    /// As it stands in the list of blocked flows.
    pub blocked_since: Option<Instant>,
    /// It stands in the list of flows with something ready.
    pub is_ready: bool,
    pub last: Instant,
    /// When a hole of it was filled last.
    pub progress: Instant,
    pub retired: bool,
}

/// What a call changed. Sizes are costs.
#[derive(Debug, Default)]
pub(super) struct Update {
    pub waited: usize,
    pub released: usize,
    pub readied: usize,
    pub late: u64,
    /// Holes that were given up, and can now not be filled late any more.
    pub forgotten: u64,
    /// The hole at the head was closed.
    pub filled: bool,
    pub given_up: bool,
}

impl Flow {
    pub(super) fn new(now: Instant, id: FlowId, offset: u32) -> Self {
        let join = if offset > JOINED_BEHIND {
            u64::from(offset)
        } else {
            0
        };
        Self {
            id,
            next: BEGINNING + join,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            given_up: Ranges::new(GIVEN_UP),
            remembered: 0,
            blocked_since: None,
            is_ready: false,
            last: now,
            progress: Instant::ZERO,
            retired: false,
        }
    }

    /// The whole offset of which the low bits came.
    pub(super) fn expand(&self, offset: u32) -> u64 {
        expand_offset(offset, self.next)
    }

    /// Whether nothing of these units was passed on or waits already.
    pub(super) fn has_room_for(&self, start: u64, end: u64) -> bool {
        if start < self.next {
            return self.given_up.contains(start, end);
        }
        let index = self.waiting.partition_point(|held| held.end() <= start);
        self.waiting.get(index).is_none_or(|held| held.offset >= end)
    }

    /// Puts a piece to its place; false if all of it came before.
    pub(super) fn place(&mut self, held: Held, update: &mut Update) -> bool {
        if held.offset == self.next && self.waiting.is_empty() {
            self.next = held.end();
            self.make_ready(held, update);
            return true;
        }
        match held.kind {
            HeldKind::Segment(_) | HeldKind::Skip => self.place_parts(held, update),
            // Of a packet, only the whole is of use. Fragments come in a row, each with room of its own.
            HeldKind::Packet | HeldKind::Fragment { .. } => {
                if !self.has_room_for(held.offset, held.end()) {
                    return false;
                }
                self.place_new(held, update);
                true
            }
        }
    }

    /// Gives up the hole at the head.
    pub(super) fn give_up(&mut self, update: &mut Update) {
        if let Some(first) = self.waiting.front() {
            update.forgotten += u64::from(self.given_up.insert(self.next, first.offset).is_some());
            self.next = first.offset;
            update.given_up = true;
            self.advance(update);
        }
    }

    /// Holes that may still be filled late.
    pub(super) fn given_up_holes(&self) -> usize {
        self.given_up.len()
    }

    /// Forgets most of the holes that were given up; how many.
    pub(super) fn forget_holes(&mut self) -> usize {
        self.given_up.shrink_to(GIVEN_UP_IF_SCARCE)
    }

    /// Places those parts of a piece that are new.
    fn place_parts(&mut self, held: Held, update: &mut Update) -> bool {
        let (start, end) = (held.offset, held.end());
        if self.next_missing(start, end) == Some((start, end)) {
            self.place_new(held, update);
            return true;
        }
        let mut new = false;
        let mut at = start;
        while at < end {
            let Some((from, to)) = self.next_missing(at, end) else {
                break;
            };
            self.place_new(part(&held, from, to), update);
            new = true;
            at = to;
        }
        new
    }

    /// The first range within `at..end` that neither was passed on nor waits.
    fn next_missing(&self, at: u64, end: u64) -> Option<(u64, u64)> {
        if at < self.next {
            let below = end.min(self.next);
            if let Some(range) = self.given_up.first_within(at, below) {
                return Some(range);
            }
        }
        let mut from = at.max(self.next);
        let mut index = self.waiting.partition_point(|held| held.end() <= from);
        while let Some(held) = self.waiting.get(index) {
            if held.offset > from {
                break;
            }
            from = held.end();
            index += 1;
        }
        let to = self.waiting.get(index).map_or(end, |held| held.offset.min(end));
        (from < to).then_some((from, to))
    }

    /// Places a piece of which all is new.
    fn place_new(&mut self, mut held: Held, update: &mut Update) {
        if held.offset < self.next {
            self.given_up.remove(held.offset, held.end());
            update.late += u64::from(!matches!(held.kind, HeldKind::Skip));
            self.make_ready(held, update);
        } else if held.offset == self.next {
            self.next = held.end();
            self.make_ready(held, update);
            update.filled |= self.advance(update);
        } else {
            let index = self.waiting.partition_point(|other| other.offset < held.offset);
            if let Some(behind) = self.waiting.get(index) {
                held.since = behind.since;
            }
            update.waited += held.cost();
            self.waiting.insert(index, held);
        }
    }

    /// Passes on what follows without a hole; whether there was anything.
    fn advance(&mut self, update: &mut Update) -> bool {
        let mut any = false;
        while self.waiting.front().is_some_and(|held| held.offset == self.next) {
            let Some(held) = self.waiting.pop_front() else {
                break;
            };
            self.next = held.end();
            update.released += held.cost();
            self.make_ready(held, update);
            any = true;
        }
        any
    }

    fn make_ready(&mut self, held: Held, update: &mut Update) {
        if !matches!(held.kind, HeldKind::Skip) {
            update.readied += held.cost();
            self.ready.push_back(held);
        }
    }
}

/// The units `from..to` of a segment or a skip.
fn part(held: &Held, from: u64, to: u64) -> Held {
    let (front, back) = ((from - held.offset) as usize, (held.end() - to) as usize);
    let mut body = held.body.clone();
    let kind = match &held.kind {
        HeldKind::Segment(segment) => {
            let mut segment = segment.clone();
            if front > 0 {
                let options = segment.cut_front(front as u32);
                body = body.slice((options + front).min(body.len())..);
            }
            if back > 0 {
                segment.cut_back();
                body.truncate(body.len().saturating_sub(back));
            }
            HeldKind::Segment(segment)
        }
        HeldKind::Packet | HeldKind::Fragment { .. } | HeldKind::Skip => HeldKind::Skip,
    };
    Held {
        offset: from,
        units: (to - from) as u32,
        since: held.since,
        body,
        kind,
    }
}
