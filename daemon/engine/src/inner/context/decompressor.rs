//! The receiver's contexts, and headers made whole again.

use std::sync::Arc;

use super::template::{self, Template, Variable};
use super::{RECEIVER_CONTEXTS, flags, more, unzigzag};
use crate::inner::checksum;
use crate::inner::offload::{Segmentation, VirtioHeader};
use crate::inner::packet::{self, protocol, tcp_flags};
use crate::wire::varint;

/// Bytes of the largest header that is rebuilt: IPv6, and TCP with all the options there can be.
const HEAD_MAX: usize = 40 + 60;
/// Smaller segments are delivered one by one: so short ones would make many of one write.
const SMALLEST_MERGED_SEGMENT: u16 = 64;

/// Why the body of a DATA frame cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Its context is not here. The datagram must not be acknowledged: it will be sent again in other words.
    #[error("a segment header whose context is unknown")]
    Unknown,
    /// No sender writes this.
    #[error("a malformed segment header")]
    Malformed,
    /// Too much waits to be fetched already.
    #[error("no room for another piece")]
    Full,
}

impl ContextError {
    /// Whether the same piece will be understood if it is sent again: then its datagram must not be acknowledged.
    pub fn forbids_acknowledgement(self) -> bool {
        matches!(self, Self::Unknown | Self::Full)
    }
}

#[derive(Clone, Debug)]
struct Context {
    id: u16,
    template: Arc<Template>,
}

/// Reads headers that a [`super::Compressor`] wrote. One for each direction of a session.
#[derive(Debug, Default)]
pub struct Decompressor {
    /// By number modulo their count. Grows to [`RECEIVER_CONTEXTS`] and no further.
    contexts: Vec<Option<Context>>,
}

/// A segment's header, as much of it as differs from its context's.
#[derive(Clone, Debug)]
pub struct Segment {
    template: Arc<Template>,
    variable: Variable,
    /// Bytes of further options, which stand before the payload.
    options: u8,
}

/// A rebuilt header.
#[derive(Clone, Copy)]
pub struct Head {
    bytes: [u8; HEAD_MAX],
    len: u8,
}

impl Decompressor {
    /// Without any context.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the segment header in front of `body`; returns it and where the further options begin, behind which the
    /// payload lies (see [`Segment::options_len`]).
    pub fn read(
        &mut self,
        ordered: bool,
        offset: u32,
        body: &[u8],
    ) -> Result<(Segment, usize), ContextError> {
        let mut fields = Fields { body, at: 0 };
        let first = fields.u8()?;
        let id = fields.u16()?;
        let template = if first & flags::DEFINITION != 0 {
            self.define(id, &mut fields)?
        } else {
            self.find(id).ok_or(ContextError::Unknown)?
        };
        let base = &template.variable;
        let mut variable = *base;
        let more = if first & flags::MORE != 0 { fields.u8()? } else { 0 };
        if more & !more::KNOWN != 0 {
            return Err(ContextError::Malformed);
        }
        let distance = if ordered {
            offset.wrapping_sub(template.offset)
        } else {
            0
        };
        variable.sequence = base.sequence.wrapping_add(distance);
        if first & flags::SEQUENCE != 0 {
            variable.sequence = variable.sequence.wrapping_add(fields.difference()?);
        }
        if first & flags::ACKNOWLEDGEMENT != 0 {
            let difference = u32::try_from(fields.varint()?).map_err(|_| ContextError::Malformed)?;
            variable.acknowledgement = base.acknowledgement.wrapping_add(difference);
        }
        if first & flags::WINDOW != 0 {
            variable.window = fields.u16()?;
        }
        if first & flags::TIMESTAMPS != 0 {
            if !template.has_timestamps() {
                return Err(ContextError::Malformed);
            }
            for value in &mut variable.timestamps {
                *value = value.wrapping_add(fields.difference()?);
            }
        }
        variable.tcp_flags = if first & flags::TCP_FLAGS != 0 {
            fields.u8()?
        } else {
            tcp_flags::ACK
        };
        if first & flags::TRAFFIC_CLASS != 0 {
            variable.traffic_class = fields.u8()?;
        }
        if more & more::IDENTIFICATION != 0 {
            variable.identification = fields.u16()?;
        }
        if more & more::SEGMENT_SIZE != 0 {
            variable.segment_size = fields.u16()?;
        }
        if variable.segment_size == 0 {
            return Err(ContextError::Malformed);
        }
        if more & more::IDENTIFICATION == 0 && base.identification != 0 {
            // Means nothing where it is not sent; counting on is what kernels and their merging expect.
            let segments = variable.sequence.wrapping_sub(base.sequence) / u32::from(variable.segment_size);
            variable.identification = base.identification.wrapping_add(segments as u16);
        }
        let mut options = 0;
        if more & more::OPTIONS != 0 {
            options = fields.u8()?;
            let room = 40 - (template.bytes().len() - template::ip_len(template.bytes()) - 20);
            if usize::from(options) > room || options % 4 != 0 || fields.rest() < usize::from(options) {
                return Err(ContextError::Malformed);
            }
        }
        let segment = Segment {
            template,
            variable,
            options,
        };
        Ok((segment, fields.at))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.contexts.len()
    }

