//! Forward error correction of a path: when parity leaves, and what is done with what it brings back.

use bytes::Bytes;

use super::Session;
use super::path::Path;
use crate::fec::{self, Budget, Decoder, Encoder, Policy, Span};
use crate::time::Instant;
use crate::wire::frame::{self, Frame, PARITY_OVERHEAD, ParityFrame};
use crate::wire::{DATA_OVERHEAD, expand_offset};

/// A peer that has sent no parity for so long is not about to: what was kept for it is given back.
const PARITY_ENDED: std::time::Duration = std::time::Duration::from_secs(5);

/// The parity of one path, in both directions.
#[derive(Debug)]
pub(super) struct Parity {
    pub(super) policy: Policy,
    encoder: Encoder,
    budget: Budget,
    /// From the peer's first parity on.
    decoder: Option<Box<Decoder>>,
    /// When the last one came.
    heard_at: Instant,
}

impl Parity {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            policy: Policy::default(),
            encoder: Encoder::default(),
            budget: Budget::new(now),
            decoder: None,
            heard_at: now,
        }
    }

    /// Bytes by which data datagrams of `payload` bytes stay shorter so that a parity of them fits the path.
    pub(super) fn reserve(&self) -> usize {
        if self.policy.is_active() {
            PARITY_OVERHEAD + fec::LENGTH_BYTES
        } else {
            0
        }
    }

    /// A datagram of a path that carries `payload` bytes leaves with these frames, of which some are `data`.
    pub(super) fn sent(&mut self, number: u64, plaintext: &[u8], data: bool, payload: usize) {
        if self.policy.is_active() {
            let longest = payload.saturating_sub(DATA_OVERHEAD + PARITY_OVERHEAD);
            self.encoder.push(number, protected(plaintext), data, longest);
        } else {
            self.encoder.stop();
        }
    }
}

/// What counts of a datagram: nothing if it is a parity itself, or each would be longer than those that it covers.
fn protected(plaintext: &[u8]) -> &[u8] {
    match plaintext {
        [frame::PARITY, ..] => &[],
        _ => plaintext,
    }
}

impl Path {
    /// When the last packets of a path that became idle get their parity.
    pub(super) fn parity_deadline(&self) -> Option<Instant> {
        let waits = self.parity.policy.is_active() && self.parity.encoder.uncovered() > 0;
        (waits && self.is_usable() && !self.settings.metered).then(|| self.data_sent + fec::IDLE)
    }
}

/// Why a parity is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Between data, after as many packets as the policy says.
    Busy,
    /// The path has nothing else to send.
    Idle,
}

impl Session {
    /// Appends a parity of the path's last packets, if it is time for one. It takes a datagram for itself.
    pub(super) fn write_parity(
        &mut self,
        now: Instant,
        index: usize,
        moment: Moment,
        out: &mut Vec<u8>,
    ) -> bool {
        let path = &mut self.paths[index];
        let parity = &mut path.parity;
        let uncovered = parity.encoder.uncovered();
        let count = match moment {
            _ if uncovered == 0 || !parity.policy.is_active() => return false,
            Moment::Busy => match parity
                .policy
                .busy(path.rtt.minimum(), path.congestion.bandwidth())
            {
                Some(due) if uncovered >= due.interval => due.span,
                _ => return false,
            },
            Moment::Idle => {
                let rate = path.congestion.bandwidth();
                let idle = now >= path.data_sent + fec::IDLE && !path.settings.metered;
                if !idle || !parity.budget.allows(now, rate, path.mtu.current() as u64) {
                    return false;
                }
                Policy::idle(parity.encoder.since())
            }
        };
        let mut symbol = std::mem::take(&mut self.parity);
        symbol.clear();
        let span = parity.encoder.parity(count, &mut symbol);
        if let Some(span) = span {
            frame::write_parity(
                out,
                path.id,
                span.first as u32,
                span.count as u8,
                span.key,
                &symbol,
            );
            let bytes = symbol.len() as u64;
            path.counters.parity_bytes += bytes;
            if moment == Moment::Idle {
                path.parity.budget.take(bytes);
            }
        }
        self.parity = symbol;
        span.is_some()
    }

    /// A datagram arrived on a path: perhaps it was what an earlier parity lacked.
    pub(super) fn note_arrival(&mut self, now: Instant, index: usize, number: u64, plaintext: &[u8]) {
        let Some(mut decoder) = self.paths[index].parity.decoder.take() else {
            return;
        };
        let mut recovered = Vec::new();
        decoder.arrived(number, protected(plaintext), &mut recovered);
        if now.since(self.paths[index].parity.heard_at) < PARITY_ENDED {
            self.paths[index].parity.decoder = Some(decoder);
        }
        self.take_recovered(now, index, recovered);
    }

    /// The peer's parity of one of our paths.
    pub(super) fn handle_parity(&mut self, now: Instant, parity: &ParityFrame, plaintext: &[u8]) {
        let Some(index) = self.path_index(parity.path) else {
            return;
        };
        let path = &mut self.paths[index];
        let span = Span {
            first: expand_offset(parity.first, path.replay.expected()),
            count: parity.count.into(),
            key: parity.key,
        };
        path.parity.heard_at = now;
        let decoder = path.parity.decoder.get_or_insert_default();
        let mut recovered = Vec::new();
        if let Some(symbol) = plaintext.get(parity.symbol.clone()) {
            decoder.parity(span, symbol, &mut recovered);
        }
        self.take_recovered(now, index, recovered);
    }

    /// What was computed is taken as if it had come, but for what is only true of a datagram's own time and way: it is not
    /// acknowledged, so that its sender learns of the loss.
    fn take_recovered(&mut self, now: Instant, index: usize, recovered: Vec<(u64, Bytes)>) {
        for (_, plaintext) in recovered {
            self.paths[index].counters.recovered += 1;
            let mut at = 0;
            while let Ok(Some(frame)) = frame::read(&plaintext, &mut at) {
                match frame {
                    Frame::Data(data) => {
                        let body = plaintext.slice(data.body.clone());
                        // What cannot be understood yet comes again as a repair.
                        let _ = self.resequencer.receive(
                            now,
                            data.flow,
                            data.ordered,
                            data.offset,
                            data.kind,
                            body,
                        );
                    }
                    Frame::Skip { flow, offset, length } => {
                        self.resequencer.skip(now, flow, offset, length);
                    }
                    _ => {}
                }
            }
        }
    }
}
