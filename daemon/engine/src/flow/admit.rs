//! Takes packets in: finds their flow, gives them their place in its order, and bounds what waits.

use bytes::Bytes;

use super::item::{Item, ItemKind};
use super::table::{Flow, List, Slot};
use super::{DropReason, FlowQueues, ITEM_COST};
use crate::inner::offload::Segmentation;
use crate::inner::packet::{self, protocol, tcp_flags};
use crate::inner::{Class, Parsed, VirtioHeader, parse, segment};
use crate::time::Instant;

/// Kernels cut into nothing smaller; it bounds the memory that cutting takes.
const SMALLEST_SEGMENT: usize = 88;

impl FlowQueues {
    /// Takes a packet or a super-segment in. What is dropped later, because it waits too long or too much waits, is
    /// announced to the peer.
    pub fn enqueue(&mut self, now: Instant, header: VirtioHeader, packet: Bytes) -> Result<(), DropReason> {
        let parsed = parse(&packet).map_err(|_| DropReason::Malformed)?;
        if packet.len() > usize::from(u16::MAX) {
            return Err(DropReason::Malformed);
        }
        let fits = match header.segmentation {
            Segmentation::None => true,
            Segmentation::Tcp4 | Segmentation::Tcp6 => parsed.tcp.is_some(),
            Segmentation::Udp => parsed.key.protocol == protocol::UDP && parsed.transport_len == 8,
        };
        let size = usize::from(header.segment_size);
        if header.segmentation != Segmentation::None && (size < SMALLEST_SEGMENT || parsed.payload_len == 0) {
            return Err(DropReason::Offload);
        }
        if !fits {
            return Err(DropReason::Offload);
        }
        let slot = self
            .table
            .find(now, &parsed.key)
            .ok_or(DropReason::TooManyFlows)?;
        let flow = &mut self.table[slot];
        flow.last_packet = now;
        flow.demand.count(now, packet.len());
        flow.reminder.note(now, &packet, &parsed);
        self.statistics.enqueued += 1;
        if parsed.is_divisible() && checksum_is_sure(&header, &packet, &parsed) {
            self.admit_range(now, slot, &header, packet, &parsed);
        } else if header.segmentation != Segmentation::None {
            let mut pool = std::mem::take(&mut self.pool);
            let memory = pool.room(packet.len() + packet.len().div_ceil(size) * parsed.headers_len());
            segment::cut_at_borders(&packet, &parsed, size, memory, |whole| {
                self.admit_packet(now, slot, whole, &parsed);
            });
            self.pool = pool;
        } else if header.needs_checksum {
            let room = self.pool.room(packet.len());
            room.extend_from_slice(&packet);
            let mut copy = room.split();
            if !segment::complete_checksum(&mut copy, header.checksum_start, header.checksum_offset) {
                return Err(DropReason::Offload);
            }
            self.admit_packet(now, slot, copy.freeze(), &parsed);
        } else {
            self.admit_packet(now, slot, packet, &parsed);
        }
        self.shed();
        Ok(())
    }

    fn admit_range(
        &mut self,
        now: Instant,
        slot: Slot,
        header: &VirtioHeader,
        mut body: Bytes,
        parsed: &Parsed,
    ) {
        let ordered = !parsed.is_pure_acknowledgement();
        let headers = body.split_to(parsed.headers_len());
        let flow = &mut self.table[slot];
        if !ordered && replaces_last(flow, &headers, parsed) {
            self.statistics.thinned += 1;
            return;
        }
        let segment_size = if !ordered {
            1
        } else if header.segmentation == Segmentation::None {
            let largest = usize::from(flow.largest_packet).saturating_sub(headers.len());
            largest.max(body.len()).max(1)
        } else {
            usize::from(header.segment_size)
        };
        let largest = (headers.len() + segment_size.min(body.len())) as u16;
        flow.largest_packet = flow.largest_packet.max(largest);
        let kind = ItemKind::Range {
            header: headers,
            position: 0,
            end: body.len() as u32,
            segment_size: segment_size as u16,
        };
        self.push(now, slot, ordered, body, kind, parsed.ecn != 0);
    }

