//! Reads frames out of an authenticated plaintext. The peer is known, but may be of another version, or broken: nothing here
//! panics, allocates, or reads outside of the plaintext.

use std::time::Duration;

use super::{
    AckFrame, AckRanges, CloseReason, DataFrame, DataKind, Frame, HoldHint, MAX_ACK_RANGES, ParityFrame,
    WanStatus, kind,
};
use crate::ids::{FlowId, PathId};
use crate::settings::{BytesPerSecond, Mode, Priority};
use crate::wire::varint;

/// Why frames cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The plaintext ends within a frame.
    #[error("a frame ends before its end")]
    Truncated,
    /// A type that is not known and does not say its length.
    #[error("a frame of an unknown type")]
    UnknownType,
    /// A field that no sender writes.
    #[error("a frame with an impossible value")]
    Invalid,
}

/// Reads the frame at `at` and moves `at` behind it; none at the end of the plaintext. After an error nothing more can be
/// read.
pub fn read(plaintext: &[u8], at: &mut usize) -> Result<Option<Frame>, FrameError> {
    let Some(first) = plaintext.get(*at).copied() else {
        return Ok(None);
    };
    *at += 1;
    let mut fields = Fields { plaintext, at };
    let frame = match first {
        kind::DATA..=kind::DATA_LAST => Frame::Data(fields.data(first)?),
        kind::PADDING => {
            *fields.at = plaintext.len();
            Frame::Padding
        }
        kind::PING => Frame::Ping,
        kind::ACK => Frame::Ack(fields.ack()?),
        kind::CHALLENGE => Frame::Challenge(fields.array()?),
        kind::RESPONSE => Frame::Response(fields.array()?),
        kind::WAN_STATUS => Frame::WanStatus(fields.wan_status()?),
        kind::HOLD => Frame::Hold(HoldHint {
            skew_us: fields.small_varint()?,
            repair_us: fields.small_varint()?,
        }),
        kind::SKIP => Frame::Skip {
            flow: fields.flow()?,
            offset: fields.u32()?,
            length: fields.small_varint()?,
        },
        kind::CONTROL => Frame::Control(fields.sized()?),
        kind::CLOSE => Frame::Close {
            reason: match fields.u8()? {
                1 => CloseReason::Restarts,
                _ => CloseReason::Ends,
            },
        },
        kind::PARITY => Frame::Parity(fields.parity()?),
        kind::EXTENSION.. => {
            fields.sized()?;
            Frame::Unknown
        }
        _ => return Err(FrameError::UnknownType),
    };
    Ok(Some(frame))
}

/// A cursor over the plaintext.
struct Fields<'a> {
    plaintext: &'a [u8],
    at: &'a mut usize,
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let bytes = self
            .plaintext
            .get(*self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .ok_or(FrameError::Truncated)?;
        *self.at += N;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u64, FrameError> {
        varint::read(self.plaintext, self.at).ok_or(FrameError::Truncated)
    }

    /// A varint that fits 32 bits.
    fn small_varint(&mut self) -> Result<u32, FrameError> {
        u32::try_from(self.varint()?).map_err(|_| FrameError::Invalid)
    }

    fn flow(&mut self) -> Result<FlowId, FrameError> {
        self.small_varint().map(FlowId)
    }

    /// A length and as many bytes.
    fn sized(&mut self) -> Result<std::ops::Range<usize>, FrameError> {
        let length = usize::try_from(self.varint()?).map_err(|_| FrameError::Truncated)?;
        let start = *self.at;
        let end = start.checked_add(length).ok_or(FrameError::Truncated)?;
        if end > self.plaintext.len() {
            return Err(FrameError::Truncated);
        }
        *self.at = end;
        Ok(start..end)
    }

    fn parity(&mut self) -> Result<ParityFrame, FrameError> {
        let fields = self.sized()?;
        let end = fields.end;
        *self.at = fields.start;
        let (path, first, count, key) = (self.u8()?, self.u32()?, self.u8()?, self.u16()?);
        let symbol = *self.at..end;
        *self.at = end;
        if symbol.is_empty() || count == 0 {
            return Err(FrameError::Invalid);
        }
        Ok(ParityFrame {
            path: PathId(path),
            first,
            count,
            key,
            symbol,
        })
    }

    fn data(&mut self, first: u8) -> Result<DataFrame, FrameError> {
        let flow = self.flow()?;
        let offset = self.u32()?;
        let data_kind = match (first >> 2) & 3 {
            0 => DataKind::Packet,
            1 => DataKind::Fragment {
                total: self.u16()?,
                at: self.u16()?,
            },
            _ => DataKind::Segment,
        };
        let body = if first & kind::DATA_LENGTH != 0 {
            self.sized()?
        } else {
            let start = *self.at;
            *self.at = self.plaintext.len();
            start..self.plaintext.len()
        };
        if body.is_empty() {
            return Err(FrameError::Invalid);
        }
        if let DataKind::Fragment { total, at } = data_kind
            && usize::from(at) + body.len() > usize::from(total)
        {
            return Err(FrameError::Invalid);
        }
        Ok(DataFrame {
            flow,
            ordered: first & kind::DATA_ORDERED != 0,
            offset,
            kind: data_kind,
            body,
        })
    }

    fn ack(&mut self) -> Result<AckFrame, FrameError> {
        let path = PathId(self.u8()?);
        let largest = u64::from(self.u32()?);
        let received_at = self.u32()?;
        let delay = Duration::from_micros(u64::from(self.small_varint()?));
        let ecn_ce = self.small_varint()?;
        let further = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if further >= MAX_ACK_RANGES {
            return Err(FrameError::Invalid);
        }
        let mut ranges = AckRanges::new();
        // Distances below `largest`; they wrap here, and come right when the frame is expanded.
        let mut start = u64::from(self.small_varint()?);
        ranges.push_unchecked(largest.wrapping_sub(start), largest);
        for _ in 0..further {
            let end = start + 2 + u64::from(self.small_varint()?);
            start = end + u64::from(self.small_varint()?);
            ranges.push_unchecked(largest.wrapping_sub(start), largest.wrapping_sub(end));
        }
        Ok(AckFrame {
            path,
            largest,
            received_at,
            delay,
            ecn_ce,
            ranges,
        })
    }

    fn wan_status(&mut self) -> Result<WanStatus, FrameError> {
        let path = PathId(self.u8()?);
        let flags = self.u8()?;
        let mode = mode_from_wire(self.u8()?);
        let sequence = self.u32()?;
        let limit_down = if flags & 0x08 != 0 {
            Some(BytesPerSecond(self.varint()?))
        } else {
            None
        };
        Ok(WanStatus {
            path,
            priority: match flags & 3 {
                0 => Priority::Primary,
                1 => Priority::Secondary,
                2 => Priority::Backup,
                _ => Priority::Off,
            },
            limit_down,
            metered: flags & 0x04 != 0,
            gone: flags & 0x10 != 0,
            mode,
            sequence,
        })
    }
}

/// A mode that is not known is `speed`, so that a client of a later version can still use an older server.
pub(crate) fn mode_from_wire(mode: u8) -> Mode {
    match mode {
        1 => Mode::Redundant,
        _ => Mode::Speed,
    }
}
