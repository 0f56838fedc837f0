//! What was sent and not yet acknowledged, in plaintext, so that it survives rekeying and the death of a path.
//!
//! An entry is one piece; it may be in flight in several packets at once (copies). It leaves when one of them is
//! acknowledged and none is in flight any more, or it comes back as a repair when all of them were lost.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::WanId;
use crate::inner::{Piece, PieceKind};
use crate::time::Instant;

/// Other WANs have this long to repair what one lost; then it may do so itself.
const OTHERS_FIRST: Duration = Duration::from_millis(10);
/// What was lost and is this old is of no use any more: its sender inside has sent it again, or given it up. Where
/// repairs cannot keep up with losses, they would otherwise be all that is sent.
const STALE: Duration = Duration::from_secs(2);

/// Names an entry. The generation makes that a late acknowledgement cannot hit the entry's successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PieceId {
    index: u32,
    generation: u32,
}

/// WANs on which a piece is in flight, or was lost last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WanSet(u64);

impl WanSet {
    /// WANs beyond the 64th share a bit: a repair may then avoid one WAN too many, never one too few.
    fn bit(wan: WanId) -> u64 {
        1 << (wan.0 % 64)
    }

    pub(crate) fn contains(self, wan: WanId) -> bool {
        self.0 & Self::bit(wan) != 0
    }

    fn insert(&mut self, wan: WanId) {
        self.0 |= Self::bit(wan);
    }
}

/// Why a piece is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Every packet that carried it was lost.
    Lost,
    /// The path that carries it has fallen silent; it may still arrive.
    Suspicion,
}

#[derive(Debug)]
struct Entry {
    piece: Option<Piece>,
    generation: u32,
    /// Packets in flight that carry it.
    in_flight: u16,
    /// Packets that carried it and were lost.
    losses: u8,
    acknowledged: bool,
    /// Stands in the queue of repairs.
    queued: bool,
    /// A suspicion copy was made; there is never a second one.
    copied: bool,
    wans: WanSet,
    first_sent: Instant,
    lost_at: Instant,
}

impl Entry {
    /// Somebody waits for it by itself, and not for what comes before it.
    fn is_urgent(&self) -> bool {
        self.piece.as_ref().is_some_and(|piece| !piece.ordered)
    }
}

/// What may be copied on a mere doubt: a hundredth of what is sent, and so much at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DoubtBudget {
    /// Hundredths of bytes.
    left: u64,
}

impl Default for DoubtBudget {
    fn default() -> Self {
        Self { left: Self::MOST }
    }
}

impl DoubtBudget {
    const SHARE: u64 = 100;
    const MOST: u64 = Self::SHARE * (16 << 10);

    /// So many bytes were sent.
    pub(crate) fn earn(&mut self, bytes: u64) {
        self.left = (self.left + bytes).min(Self::MOST);
    }

    fn spend(&mut self, bytes: u64) -> bool {
        let rest = self.left.checked_sub(Self::SHARE * bytes);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }
}

/// The store of unacknowledged pieces.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// What waits to be sent again: what somebody waits for by itself, and what counts only behind what comes before it.
    urgent: VecDeque<(PieceId, Repair)>,
    repairs: VecDeque<(PieceId, Repair)>,
    /// Pieces that wait for an acknowledgement or a repair.
    pieces: usize,
    /// Their bytes.
    bytes: usize,
    /// Pieces that were too old to be repaired.
    abandoned: u64,
}

/// A piece to send again.
#[derive(Debug)]
pub(crate) struct RepairPiece {
    pub(crate) id: PieceId,
    pub(crate) piece: Piece,
    pub(crate) why: Repair,
    /// How many packets that carried it were lost so far.
    pub(crate) losses: u8,
}

