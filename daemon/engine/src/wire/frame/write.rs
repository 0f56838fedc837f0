//! Writes frames behind what a datagram already holds.

use super::{AckFrame, CloseReason, DataKind, HoldHint, WanStatus, kind};
use crate::ids::{FlowId, PathId};
use crate::settings::{Mode, Priority};
use crate::wire::varint;

/// Appends `count` bytes of padding. Padding ends a datagram: frames behind it are not read.
pub fn write_padding(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, kind::PADDING);
}

/// Appends a PING.
pub fn write_ping(out: &mut Vec<u8>) {
    out.push(kind::PING);
}

/// Appends an ACK with as many of the ranges, newest first, as fit `room` bytes. False, and nothing is written, if not even
/// the first one does, or there is none.
pub fn write_ack(out: &mut Vec<u8>, ack: &AckFrame, room: usize) -> bool {
    let begin = out.len();
    out.push(kind::ACK);
    out.push(ack.path.0);
    out.extend_from_slice(&(ack.largest as u32).to_be_bytes());
    out.extend_from_slice(&ack.received_at.to_be_bytes());
    let delay = u64::try_from(ack.delay.as_micros()).unwrap_or(u64::MAX);
    varint::write(out, delay.min(u64::from(u32::MAX)));
    varint::write(out, u64::from(ack.ecn_ce));
    // At most 31, so one byte, filled in when it is known what fits.
    let count = out.len();
    out.push(0);
    let mut further = 0;
    let mut above = None;
    for (start, end) in ack.ranges.iter() {
        let before = out.len();
        match above {
            None => varint::write(out, ack.largest - start),
            Some(above) => {
                varint::write(out, above - end - 2);
                varint::write(out, end - start);
                further += 1;
            }
        }
        if out.len() - begin > room {
            out.truncate(before);
            further -= u8::from(above.is_some());
            break;
        }
        above = Some(start);
    }
    if above.is_none() {
        out.truncate(begin);
        return false;
    }
    if let Some(place) = out.get_mut(count) {
        *place = further;
    }
    true
}

/// Appends a CHALLENGE.
pub fn write_challenge(out: &mut Vec<u8>, token: [u8; 8]) {
    out.push(kind::CHALLENGE);
    out.extend_from_slice(&token);
}

/// Appends a RESPONSE.
pub fn write_response(out: &mut Vec<u8>, token: [u8; 8]) {
    out.push(kind::RESPONSE);
    out.extend_from_slice(&token);
}

/// Appends a PARITY whose fields are those of `frame`, with this sum.
pub fn write_parity(out: &mut Vec<u8>, path: PathId, first: u32, count: u8, key: u16, symbol: &[u8]) {
    out.push(kind::PARITY);
    varint::write(out, symbol.len() as u64 + 8);
    out.push(path.0);
    out.extend_from_slice(&first.to_be_bytes());
    out.push(count);
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(symbol);
}

/// Appends a WAN_STATUS.
pub fn write_wan_status(out: &mut Vec<u8>, status: &WanStatus) {
    let priority = match status.priority {
        Priority::Primary => 0,
        Priority::Secondary => 1,
        Priority::Backup => 2,
        Priority::Off => 3,
    };
    let metered = u8::from(status.metered) << 2;
    let limited = u8::from(status.limit_down.is_some()) << 3;
    let gone = u8::from(status.gone) << 4;
    out.extend_from_slice(&[
        kind::WAN_STATUS,
        status.path.0,
        priority | metered | limited | gone,
        mode_to_wire(status.mode),
    ]);
    out.extend_from_slice(&status.sequence.to_be_bytes());
    if let Some(limit) = status.limit_down {
        varint::write(out, limit.0);
    }
}

/// Appends a HOLD.
pub fn write_hold(out: &mut Vec<u8>, hint: HoldHint) {
    out.push(kind::HOLD);
    varint::write(out, u64::from(hint.skew_us));
    varint::write(out, u64::from(hint.repair_us));
}