    fn find(&self, id: u16) -> Option<Arc<Template>> {
        let slot = self.contexts.get(usize::from(id) % RECEIVER_CONTEXTS)?;
        slot.as_ref()
            .filter(|context| context.id == id)
            .map(|context| Arc::clone(&context.template))
    }

    fn define(&mut self, id: u16, fields: &mut Fields<'_>) -> Result<Arc<Template>, ContextError> {
        let offset = fields.u32()?;
        let segment_size = fields.u16()?;
        let bytes = &fields.body[fields.at..];
        if let Some(known) = self.find(id) {
            // The same again: it goes along until it is acknowledged.
            let same = known.offset == offset
                && known.variable.segment_size == segment_size
                && bytes.starts_with(known.bytes());
            if same {
                fields.at += known.bytes().len();
                return Ok(known);
            }
        }
        let template = Template::read(bytes, offset, segment_size).ok_or(ContextError::Malformed)?;
        fields.at += template.bytes().len();
        let template = Arc::new(template);
        let slot = usize::from(id) % RECEIVER_CONTEXTS;
        if self.contexts.len() <= slot {
            self.contexts.resize(slot + 1, None);
        }
        // A late definition must not take the place of a newer one; it serves for its own piece.
        let newer = |old: &Context| (id.wrapping_sub(old.id) as i16) >= 0;
        if self.contexts[slot].as_ref().is_none_or(newer) {
            self.contexts[slot] = Some(Context {
                id,
                template: Arc::clone(&template),
            });
        }
        Ok(template)
    }
}

impl Segment {
    /// Bytes of further options between the segment header and the payload.
    pub fn options_len(&self) -> usize {
        usize::from(self.options)
    }

    /// Payload bytes of a full segment.
    pub fn segment_size(&self) -> usize {
        usize::from(self.variable.segment_size)
    }

    /// Bytes of the header when it is whole.
    pub fn header_len(&self) -> usize {
        self.template.bytes().len() + self.options_len()
    }

    /// Whether `next`, which begins `distance` payload bytes behind this one's beginning, may be delivered in one piece
    /// with it: nothing but position and the flags of a last segment differs.
    pub fn continues_with(&self, next: &Self, distance: u32) -> bool {
        let (a, b) = (&self.variable, &next.variable);
        let last_flags = tcp_flags::PSH | tcp_flags::FIN;
        self.options == 0
            && next.options == 0
            && a.segment_size >= SMALLEST_MERGED_SEGMENT
            && a.segment_size == b.segment_size
            && b.sequence == a.sequence.wrapping_add(distance)
            && a.acknowledgement == b.acknowledgement
            && a.timestamps == b.timestamps
            && a.window == b.window
            && a.traffic_class == b.traffic_class
            && a.tcp_flags & last_flags == 0
            && (a.tcp_flags & !tcp_flags::CWR) == (b.tcp_flags & !last_flags)
            && (Arc::ptr_eq(&self.template, &next.template)
                || template::same_constants(self.template.bytes(), next.template.bytes()))
            && (!template::keeps_identification(self.template.bytes())
                || b.identification
                    == a.identification
                        .wrapping_add((distance / u32::from(a.segment_size)) as u16))
    }

