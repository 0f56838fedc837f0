//! Builds datagrams: what each one carries, and on which path.
//!
//! Order within a datagram: acknowledgements, what keeps the path alive, repairs, copies, new data. One call fills one
//! batch of equal datagrams for one path, which the operating system sends in one go.

use rand_chacha::rand_core::RngCore;

use super::parity::Moment;
use super::path::{Carried, GATHER};
use super::{HINT_EVERY, MOST_PATHS, Session, Transmit};
use crate::flow::{Room, Want};
use crate::inner::Piece;
use crate::scheduler::{Backlog, Take, takes_part};
use crate::store::{PieceId, Repair, RepairPiece};
use crate::time::Instant;
use crate::wire::frame;
use crate::wire::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader, TAG_LEN};

/// Room below which no further frame is begun.
const LEAST_ROOM: usize = 48;
/// Nanoseconds by which another path must be faster for an acknowledgement to be worth a second copy there.
const WORTH_A_SECOND_ACK: i64 = 2_000_000;
/// Of so many acknowledgements one asks for an answer where nothing else does.
const ASK_EVERY: u32 = 16;
/// A piece that was lost this often is sent over two WANs at once.
const LOSSES_BEFORE_COPY: u8 = 2;
/// In redundant mode a copy that would arrive this much after the first one is left out.
const USELESS_AFTER_NANOS: i64 = 100_000_000;
/// Copies that wait for a slow WAN.
const MOST_COPIES: usize = 4096;