/// Appends a SKIP of `length` units from `offset` on, of which the low 32 bits are sent.
pub fn write_skip(out: &mut Vec<u8>, flow: FlowId, offset: u64, length: u32) {
    out.push(kind::SKIP);
    varint::write(out, u64::from(flow.0));
    out.extend_from_slice(&(offset as u32).to_be_bytes());
    varint::write(out, u64::from(length));
}

/// Appends a CONTROL.
pub fn write_control(out: &mut Vec<u8>, message: &[u8]) {
    out.push(kind::CONTROL);
    varint::write(out, message.len() as u64);
    out.extend_from_slice(message);
}

/// Appends a CLOSE.
pub fn write_close(out: &mut Vec<u8>, reason: CloseReason) {
    out.extend_from_slice(&[kind::CLOSE, u8::from(reason == CloseReason::Restarts)]);
}

/// Bytes of a DATA frame beside its body; with a length, one byte less if the body is shorter than 64 bytes.
pub fn data_overhead(flow: FlowId, data_kind: DataKind, has_length: bool) -> usize {
    let fragment = if matches!(data_kind, DataKind::Fragment { .. }) {
        4
    } else {
        0
    };
    let length = if has_length { 2 } else { 0 };
    1 + varint::len(u64::from(flow.0)) + 4 + fragment + length
}

/// A DATA frame whose body is being written.
#[derive(Debug)]
#[must_use = "the frame has no length before `finish_data`"]
pub struct DataMark(Option<usize>);

/// Begins a DATA frame of which the body is appended next; then comes [`finish_data`]. Of the offset the low 32 bits are
/// sent. Without a length the frame is the datagram's last.
pub fn begin_data(
    out: &mut Vec<u8>,
    flow: FlowId,
    ordered: bool,
    offset: u64,
    data_kind: DataKind,
    has_length: bool,
) -> DataMark {
    let kind_bits = match data_kind {
        DataKind::Packet => 0,
        DataKind::Fragment { .. } => 1,
        DataKind::Segment => 2,
    };
    let ordered = if ordered { kind::DATA_ORDERED } else { 0 };
    let length = if has_length { kind::DATA_LENGTH } else { 0 };
    out.push(kind::DATA | kind_bits << 2 | length | ordered);
    varint::write(out, u64::from(flow.0));
    out.extend_from_slice(&(offset as u32).to_be_bytes());
    if let DataKind::Fragment { total, at } = data_kind {
        out.extend_from_slice(&total.to_be_bytes());
        out.extend_from_slice(&at.to_be_bytes());
    }
    DataMark(has_length.then(|| {
        out.extend_from_slice(&[0; 2]);
        out.len()
    }))
}

/// Ends the DATA frame: everything behind its beginning is its body, at least one byte and less than 16 KiB.
pub fn finish_data(out: &mut Vec<u8>, mark: DataMark) {
    let DataMark(Some(body)) = mark else {
        return;
    };
    let length = out.len().saturating_sub(body);
    debug_assert!((1..0x4000).contains(&length));
    if length < 0x40 {
        // Small packets are where a byte counts; moving so few costs nothing.
        out.copy_within(body.., body - 1);
        out.pop();
        out[body - 2] = length as u8;
    } else {
        out[body - 2..body].copy_from_slice(&(length as u16 & 0x3fff | 0x4000).to_be_bytes());
    }
}

/// Appends a whole DATA frame.
pub fn write_data(
    out: &mut Vec<u8>,
    flow: FlowId,
    ordered: bool,
    offset: u64,
    data_kind: DataKind,
    has_length: bool,
    body: &[u8],
) {
    let mark = begin_data(out, flow, ordered, offset, data_kind, has_length);
    out.extend_from_slice(body);
    finish_data(out, mark);
}

pub(crate) fn mode_to_wire(mode: Mode) -> u8 {
    match mode {
        Mode::Speed => 0,
        Mode::Redundant => 1,
    }
}
