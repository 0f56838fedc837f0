//! Takes datagrams in: authenticates them, notes their packet numbers, and hands each frame to whom it concerns.

use bytes::{Buf, Bytes, BytesMut};

use super::path::{Carried, MAX_ACK_DELAY, Move, Path};
use super::{LOOK_EVERY, MOST_PATHS, Session, Side};
use crate::congestion::Loss;
use crate::event::Event;
use crate::handshake::Keys;
use crate::ids::{NetworkPath, PathId, WanId};
use crate::inner::context::ContextError;
use crate::path::sent::Sent;
use crate::path::state::Condition;
use crate::settings::WanSettings;
use crate::time::Instant;
use crate::wire::frame::{self, AckFrame, Frame};
use crate::wire::{DATA_HEADER_LEN, DataHeader, expand_packet_number};

/// A new address is asked this often whether it answers.
pub(super) const MOVE_ATTEMPTS: u8 = 5;

/// True if a datagram was sealed by the holder of these keys. Used for the first datagram under new keys only: it
/// works on a copy, so that the datagram can be opened again as the session's.
pub(super) fn authenticates(keys: &Keys, datagram: &[u8], expected: u64) -> bool {
    let Some(header) = DataHeader::decode(datagram) else {
        return false;
    };
    let mut copy = datagram.to_vec();
    let number = expand_packet_number(header.packet_number, expected);
    keys.open.open(header.path, number, &mut copy).is_some()
}