    /// Takes over the flags of a last segment.
    pub fn merge_flags(&mut self, last: &Self) {
        self.variable.tcp_flags |= last.variable.tcp_flags & (tcp_flags::PSH | tcp_flags::FIN);
    }

    /// Cuts off the first `bytes` of payload, and with them the further options, whose bytes are returned.
    pub fn cut_front(&mut self, bytes: u32) -> usize {
        self.variable.sequence = self.variable.sequence.wrapping_add(bytes);
        self.variable.tcp_flags &= !tcp_flags::CWR;
        usize::from(std::mem::take(&mut self.options))
    }

    /// Something was cut off behind.
    pub fn cut_back(&mut self) {
        self.variable.tcp_flags &= !(tcp_flags::PSH | tcp_flags::FIN);
    }

    /// Rebuilds the header before `payload_len` bytes of payload. The TCP checksum is left to the kernel. `options` are
    /// the further options.
    pub fn rebuild(&self, options: &[u8], payload_len: usize) -> (VirtioHeader, Head) {
        let mut head = Head {
            bytes: [0; HEAD_MAX],
            len: 0,
        };
        let covered = self.template.bytes().len();
        let len = covered + options.len().min(HEAD_MAX - covered);
        head.len = len as u8;
        head.bytes[..covered].copy_from_slice(self.template.bytes());
        head.bytes[covered..len].copy_from_slice(&options[..len - covered]);
        let bytes = &mut head.bytes[..len];
        let ip = template::ip_len(bytes);
        let variable = &self.variable;
        template::set_traffic_class(bytes, variable.traffic_class);
        let transport_len = len - ip + payload_len;
        if ip == 20 {
            bytes[2..4].copy_from_slice(&((ip + transport_len) as u16).to_be_bytes());
            bytes[4..6].copy_from_slice(&variable.identification.to_be_bytes());
            let sum = checksum::fold(checksum::add(0, &bytes[..20]));
            bytes[10..12].copy_from_slice(&(!sum).to_be_bytes());
        } else {
            bytes[4..6].copy_from_slice(&(transport_len as u16).to_be_bytes());
        }
        let pseudo = checksum::pseudo(packet::addresses(bytes), protocol::TCP, transport_len);
        let tcp = &mut bytes[ip..];
        tcp[4..8].copy_from_slice(&variable.sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&variable.acknowledgement.to_be_bytes());
        tcp[12] = ((len - ip) as u8 / 4) << 4;
        tcp[13] = variable.tcp_flags;
        tcp[14..16].copy_from_slice(&variable.window.to_be_bytes());
        tcp[16..18].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        if self.template.has_timestamps() {
            tcp[24..28].copy_from_slice(&variable.timestamps[0].to_be_bytes());
            tcp[28..32].copy_from_slice(&variable.timestamps[1].to_be_bytes());
        }
        let segmented = payload_len > self.segment_size();
        let segmentation = match (segmented, ip) {
            (false, _) => Segmentation::None,
            (true, 20) => Segmentation::Tcp4,
            (true, _) => Segmentation::Tcp6,
        };
        let header = VirtioHeader {
            needs_checksum: true,
            data_valid: false,
            segmentation,
            ecn: segmented && variable.tcp_flags & tcp_flags::CWR != 0,
            header_len: len as u16,
            segment_size: if segmented { variable.segment_size } else { 0 },
            checksum_start: ip as u16,
            checksum_offset: 16,
        };
        (header, head)
    }
}

impl Head {
    /// No header: the packet lies in the parts as a whole.
    pub const EMPTY: Self = Self {
        bytes: [0; HEAD_MAX],
        len: 0,
    };
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::ops::Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Head({} bytes)", self.len)
    }
}

/// A cursor over a frame's body.
struct Fields<'a> {
    body: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ContextError> {
        let bytes = self.body[self.at..]
            .first_chunk()
            .ok_or(ContextError::Malformed)?;
        self.at += N;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, ContextError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, ContextError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, ContextError> {
        self.array().map(u32::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u64, ContextError> {
        varint::read(self.body, &mut self.at).ok_or(ContextError::Malformed)
    }

    fn difference(&mut self) -> Result<u32, ContextError> {
        unzigzag(self.varint()?).ok_or(ContextError::Malformed)
    }

    fn rest(&self) -> usize {
        self.body.len() - self.at
    }
}