    fn admit_packet(&mut self, now: Instant, slot: Slot, body: Bytes, parsed: &Parsed) {
        let ordered = match parsed.tcp {
            Some(tcp) => {
                tcp.flags & (tcp_flags::SYN | tcp_flags::RST) == 0 && !parsed.is_pure_acknowledgement()
            }
            // What begins with full packets is a transfer, and QUIC takes three overtaken packets for a loss.
            None => parsed.class == Class::Bulk && self.table[slot].demand.is_transfer(now),
        };
        let kind = ItemKind::Packet {
            total: body.len() as u16,
            at: 0,
        };
        self.push(now, slot, ordered, body, kind, parsed.ecn != 0);
    }

    fn push(&mut self, now: Instant, slot: Slot, ordered: bool, body: Bytes, kind: ItemKind, marks: bool) {
        let flow = &mut self.table[slot];
        let next = if ordered {
            &mut flow.offset
        } else {
            &mut self.unordered_offset
        };
        let item = Item {
            offset: *next,
            ordered,
            entered: now,
            body,
            kind,
            marks,
        };
        let bytes = item.bytes();
        *next += bytes;
        flow.items.push_back(item);
        flow.bytes += bytes;
        self.bytes += bytes;
        self.packets += 1;
        if flow.list == List::None {
            flow.list = List::New;
            flow.deficit = self.quantum;
            self.new.push_back(slot);
        }
    }

    /// Drops from the flow that has most waiting, if there is more than there may be in all.
    fn shed(&mut self) {
        const AT_ONCE: usize = 64;
        while self.bytes + self.packets * ITEM_COST > self.limit {
            let cost = |slot: &Slot| {
                let flow = &self.table[*slot];
                flow.bytes + flow.items.len() as u64 * ITEM_COST
            };
            let Some(fattest) = self.active().max_by_key(cost) else {
                return;
            };
            for _ in 0..AT_ONCE {
                if !self.drop_head(fattest) {
                    return;
                }
                self.statistics.dropped_by_limit += 1;
                if self.bytes + self.packets * ITEM_COST <= self.limit {
                    return;
                }
            }
        }
    }

    /// Drops a packet's worth at the head of a flow; false if there is none that may go.
    pub(super) fn drop_head(&mut self, slot: Slot) -> bool {
        let flow = &mut self.table[slot];
        // The rest of a packet that is half sent must follow, or the half is of no use.
        let index = usize::from(flow.items.front().is_some_and(Item::is_begun_packet));
        let Some(item) = flow.items.get_mut(index) else {
            return false;
        };
        let (offset, ordered, flow_id) = (item.offset, item.ordered, flow.id);
        let units = match &item.kind {
            ItemKind::Range { segment_size, .. } if item.body.len() > usize::from(*segment_size) => {
                u32::from(*segment_size)
            }
            _ => item.units(),
        };
        self.take_front(slot, index, units);
        if ordered {
            self.announce_skip(flow_id, offset, units);
        }
        true
    }
}

/// Whether the checksum is known to be right, or will be made: only then may the packet be cut. Computing a new one
/// would hide that the old one was wrong.
fn checksum_is_sure(header: &VirtioHeader, bytes: &[u8], parsed: &Parsed) -> bool {
    if header.needs_checksum {
        usize::from(header.checksum_start) == parsed.header_len && header.checksum_offset == 16
    } else {
        header.data_valid || packet::checksums_are_right(bytes, parsed)
    }
}

/// Puts an acknowledgement in the place of the last one that waits, if that one says nothing else: as if the network
/// had lost that one, which the newer one makes good at once. None waits for this.
fn replaces_last(flow: &mut Flow, headers: &Bytes, parsed: &Parsed) -> bool {
    let (Some(last), Some(tcp)) = (flow.items.back_mut(), parsed.tcp) else {
        return false;
    };
    let ItemKind::Range { header, .. } = &mut last.kind else {
        return false;
    };
    if last.ordered || header.len() != headers.len() || tcp.selective || tcp.flags != tcp_flags::ACK {
        return false;
    }
    let Some(before) = parse(header).ok().and_then(|parsed| parsed.tcp) else {
        return false;
    };
    // One that does not advance is a sign of loss, or opens the window: each of them counts.
    let advance = tcp.acknowledgement.wrapping_sub(before.acknowledgement) as i32;
    let obsolete = before.flags == tcp_flags::ACK && !before.selective && before.sequence == tcp.sequence;
    if obsolete && advance > 0 {
        *header = headers.clone();
        return true;
    }
    false
}