impl Session {
    /// Takes one datagram; true if it was authentic and new.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        network: NetworkPath,
        mut datagram: BytesMut,
        ce: bool,
    ) -> bool {
        let Some(header) = DataHeader::decode(&datagram) else {
            return false;
        };
        let index = self.path_index(header.path);
        let expected = index.map_or(0, |index| self.paths[index].replay.expected());
        let number = expand_packet_number(header.packet_number, expected);
        if index.is_some_and(|index| !self.paths[index].replay.would_accept(number)) {
            return false;
        }
        let length = datagram.len();
        let Some(plaintext_len) = self.open(&header, number, &mut datagram) else {
            return false;
        };
        let index = match index {
            Some(index) => index,
            None => match self.path_opened_by_peer(now, header.path, network) {
                Some(index) => index,
                None => return false,
            },
        };
        datagram.truncate(DATA_HEADER_LEN + plaintext_len);
        datagram.advance(DATA_HEADER_LEN);
        let plaintext = datagram.freeze();
        self.heard_at = now;
        let path = &mut self.paths[index];
        let newest = number >= path.replay.expected();
        path.counters.received += 1;
        path.counters.received_bytes += (length + path.outer_overhead()) as u64;
        if newest && path.network != network {
            self.peer_moved(now, index, network);
        }
        let understood = self.handle_frames(now, index, network, &plaintext);
        self.note_arrival(now, index, number, &plaintext);
        match understood {
            Some(ack_eliciting) => {
                let path = &mut self.paths[index];
                path.replay.mark(number);
                path.received.record(now, number, ack_eliciting, ce);
                path.gap_news |= path.received.take_gap_news();
                true
            }
            // Something in it could not be understood yet: the sender shall believe it lost, and send it again.
            None => true,
        }
    }

    /// Runs once after a batch of datagrams.
    pub(crate) fn after_input(&mut self, now: Instant) {
        self.now = now;
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            for path in &mut self.paths {
                path.adapt_acknowledgements(now);
            }
            self.look_at_losses(now);
            self.update_bulk_target();
        }
        let gap = self.paths.iter().any(|path| path.received.has_recent_gap(now));
        let overdue = self.paths.iter().any(|path| path.is_overdue(now));
        self.resequencer.set_recent_gap(gap);
        self.resequencer.set_path_overdue(overdue);
    }

    fn open(&self, header: &DataHeader, number: u64, datagram: &mut [u8]) -> Option<usize> {
        let old = self.old_keys.as_ref().map(|(keys, _)| keys);
        let keys = [self.keys.as_ref(), old]
            .into_iter()
            .flatten()
            .find(|keys| keys.local == header.receiver)?;
        keys.open.open(header.path, number, datagram)
    }

    /// The client opens paths by using them; the server follows.
    fn path_opened_by_peer(&mut self, now: Instant, id: PathId, network: NetworkPath) -> Option<usize> {
        if self.side == Side::Client {
            return None;
        }
        if self.paths.len() >= MOST_PATHS {
            // The one that is dead for longest makes room.
            let dead = (0..self.paths.len())
                .filter(|index| self.paths[*index].state.condition() == Condition::Down)
                .min_by_key(|index| self.paths[*index].received.last_heard())?;
            let id = self.paths[dead].id;
            self.remove_path(now, id);
        }
        let path = Path::new(
            now,
            Side::Server,
            &self.peer_clock,
            id,
            WanId(id.0.into()),
            network,
            WanSettings::default(),
        );
        self.paths.push(path);
        Some(self.paths.len() - 1)
    }

    /// An authentic datagram came from another address than the path's: it is asked before it is believed.
    fn peer_moved(&mut self, now: Instant, index: usize, network: NetworkPath) {
        if self.side == Side::Client {
            return;
        }
        let challenge = self.challenge();
        let path = &mut self.paths[index];
        if path.moving.as_ref().is_none_or(|known| known.network != network) {
            path.moving = Some(Move {
                network,
                challenge,
                ask_at: now,
                asked: 0,
            });
        }
    }

    /// Handles every frame; returns whether they want an acknowledgement, or nothing if one was not understood.
    fn handle_frames(
        &mut self,
        now: Instant,
        index: usize,
        network: NetworkPath,
        plaintext: &Bytes,
    ) -> Option<bool> {
        let mut at = 0;
        let mut ack_eliciting = false;
        let mut understood = true;
        while let Ok(Some(frame)) = frame::read(plaintext, &mut at) {
            ack_eliciting |= frame.is_ack_eliciting();
            match frame {
                Frame::Padding | Frame::Ping | Frame::Unknown => {}
                Frame::Ack(ack) => self.handle_ack(now, index, &ack),
                Frame::Challenge(challenge) => self.paths[index].response = Some(challenge),
                Frame::Response(response) => self.handle_response(index, network, response),
                Frame::WanStatus(status) => self.handle_wan_status(now, &status),
                Frame::Control(message) => {
                    understood &= self.handle_control(&plaintext.slice(message));
                }
                Frame::Hold(hint) => self.resequencer.set_hold(hint),
                Frame::Skip { flow, offset, length } => {
                    self.resequencer.skip(now, flow, offset, length);
                }
                Frame::Data(data) => {
                    if self.side == Side::Client {
                        self.paths[index].state.on_data(now);
                    }
                    let body = plaintext.slice(data.body.clone());
                    let taken =
                        self.resequencer
                            .receive(now, data.flow, data.ordered, data.offset, data.kind, body);
                    understood &= !taken.is_err_and(ContextError::forbids_acknowledgement);
                }
                Frame::Parity(parity) => self.handle_parity(now, &parity, plaintext),
                Frame::Close { reason } => self.peer_closed(now, reason),
            }
        }
        understood.then_some(ack_eliciting)
    }

    fn handle_ack(&mut self, now: Instant, arrived_on: usize, ack: &AckFrame) {
        let Some(index) = self.path_index(ack.path) else {
            return;
        };
        let mut acked = std::mem::take(&mut self.acked);
        let mut lost = std::mem::take(&mut self.lost);
        let path = &mut self.paths[index];
        let same_path = index == arrived_on;
        let outcome = path.sent.on_ack(
            now,
            ack,
            same_path,
            &mut path.rtt,
            &mut path.delay,
            &mut acked,
            &mut lost,
        );
        let change = outcome
            .newest_sent
            .and_then(|sent| path.state.on_acked(now, sent, &path.rtt));
        let in_flight = path.sent.in_flight();
        if outcome.newest_sent.is_some() {
            path.delay_news = true;
            path.doubtful = false;
            path.rhythm.on_answer(now, in_flight > 0);
        }
        if let Some(sample) = &outcome.rate_sample {
            path.congestion.on_ack(now, sample, in_flight);
        }
        if path.congestion.way_is_longer() {
            path.delay.forget_base(now);
            path.rtt.forget_minimum(now);
        }
        if outcome.spurious_bytes > 0 {
            path.congestion.on_spurious_loss(now, outcome.spurious_bytes);
        }
        path.pacer.set_rate(now, path.congestion.pacing_rate());
        for packet in acked.drain(..) {
            self.packet_acked(now, index, packet);
        }
        self.packets_lost(now, index, &mut lost);
        self.acked = acked;
        self.lost = lost;
        self.changed(now, index, change);
    }

    fn packet_acked(&mut self, now: Instant, index: usize, packet: Sent<Carried>) {
        for piece in &packet.contents.pieces {
            if packet.was_lost {
                self.store.acknowledged_late(*piece);
            } else {
                self.store.acknowledged(*piece);
            }
        }
        for (path, number) in &packet.contents.statuses {
            self.status_acknowledged(*path, *number);
        }
        if let Some(number) = packet.contents.message {
            self.control.acknowledged(number);
        }
        for context in &packet.contents.contexts {
            self.compressor.acknowledged(*context);
        }
        if let Some((path, largest)) = packet.contents.acknowledged
            && let Some(of) = self.path_index(path)
        {
            self.paths[of].received.on_ack_of_ack(largest);
        }
        let path = &mut self.paths[index];
        if packet.ack_eliciting {
            path.note_fate(packet.number, packet.sent, false);
        }
        if packet.was_lost {
            path.decay.on_late();
        }
        if let Some(size) = packet.contents.probe {
            path.mtu.on_probe_acked(now, size);
        } else {
            let payload = packet.bytes as usize - path.outer_overhead();
            path.mtu.on_acked(packet.sent, payload);
        }
        path.counters.spurious += u64::from(packet.was_lost);
    }

    /// What lost packets carried is repaired; their path learns.
    pub(super) fn packets_lost(&mut self, now: Instant, index: usize, lost: &mut Vec<Sent<Carried>>) {
        let mut bytes = 0;
        let mut newest = Instant::ZERO;
        let wan = self.paths[index].wan;
        for packet in lost.drain(..) {
            for piece in &packet.contents.pieces {
                self.store.lost(now, *piece, wan);
            }
            for (path, number) in &packet.contents.statuses {
                self.status_lost(*path, *number);
            }
            if let Some(number) = packet.contents.message {
                self.control.lost(number);
            }
            let path = &mut self.paths[index];
            path.counters.lost += 1;
            if let Some(size) = packet.contents.probe {
                // A probe that is too large is no sign of congestion.
                path.mtu.on_probe_lost(now, size);
            } else {
                path.note_fate(packet.number, packet.sent, true);
                bytes += u64::from(packet.bytes);
                let payload = packet.bytes as usize - path.outer_overhead();
                path.mtu.on_lost(now, packet.sent, payload, path.rtt.smoothed());
                newest = newest.max(packet.sent);
            }
        }
        if bytes > 0 {
            let path = &mut self.paths[index];
            let loss = Loss {
                bytes,
                sent: newest,
                in_flight: path.sent.in_flight(),
            };
            path.congestion.on_loss(now, &loss);
        }
    }

    fn handle_response(&mut self, index: usize, network: NetworkPath, response: [u8; 8]) {
        let path = &mut self.paths[index];
        if path
            .moving
            .as_ref()
            .is_some_and(|known| known.challenge == response)
            && let Some(known) = path.moving.take()
        {
            path.network = known.network;
            path.validated = true;
            self.events.push_back(Event::PathMoved {
                path: path.id,
                network: path.network,
            });
        } else if path.challenge == Some(response) && (self.side == Side::Client || path.network == network) {
            path.challenge = None;
            path.validated = true;
        }
    }
}

impl Path {
    /// Nothing arrived on it for longer than its usual spacing although something was to be expected.
    fn is_overdue(&self, now: Instant) -> bool {
        let spacing = self.received.usual_spacing();
        let Some(heard) = self.received.last_heard() else {
            return false;
        };
        let silence = now.since(heard);
        silence > spacing * 4 + MAX_ACK_DELAY && silence < self.silence_limit()
    }
}