impl Store {
    /// Keeps a piece that is about to be sent for the first time.
    pub(crate) fn insert(&mut self, piece: Piece, now: Instant) -> PieceId {
        self.pieces += 1;
        self.bytes += piece.body.len();
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                piece: None,
                generation: 0,
                in_flight: 0,
                losses: 0,
                acknowledged: false,
                queued: false,
                copied: false,
                wans: WanSet::default(),
                first_sent: now,
                lost_at: now,
            });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        *entry = Entry {
            piece: Some(piece),
            generation: entry.generation.wrapping_add(1),
            in_flight: 0,
            losses: 0,
            acknowledged: false,
            queued: false,
            copied: false,
            wans: WanSet::default(),
            first_sent: now,
            lost_at: now,
        };
        PieceId {
            index,
            generation: entry.generation,
        }
    }

    fn entry(&mut self, id: PieceId) -> Option<&mut Entry> {
        self.entries
            .get_mut(id.index as usize)
            .filter(|entry| entry.generation == id.generation && entry.piece.is_some())
    }

    /// The piece, unless it has been acknowledged.
    pub(crate) fn piece(&self, id: PieceId) -> Option<&Piece> {
        self.entries
            .get(id.index as usize)
            .filter(|entry| entry.generation == id.generation && !entry.acknowledged)
            .and_then(|entry| entry.piece.as_ref())
    }

    /// When the piece was first sent, and on which WANs it is in flight.
    pub(crate) fn history(&self, id: PieceId) -> Option<(Instant, WanSet)> {
        self.entries
            .get(id.index as usize)
            .filter(|entry| entry.generation == id.generation && entry.piece.is_some())
            .map(|entry| (entry.first_sent, entry.wans))
    }

    /// A packet that carries the piece was sent over `wan`.
    pub(crate) fn sent(&mut self, id: PieceId, wan: WanId) {
        if let Some(entry) = self.entry(id) {
            entry.in_flight += 1;
            entry.wans.insert(wan);
        }
    }

    /// A packet that carries the piece was acknowledged; true for the piece's first acknowledgement.
    pub(crate) fn acknowledged(&mut self, id: PieceId) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let first = !entry.acknowledged;
        entry.acknowledged = true;
        entry.in_flight = entry.in_flight.saturating_sub(1);
        self.release_if_done(id);
        first
    }

    /// A packet that carries the piece, and that had been given up, was acknowledged after all.
    pub(crate) fn acknowledged_late(&mut self, id: PieceId) {
        if let Some(entry) = self.entry(id) {
            entry.acknowledged = true;
            self.release_if_done(id);
        }
    }

    /// A packet that carried the piece over `wan` is lost. If no other one is in flight the piece is queued for repair,
    /// on any WAN but this one.
    pub(crate) fn lost(&mut self, now: Instant, id: PieceId, wan: WanId) {
        let Some(entry) = self.entry(id) else { return };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        entry.losses = entry.losses.saturating_add(1);
        if entry.acknowledged {
            self.release_if_done(id);
        } else if entry.in_flight == 0 {
            entry.lost_at = now;
            entry.wans = WanSet::default();
            entry.wans.insert(wan);
            // If a copy waits to be sent, it is a repair from now on.
            if !entry.queued {
                self.queue(id, Repair::Lost);
            }
        }
    }

    fn queue(&mut self, id: PieceId, why: Repair) {
        let Some(entry) = self.entry(id) else { return };
        entry.queued = true;
        if entry.is_urgent() {
            self.urgent.push_back((id, why));
        } else {
            self.repairs.push_back((id, why));
        }
    }

    /// The only path that carries the piece has fallen silent: queues one copy, before everything else that waits.
    pub(crate) fn suspect(&mut self, id: PieceId) {
        let Some(entry) = self.entry(id) else { return };
        if entry.acknowledged || entry.copied || entry.queued || entry.in_flight != 1 {
            return;
        }
        entry.copied = true;
        self.queue(id, Repair::Suspicion);
    }

    /// The same on a mere doubt: only if somebody waits for the piece, and out of `budget`, in bytes.
    pub(crate) fn copy_if_urgent(&mut self, id: PieceId, budget: &mut DoubtBudget) {
        let urgent = self.entry(id).filter(|entry| entry.is_urgent());
        let size = urgent.and_then(|entry| entry.piece.as_ref().map(|piece| piece.body.len()));
        if size.is_some_and(|size| budget.spend(size as u64)) {
            self.suspect(id);
        }
    }

    /// A copy was sent where it may get lost: queues another one, behind everything that has none yet.
    pub(crate) fn copy_again(&mut self, id: PieceId) {
        let Some(entry) = self.entry(id) else { return };
        if !entry.acknowledged && !entry.queued && entry.in_flight == 2 {
            self.queue(id, Repair::Suspicion);
        }
    }

    /// Takes the next repair that `wan` may send: one that has not been on it, unless `any` (no other WAN is there) or
    /// the others did not come to it.
    pub(crate) fn next_repair(&mut self, now: Instant, wan: WanId, any: bool) -> Option<RepairPiece> {
        let mut queue = std::mem::take(&mut self.repairs);
        let repair = self.next_in(&mut queue, now, wan, any);
        self.repairs = queue;
        repair
    }

    /// The same of those that somebody waits for.
    pub(crate) fn next_urgent(&mut self, now: Instant, wan: WanId, any: bool) -> Option<RepairPiece> {
        let mut queue = std::mem::take(&mut self.urgent);
        let repair = self.next_in(&mut queue, now, wan, any);
        self.urgent = queue;
        repair
    }

    /// Only the first few of the queue are looked at, so that one call stays cheap.
    fn next_in(
        &mut self,
        queue: &mut VecDeque<(PieceId, Repair)>,
        now: Instant,
        wan: WanId,
        any: bool,
    ) -> Option<RepairPiece> {
        const LOOK_AHEAD: usize = 64;
        let mut index = 0;
        while index < queue.len().min(LOOK_AHEAD) {
            let (id, why) = queue[index];
            let Some(entry) = self
                .entries
                .get_mut(id.index as usize)
                .filter(|entry| entry.generation == id.generation && !entry.acknowledged)
            else {
                // Acknowledged late, while it waited.
                queue.remove(index);
                if let Some(entry) = self.entry(id) {
                    entry.queued = false;
                    self.release_if_done(id);
                }
                continue;
            };
            let why = if entry.in_flight == 0 { Repair::Lost } else { why };
            if why == Repair::Lost && now.since(entry.first_sent) > STALE && self.abandon(id) {
                queue.remove(index);
                continue;
            }
            let entry = &mut self.entries[id.index as usize];
            let late = why == Repair::Lost && now.since(entry.lost_at) > OTHERS_FIRST;
            match &entry.piece {
                Some(piece) if any || late || !entry.wans.contains(wan) => {
                    entry.queued = false;
                    let repair = RepairPiece {
                        id,
                        piece: piece.clone(),
                        why,
                        losses: entry.losses,
                    };
                    queue.remove(index);
                    return Some(repair);
                }
                _ => index += 1,
            }
        }
        None
    }

    /// Gives a piece up that is too old to be repaired. Of an ordered flow its units are announced as dropped, which is
    /// as reliable as data; then the entry stays for that. True if it is gone.
    fn abandon(&mut self, id: PieceId) -> bool {
        let Some(entry) = self.entry(id) else { return true };
        let Some(piece) = &mut entry.piece else {
            return true;
        };
        if matches!(piece.kind, PieceKind::Skip) {
            return false;
        }
        let freed = piece.body.len();
        let ordered = piece.ordered;
        piece.kind = PieceKind::Skip;
        piece.body = Bytes::new();
        self.bytes -= freed;
        self.abandoned += 1;
        if !ordered {
            let entry = &mut self.entries[id.index as usize];
            entry.acknowledged = true;
            entry.queued = false;
            self.release_if_done(id);
        }
        !ordered
    }

    /// Pieces that were given up because they were too old to be repaired.
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// Puts back a repair that was taken and could not be sent.
    pub(crate) fn put_back(&mut self, repair: &RepairPiece) {
        if let Some(entry) = self.entry(repair.id) {
            entry.queued = true;
            if entry.is_urgent() {
                self.urgent.push_front((repair.id, repair.why));
            } else {
                self.repairs.push_front((repair.id, repair.why));
            }
        }
    }

    /// A piece had to be cut: the entry keeps `rest`, and what was cut off its front becomes an entry of its own.
    pub(crate) fn cut(&mut self, id: PieceId, front: Piece, rest: Piece, now: Instant) -> PieceId {
        let mut first_sent = now;
        if let Some(entry) = self.entry(id) {
            let before = entry.piece.replace(rest).map_or(0, |piece| piece.body.len());
            first_sent = entry.first_sent;
            self.bytes -= before.min(front.body.len());
        }
        let front = self.insert(front, now);
        self.entries[front.index as usize].first_sent = first_sent;
        front
    }

    /// True while something waits to be sent again.
    pub(crate) fn has_repairs(&self) -> bool {
        !self.repairs.is_empty() || !self.urgent.is_empty()
    }

    /// Pieces and bytes that are kept.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.pieces, self.bytes)
    }

    fn release_if_done(&mut self, id: PieceId) {
        let entry = &mut self.entries[id.index as usize];
        // An entry that stands in the queue of repairs is released when the queue comes to it.
        if entry.acknowledged && entry.in_flight == 0 && !entry.queued {
            if let Some(piece) = entry.piece.take() {
                self.pieces -= 1;
                self.bytes -= piece.body.len();
            }
            self.free.push(id.index);
        }
    }
}

#[cfg(test)]
mod tests;
