//! What waits in a flow's queue.

use bytes::Bytes;

use crate::time::Instant;

/// A packet, a super-segment, or what is left of one after pieces were cut from it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Offset of the first unit that is left, in the flow or in the unordered one.
    pub offset: u64,
    pub ordered: bool,
    pub entered: Instant,
    /// What is left of the packet, or of the payload.
    pub body: Bytes,
    pub kind: ItemKind,
    /// Explicit congestion notification is understood.
    pub marks: bool,
}

#[derive(Clone, Debug)]
pub(super) enum ItemKind {
    /// An IP packet of `total` bytes, of which the first `at` are gone.
    Packet { total: u16, at: u16 },
    /// TCP payload that may be cut anywhere, or an acknowledgement without any.
    Range {
        header: Bytes,
        /// Where in the super-segment's payload `body` begins.
        position: u32,
        /// Where it ends.
        end: u32,
        segment_size: u16,
    },
}

impl Item {
    /// Units that are left: the body's bytes, or the header's if there is no payload.
    pub(super) fn units(&self) -> u32 {
        match &self.kind {
            ItemKind::Range { header, .. } if self.body.is_empty() => header.len() as u32,
            _ => self.body.len() as u32,
        }
    }

    /// Bytes that it counts for in the queue.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.units())
    }

    /// A piece of it is under way already, and would be of no use without the rest.
    pub(super) fn is_begun_packet(&self) -> bool {
        matches!(self.kind, ItemKind::Packet { at, .. } if at > 0)
    }
}
