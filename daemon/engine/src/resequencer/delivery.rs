//! What leaves the tunnel: one write to the TUN device, gathered from pieces of datagrams.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Held, HeldKind};
use crate::inner::VirtioHeader;
use crate::inner::context::Head;

/// Parts of one delivery: as many as a 64 KiB segment has in datagrams of ordinary size.
const PARTS: usize = 46;
/// Bytes of an IP packet.
const PACKET_MAX: usize = 65_535;

/// A packet or merged segment, to be written as header, head and parts in one gathered write.
#[derive(Debug)]
pub struct Delivery {
    /// What the kernel is to do yet.
    pub header: VirtioHeader,
    /// A rebuilt header, or nothing.
    pub head: Head,
    /// What follows, without copies.
    pub parts: Vec<Bytes>,
    /// The cost of what it was made of.
    pub(super) cost: usize,
}

impl Delivery {
    /// Bytes of the packet.
    pub fn len(&self) -> usize {
        self.head.len() + self.parts.iter().map(Bytes::len).sum::<usize>()
    }

    /// Never true for a delivery that was polled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes a delivery of `first` and of what follows it, as far as that belongs to it. `parts` is an emptied list.
pub(super) fn gather(first: Held, rest: &mut VecDeque<Held>, mut parts: Vec<Bytes>, merge: bool) -> Delivery {
    let mut cost = first.cost();
    let mut segment = match first.kind {
        HeldKind::Segment(segment) => segment,
        HeldKind::Fragment { is_last } => {
            parts.push(first.body);
            let mut more = !is_last;
            while more && let Some(next) = rest.pop_front() {
                cost += next.cost();
                more = matches!(next.kind, HeldKind::Fragment { is_last: false });
                parts.push(next.body);
            }
            return whole(parts, cost);
        }
        HeldKind::Packet | HeldKind::Skip => {
            parts.push(first.body);
            return whole(parts, cost);
        }
    };
    let mut payload = first.body;
    let options = payload.split_to(segment.options_len());
    let mut length = payload.len();
    if length > 0 {
        parts.push(payload);
    }
    while merge && length > 0 && parts.len() < PARTS {
        let Some(HeldKind::Segment(next)) = rest.front().map(|held| &held.kind) else {
            break;
        };
        let more = rest.front().map_or(0, |held| held.body.len());
        let fits = more > 0 && segment.header_len() + length + more <= PACKET_MAX;
        if !fits || !segment.continues_with(next, length as u32) {
            break;
        }
        segment.merge_flags(next);
        if let Some(held) = rest.pop_front() {
            cost += held.cost();
            parts.push(held.body);
        }
        length += more;
    }
    let (header, head) = segment.rebuild(&options, length);
    Delivery {
        header,
        head,
        parts,
        cost,
    }
}

fn whole(parts: Vec<Bytes>, cost: usize) -> Delivery {
    Delivery {
        header: VirtioHeader::default(),
        head: Head::EMPTY,
        parts,
        cost,
    }
}