impl Session {
    /// Appends datagrams for one path to `out`: at most `max_segments`, all but the last of equal size.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        max_segments: usize,
    ) -> Option<Transmit> {
        self.now = now;
        self.keys.as_ref()?;
        self.refresh_views();
        if let Some(transmit) = self.answer_new_address(now, out) {
            return Some(transmit);
        }
        // The path with the shortest delay first: what is urgent goes there.
        let mut order: smallvec::SmallVec<[usize; MOST_PATHS]> = (0..self.paths.len()).collect();
        order.sort_unstable_by_key(|index| (self.views[*index].one_way, *index));
        for index in order {
            if let Some(segment_size) = self.fill(now, index, out, max_segments) {
                let path = &self.paths[index];
                return Some(Transmit {
                    network: path.network,
                    wan: path.wan,
                    segment_size,
                });
            }
        }
        None
    }

    /// Fills a batch for one path; the size of its datagrams, or nothing if the path has nothing to say.
    fn fill(&mut self, now: Instant, index: usize, out: &mut Vec<u8>, max_segments: usize) -> Option<usize> {
        let start = out.len();
        let mut segment_size = None;
        for _ in 0..max_segments {
            let before = out.len();
            let limit = segment_size.unwrap_or(self.paths[index].mtu.current());
            let kind = self.build(now, index, out, limit, segment_size.is_none());
            let length = out.len() - before;
            let first = *segment_size.get_or_insert(length);
            if kind == Built::Nothing || kind == Built::Alone || length < first {
                break;
            }
        }
        (out.len() > start).then_some(segment_size?)
    }

    /// Builds one datagram of at most `limit` bytes at the end of `out`, or leaves `out` as it is. Only the `first` of
    /// a batch may be larger: a probe of the path's size.
    fn build(&mut self, now: Instant, index: usize, out: &mut Vec<u8>, limit: usize, first: bool) -> Built {
        let start = out.len();
        let number = self.paths[index].sent.next_number();
        let Some(keys) = self.keys.as_ref() else {
            return Built::Nothing;
        };
        let header = DataHeader {
            receiver: keys.remote,
            path: self.paths[index].id,
            packet_number: number as u32,
        };
        out.extend_from_slice(&header.encode());
        let body = start + DATA_HEADER_LEN;
        let whole = self.paths[index].mtu.current() - self.paths[index].parity.reserve();
        let end = start + limit.min(whole) - TAG_LEN;
        let mut carried = Carried::default();

        let may_send_data = self.may_send_data(now, index);
        if may_send_data && first && self.write_parity(now, index, Moment::Busy, out) {
            self.seal(
                now,
                index,
                Open {
                    header,
                    number,
                    start,
                    eliciting: true,
                    carried,
                },
                out,
            );
            return Built::More;
        }
        let mut eliciting = self.write_control(now, index, end, out, &mut carried);
        let urgent = out.len() > body;
        self.write_acks(now, index, urgent, end, out, &mut carried);
        let mut built = Built::More;
        if may_send_data {
            let alone = out.len();
            let waiting = self.store.has_repairs() || !self.queues.is_empty();
            let company = waiting || !self.paths[index].copies.is_empty();
            let mut hints = waiting && self.hint_is_due(now);
            let mut acknowledges = company && self.write_news(now, index, end, out);
            if hints {
                self.write_hint(out);
            }
            let mut before = out.len();
            self.write_data(now, index, out, end, &mut carried);
            if out.len() == before && before > alone {
                // What waits may need the whole datagram.
                out.truncate(alone);
                before = alone;
                (hints, acknowledges) = (false, false);
                self.write_data(now, index, out, end, &mut carried);
            }
            let path = &mut self.paths[index];
            if out.len() == before {
                // It could send and has nothing to: what is on its way does not show what the path can do. What was to
                // go along with data waits: an acknowledgement for its time, and a hint, which wants an acknowledgement,
                // for ever, or two idle ends would answer each other.
                path.app_limited = true;
                path.sent.on_app_limited();
            } else {
                eliciting = true;
                if acknowledges {
                    carried.acknowledged = path.received.told(now).map(|largest| (path.id, largest));
                }
                if hints {
                    self.next_hint = now + HINT_EVERY;
                }
            }
        }
        if out.len() == body && first && may_send_data {
            eliciting = self.write_parity(now, index, Moment::Idle, out);
        }
        if out.len() == body && first {
            // Nothing to say: perhaps a larger size wants to be tried, or the path asked whether it lives.
            eliciting = self.write_probe(now, index, out, start, &mut carried);
            built = Built::Alone;
        }
        if out.len() == body {
            out.truncate(start);
            return Built::Nothing;
        }
        if !eliciting {
            built = Built::Alone;
            eliciting = self.wants_answer(index, out, end);
        }
        self.seal(
            now,
            index,
            Open {
                header,
                number,
                start,
                eliciting,
                carried,
            },
            out,
        );
        built
    }

    /// A path on which nothing is sent but acknowledgements would never learn whether they queue up: now and then one
    /// asks for an answer. True if this one does.
    fn wants_answer(&mut self, index: usize, out: &mut Vec<u8>, end: usize) -> bool {
        let path = &mut self.paths[index];
        path.unanswerable += 1;
        let asks = path.unanswerable >= ASK_EVERY && path.sent.in_flight() == 0 && out.len() < end;
        if asks {
            frame::write_ping(out);
        }
        asks
    }

    /// Congestion control, pacer and validation allow new data.
    fn may_send_data(&self, now: Instant, index: usize) -> bool {
        let path = &self.paths[index];
        let size = path.mtu.current() + path.outer_overhead();
        let open = self.views[index].usable
            && !path.sent.is_full()
            && path.window_room() >= size as u64
            && path.pacer.available(now) >= size as u64
            && path.amplification_room() >= size as u64;
        open && self.closing.is_none()
    }

    /// Challenges, responses, the WAN's status, messages, goodbye. True if it wants an acknowledgement.
    fn write_control(
        &mut self,
        now: Instant,
        index: usize,
        end: usize,
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) -> bool {
        let mut eliciting = false;
        if let Some(reason) = self.closing.filter(|_| !self.paths[index].closed) {
            self.paths[index].closed = true;
            frame::write_close(out, reason);
            let change = self.paths[index].state.on_left(now, "closed");
            self.changed(now, index, change);
        }
        let wants_probe = self.paths[index].state.wants_probe(now);
        if (wants_probe || !self.paths[index].validated && self.paths[index].challenge.is_none())
            && self.paths[index].may_probe()
        {
            let challenge = match self.paths[index].challenge {
                Some(challenge) => challenge,
                None => self.challenge(),
            };
            self.paths[index].challenge = Some(challenge);
            let path = &mut self.paths[index];
            path.state.on_probe_sent(now, &path.rtt);
            frame::write_challenge(out, challenge);
            eliciting = true;
        }
        let path = &mut self.paths[index];
        if let Some(response) = path.response.take() {
            frame::write_response(out, response);
            eliciting = true;
        }
        if self.wants_loss_probe(now, index) {
            let path = &mut self.paths[index];
            path.decay.on_probe_sent(now, path.settings.metered);
            frame::write_ping(out);
            eliciting = true;
        }
        // An idle session asks nothing.
        let busy = self.paths.iter().any(|path| path.sent.in_flight() > 0);
        if busy && self.paths[index].wants_fresh_delay(now) {
            frame::write_ping(out);
            eliciting = true;
        }
        eliciting |= self.write_statuses(now, index, end, out, carried);
        eliciting | self.write_message(index, end, out, carried)
    }

    /// Acknowledgements that are due; with `company` (the datagram goes out anyway) those that are pending.
    fn write_acks(
        &mut self,
        now: Instant,
        index: usize,
        company: bool,
        end: usize,
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) {
        let due = self.paths[index]
            .received
            .ack_deadline()
            .is_some_and(|at| at <= now);
        if (due || company) && self.write_news(now, index, end, out) {
            let path = &mut self.paths[index];
            carried.acknowledged = path.received.told(now).map(|largest| (path.id, largest));
        }
        // What another path is missing is told here, too, if this one is faster or the other one gone: the repair then
        // starts earlier, and what arrived is not repaired.
        for other in 0..self.paths.len() {
            let faster = self.views[other].one_way - self.views[index].one_way > WORTH_A_SECOND_ACK;
            if other != index
                && (faster || self.paths[other].link_gone)
                && self.views[index].usable
                && self.paths[other].gap_news
            {
                self.paths[other].gap_news = false;
                if let Some(ack) = self.paths[other].received.frame(now) {
                    frame::write_ack(out, &ack, end.saturating_sub(out.len()));
                }
            }
        }
    }

    /// The path's acknowledgement, if it says anything new; [`Received::told`](crate::path::received::Received::told)
    /// follows when it leaves.
    fn write_news(&self, now: Instant, index: usize, end: usize, out: &mut Vec<u8>) -> bool {
        let received = &self.paths[index].received;
        if !received.has_news() {
            return false;
        }
        received
            .frame(now)
            .is_some_and(|ack| frame::write_ack(out, &ack, end.saturating_sub(out.len())))
    }

    /// Repairs, copies and new data, as much as fits.
    fn write_data(
        &mut self,
        now: Instant,
        index: usize,
        out: &mut Vec<u8>,
        end: usize,
        carried: &mut Carried,
    ) {
        let wan = self.paths[index].wan;
        let path = &self.paths[index];
        let full_room = path.mtu.current() - path.parity.reserve() - DATA_OVERHEAD;
        if !takes_part(index, &self.views) {
            // A reserve rests from repairs, too, while better ones live.
            return;
        }
        // Nobody else can take what this WAN lost.
        let alone = !(0..self.views.len()).any(|other| {
            let view = self.views[other];
            view.usable && view.wan != wan && takes_part(other, &self.views)
        });
        while end.saturating_sub(out.len()) >= LEAST_ROOM {
            let room = end - out.len();
            let mut repair = self.store.next_urgent(now, wan, alone);
            if repair.is_none() && self.store.has_repairs() {
                // A dead path's transfers take the others for a long time; who waits for a small packet does not.
                let early = room > full_room / 2;
                if early && self.write_interactive(now, index, (room, full_room), out, carried) {
                    continue;
                }
                repair = self.store.next_repair(now, wan, alone);
            }
            if let Some(repair) = repair {
                if self.write_repair(now, index, &repair, room, out, carried) {
                    if repair.losses >= LOSSES_BEFORE_COPY && !alone {
                        // A repair was lost, too: this time it goes over two WANs.
                        self.store.suspect(repair.id);
                    }
                    if repair.why == Repair::Suspicion && !alone && self.paths[index].is_lossy() {
                        // If this copy got lost, the transfer would stand still for as long again.
                        self.store.copy_again(repair.id);
                    }
                    continue;
                }
                self.store.put_back(&repair);
                break;
            }
            if self.scheduler.duplicates() && self.write_copy(now, index, room, out, carried) {
                continue;
            }
            if self.queues.is_empty() || !self.limit.allows(now) {
                break;
            }
            let little = carried.pieces.is_empty() && self.queues.backlog_bytes() < GATHER;
            if little && now < self.paths[index].gathers_until() {
                break;
            }
            let backlog = Backlog {
                deepest: self.queues.deepest_backlog(),
                flows: self.queues.backlogged_flows() as u64,
            };
            let want = match self.scheduler.take(index, &self.views, backlog) {
                Take::Nothing => break,
                Take::Anything => Want::Head,
                Take::Depth(depth) => Want::Depth(depth),
            };
            let room_now = Room {
                left: room,
                full: full_room,
            };
            let Some(piece) = self.queues.next(now, room_now, want, &self.compressor) else {
                break;
            };
            self.limit.left(now, &piece);
            self.encode_piece(&piece, room, out, carried);
            let id = self.store.insert(piece, now);
            if self.scheduler.duplicates() {
                self.hand_copies_to_others(index, id);
            }
            self.note_piece(index, id, carried);
            if self.paths[index].doubtful && !alone {
                self.store.copy_if_urgent(id, &mut self.doubt_budget);
            }
        }
    }

    /// Writes what somebody waits for, before repairs of what is only waited for in its order. True if there was any.
    fn write_interactive(
        &mut self,
        now: Instant,
        index: usize,
        (left, full): (usize, usize),
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) -> bool {
        let heads = || self.scheduler.take(index, &self.views, Backlog::default()) == Take::Anything;
        let waits = self.queues.has_interactive() && self.limit.allows(now);
        if self.scheduler.duplicates() || !waits || !heads() {
            return false;
        }
        let room = Room { left, full };
        let Some(piece) = self.queues.next(now, room, Want::Interactive, &self.compressor) else {
            return false;
        };
        self.limit.left(now, &piece);
        self.encode_piece(&piece, left, out, carried);
        let id = self.store.insert(piece, now);
        self.note_piece(index, id, carried);
        true
    }

    /// Writes a repair, cut if need be; false if the datagram has no room for it.
    fn write_repair(
        &mut self,
        now: Instant,
        index: usize,
        repair: &RepairPiece,
        room: usize,
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) -> bool {
        let mut id = repair.id;
        let mut piece = repair.piece.clone();
        if piece.encoded_len(&self.compressor, true) > room {
            // The next datagram has more room; unless this one is as good as empty.
            if !carried.pieces.is_empty() {
                return false;
            }
            let Some(front) = piece.split_to_fit(room, &self.compressor, true) else {
                return false;
            };
            id = self.store.cut(repair.id, front.clone(), piece, now);
            self.store.put_back(repair);
            piece = front;
        }
        let bytes = piece.body.len() as u64;
        match repair.why {
            Repair::Lost => self.paths[index].counters.repair_bytes += bytes,
            Repair::Suspicion => self.paths[index].counters.copy_bytes += bytes,
        }
        self.write_piece(index, id, &piece, room, out, carried);
        true
    }

    fn write_piece(
        &mut self,
        index: usize,
        id: PieceId,
        piece: &Piece,
        room: usize,
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) {
        self.encode_piece(piece, room, out, carried);
        self.note_piece(index, id, carried);
    }

    fn encode_piece(&mut self, piece: &Piece, room: usize, out: &mut Vec<u8>, carried: &mut Carried) {
        // What leaves no room for another frame needs not say where it ends. A full one is seen without a look at its
        // header, whose length takes some time to find.
        let last = piece.body.len() + LEAST_ROOM > room
            || piece.encoded_len(&self.compressor, true) + LEAST_ROOM > room;
        if let Some(context) = piece.encode(out, &mut self.compressor, last) {
            carried.contexts.push(context);
        }
    }

    fn note_piece(&mut self, index: usize, id: PieceId, carried: &mut Carried) {
        self.store.sent(id, self.paths[index].wan);
        carried.pieces.push(id);
    }

    /// In redundant mode: every other WAN that takes part gets a copy.
    fn hand_copies_to_others(&mut self, first: usize, id: PieceId) {
        let wan = self.paths[first].wan;
        for (index, path) in self.paths.iter_mut().enumerate() {
            let takes_part = self.scheduler.take(
                index,
                &self.views,
                Backlog {
                    deepest: u64::MAX,
                    flows: 1,
                },
            ) != Take::Nothing;
            if path.wan != wan && self.views[index].usable && takes_part {
                if path.copies.len() == MOST_COPIES {
                    path.copies.pop_front();
                }
                path.copies.push_back(id);
            }
        }
    }

    /// In redundant mode: sends what another WAN sent first, unless it came to be of no use. True if one was written.
    fn write_copy(
        &mut self,
        now: Instant,
        index: usize,
        room: usize,
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) -> bool {
        let best = self
            .views
            .iter()
            .filter(|view| view.usable)
            .map(|view| view.one_way)
            .min();
        let behind = self.views[index].one_way.saturating_sub(best.unwrap_or(0));
        while let Some(id) = self.paths[index].copies.front().copied() {
            let worth = self.store.piece(id).is_some()
                && self.store.history(id).is_some_and(|(first_sent, wans)| {
                    let waited = now.since(first_sent).as_nanos() as i64;
                    !wans.contains(self.paths[index].wan)
                        && waited.saturating_add(behind) < USELESS_AFTER_NANOS
                });
            if !worth {
                self.paths[index].copies.pop_front();
                continue;
            }
            let Some(piece) = self.store.piece(id).cloned() else {
                return false;
            };
            if piece.encoded_len(&self.compressor, true) > room {
                return false;
            }
            self.paths[index].copies.pop_front();
            self.paths[index].counters.copy_bytes += piece.body.len() as u64;
            self.write_piece(index, id, &piece, room, out, carried);
            return true;
        }
        false
    }

    /// A datagram of a size that may not pass, to find out whether it does.
    fn write_probe(
        &mut self,
        now: Instant,
        index: usize,
        out: &mut Vec<u8>,
        start: usize,
        carried: &mut Carried,
    ) -> bool {
        let path = &mut self.paths[index];
        if !path.is_usable() || path.amplification_room() < 4096 {
            return false;
        }
        let Some(size) = path.mtu.probe_size(now) else {
            return false;
        };
        path.mtu.on_probe_sent(size);
        carried.probe = Some(size);
        frame::write_ping(out);
        frame::write_padding(out, (start + size - TAG_LEN).saturating_sub(out.len()));
        true
    }

    /// Seals a datagram that is complete, and notes it.
    fn seal(&mut self, now: Instant, index: usize, open: Open, out: &mut Vec<u8>) {
        let Some(keys) = self.keys.as_ref() else { return };
        let path = &mut self.paths[index];
        let payload = path.mtu.current();
        let plaintext = &out[open.start + DATA_HEADER_LEN..];
        let data = !open.carried.pieces.is_empty();
        path.parity.sent(open.number, plaintext, data, payload);
        keys.seal.seal(open.header.path, open.number, out, open.start);
        self.sent(
            now,
            index,
            open.number,
            out.len() - open.start,
            open.eliciting,
            open.carried,
        );
    }

    /// Notes a datagram that was sealed.
    fn sent(
        &mut self,
        now: Instant,
        index: usize,
        number: u64,
        length: usize,
        eliciting: bool,
        carried: Carried,
    ) {
        let path = &mut self.paths[index];
        let bytes = length + path.outer_overhead();
        if !carried.pieces.is_empty() {
            path.data_sent = now;
        }
        path.state.on_sent(now);
        path.counters.sent += 1;
        path.counters.sent_bytes += bytes as u64;
        self.doubt_budget.earn(bytes as u64);
        path.sent
            .on_sent(now, number, bytes as u32, eliciting, path.app_limited, carried);
        if eliciting {
            path.unanswerable = 0;
            path.pacer.on_sent(now, bytes as u64);
            let in_flight = path.sent.in_flight();
            path.congestion.on_sent(now, bytes as u64, in_flight);
        }
        let held_back = || path.window_room() < bytes as u64 || path.pacer.available(now) < bytes as u64;
        if path.app_limited && held_back() {
            path.app_limited = false;
        }
    }

    /// Eight bytes that only the other end can know.
    pub(super) fn challenge(&mut self) -> [u8; 8] {
        self.random.next_u64().to_be_bytes()
    }

    /// Asks a new address of the peer whether it answers; in a datagram of its own, because it goes elsewhere.
    fn answer_new_address(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let index = self
            .paths
            .iter()
            .position(|path| path.moving.as_ref().is_some_and(|moving| moving.ask_at <= now))?;
        let retry = self.paths[index].rtt.probe_timeout(super::path::MAX_ACK_DELAY);
        let path = &mut self.paths[index];
        let moving = path.moving.as_mut()?;
        let (network, challenge) = (moving.network, moving.challenge);
        moving.asked += 1;
        moving.ask_at = now + retry;
        if moving.asked > super::receive::MOVE_ATTEMPTS {
            path.moving = None;
            return None;
        }
        let number = path.sent.next_number();
        let keys = self.keys.as_ref()?;
        let header = DataHeader {
            receiver: keys.remote,
            path: path.id,
            packet_number: number as u32,
        };
        let start = out.len();
        out.extend_from_slice(&header.encode());
        frame::write_challenge(out, challenge);
        keys.seal.seal(header.path, number, out, start);
        let segment_size = out.len() - start;
        self.sent(now, index, number, segment_size, true, Carried::default());
        Some(Transmit {
            network,
            wan: self.paths[index].wan,
            segment_size,
        })
    }
}

/// A datagram whose frames are written.
#[derive(Debug)]
struct Open {
    header: DataHeader,
    number: u64,
    /// Where it begins.
    start: usize,
    /// It wants an acknowledgement.
    eliciting: bool,
    carried: Carried,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Built {
    /// There was nothing to send.
    Nothing,
    /// It was built, and the batch ends with it.
    Alone,
    /// It was built, and another one may follow.
    More,
}
