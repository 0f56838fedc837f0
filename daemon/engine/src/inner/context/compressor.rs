//! The sender's contexts: what the peer is known to have, and how a header is said in terms of it.

use std::collections::HashMap;

use super::template::{self, Template, Variable};
use super::{SENDER_CONTEXTS, flags, more, zigzag};
use crate::ids::FlowId;
use crate::inner::packet::{SeededHash, tcp_flags};
use crate::inner::piece::SegmentHeader;
use crate::wire::varint;

/// A context, by its sender's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextId(pub u32);

/// Pieces with dear headers between two definitions of a flow that has an acknowledged context.
const PIECES_BETWEEN_DEFINITIONS: u32 = 32;
/// A header that takes more than this beside its number is dear: a newer context would pay.
const DEAR: usize = 9;

/// A flow's data and its pure acknowledgements change in different fields, so each has contexts of its own.
type Key = (FlowId, bool);

#[derive(Clone, Debug)]
struct Context {
    id: ContextId,
    key: Key,
    template: Template,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The newest one that the peer acknowledged.
    acknowledged: Option<ContextId>,
    /// One that was sent, and not acknowledged yet.
    pending: Option<ContextId>,
    /// Pieces since the last definition.
    pieces: u32,
}

/// Says headers in terms of what the peer has. One for each direction of a session.
#[derive(Debug)]
pub struct Compressor {
    /// By number modulo its length.
    contexts: Vec<Context>,
    next: ContextId,
    flows: HashMap<Key, Known, SeededHash>,
}

/// What to write for a piece.
struct Plan {
    reference: Reference,
    differences: Differences,
}

enum Reference {
    /// The peer has it.
    Acknowledged(ContextId),
    /// The peer may have it: it goes along.
    Pending(ContextId),
    /// Made of this piece.
    New,
}

impl Compressor {
    /// Without any context. The seed is for the look-up table alone.
    pub fn new(seed: u64) -> Self {
        Self {
            contexts: Vec::new(),
            next: ContextId(0),
            flows: HashMap::with_hasher(SeededHash(seed)),
        }
    }

    /// The peer acknowledged a datagram that carried the definition of `context`.
    pub fn acknowledged(&mut self, context: ContextId) {
        let Some(key) = self.context(context).map(|found| found.key) else {
            return;
        };
        let Some(known) = self.flows.get_mut(&key) else {
            return;
        };
        if known.pending == Some(context) {
            known.pending = None;
        }
        let newer = |old: ContextId| (context.0.wrapping_sub(old.0) as i32) > 0;
        if known.acknowledged.is_none_or(newer) {
            known.acknowledged = Some(context);
        }
    }

    /// Bytes that the header of a segment piece takes.
    pub fn header_len(&self, segment: &SegmentHeader, ordered: bool, offset: u64) -> usize {
        let plan = self.plan(segment, ordered, offset);
        let definition = match plan.reference {
            Reference::Acknowledged(_) => 0,
            Reference::Pending(id) => {
                self.context(id)
                    .map_or(0, |context| context.template.bytes().len())
                    + 6
            }
            Reference::New => template::covered(&segment.header) + 6,
        };
        2 + definition + plan.differences.len()
    }

    /// Appends the header of a segment piece; returns the context that it defines, if it does.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        segment: &SegmentHeader,
        ordered: bool,
        offset: u64,
    ) -> Option<ContextId> {
        let plan = self.plan(segment, ordered, offset);
        let (id, definition) = match plan.reference {
            Reference::Acknowledged(id) => (id, false),
            Reference::Pending(id) => (id, true),
            Reference::New => {
                let made = Template::new(&segment.header, offset as u32, segment.variable());
                (self.define((segment.flow, ordered), made), true)
            }
        };
        if let Some(known) = self.flows.get_mut(&(segment.flow, ordered)) {
            known.pieces = known.pieces.saturating_add(1);
        }
        let definition_flag = if definition { flags::DEFINITION } else { 0 };
        out.push(plan.differences.flags | definition_flag);
        out.extend_from_slice(&(id.0 as u16).to_be_bytes());
        if let Some(context) = self.context(id).filter(|_| definition) {
            out.extend_from_slice(&context.template.offset.to_be_bytes());
            out.extend_from_slice(&context.template.variable.segment_size.to_be_bytes());
            out.extend_from_slice(context.template.bytes());
        }
        out.extend_from_slice(plan.differences.bytes());
        definition.then_some(id)
    }

    fn plan(&self, segment: &SegmentHeader, ordered: bool, offset: u64) -> Plan {
        let key = (segment.flow, ordered);
        let known = self.flows.get(&key).copied().unwrap_or_default();
        let usable = |id: Option<ContextId>| {
            let context = self.context(id?)?;
            template::same_constants(context.template.bytes(), &segment.header).then_some(context)
        };
        let variable = segment.variable();
        let against =
            |template: &Template| Differences::new(segment, &variable, template, ordered, offset as u32);
        if let Some(context) = usable(known.acknowledged) {
            let differences = against(&context.template);
            if !differences.dear || known.pieces < PIECES_BETWEEN_DEFINITIONS {
                return Plan {
                    reference: Reference::Acknowledged(context.id),
                    differences,
                };
            }
        } else if let Some(context) = usable(known.pending) {
            return Plan {
                reference: Reference::Pending(context.id),
                differences: against(&context.template),
            };
        }
        Plan {
            reference: Reference::New,
            differences: against(&Template::new(&segment.header, offset as u32, variable)),
        }
    }

    /// A context that may still be referred to.
    fn context(&self, id: ContextId) -> Option<&Context> {
        let slot = self.contexts.get((id.0 % SENDER_CONTEXTS) as usize)?;
        (slot.id == id).then_some(slot)
    }

    fn define(&mut self, key: Key, template: Template) -> ContextId {
        let id = self.next;
        self.next = ContextId(id.0.wrapping_add(1));
        let context = Context { id, key, template };
        let slot = (id.0 % SENDER_CONTEXTS) as usize;
        if slot < self.contexts.len() {
            let old = std::mem::replace(&mut self.contexts[slot], context);
            self.forget(&old);
        } else {
            self.contexts.push(context);
        }
        let known = self.flows.entry(key).or_default();
        known.pending = Some(id);
        known.pieces = 0;
        id
    }

    fn forget(&mut self, old: &Context) {
        if let Some(known) = self.flows.get_mut(&old.key) {
            known.acknowledged = known.acknowledged.filter(|id| *id != old.id);
            known.pending = known.pending.filter(|id| *id != old.id);
            if known.acknowledged.is_none() && known.pending.is_none() {
                self.flows.remove(&old.key);
            }
        }
    }
}

/// The bytes behind number and definition.
struct Differences {
    flags: u8,
    more: u8,
    bytes: [u8; 96],
    len: usize,
    /// A newer context would make this shorter.
    dear: bool,
}

impl Differences {
    fn new(segment: &SegmentHeader, now: &Variable, template: &Template, ordered: bool, offset: u32) -> Self {
        let base = &template.variable;
        let mut made = Self {
            flags: 0,
            more: 0,
            bytes: [0; 96],
            len: 0,
            dear: false,
        };
        let options = &segment.header[template::covered(&segment.header)..];
        let keeps_identification = template::keeps_identification(&segment.header);
        if keeps_identification {
            made.more |= more::IDENTIFICATION;
        }
        if now.segment_size != base.segment_size {
            made.more |= more::SEGMENT_SIZE;
        }
        if !options.is_empty() {
            made.more |= more::OPTIONS;
        }
        if made.more != 0 {
            made.flags |= flags::MORE;
            made.put(&[made.more]);
        }
        let distance = if ordered {
            offset.wrapping_sub(template.offset)
        } else {
            0
        };
        let predicted = base.sequence.wrapping_add(distance);
        if now.sequence != predicted {
            made.flags |= flags::SEQUENCE;
            made.varint(zigzag(now.sequence.wrapping_sub(predicted)));
        }
        if now.acknowledgement != base.acknowledgement {
            made.flags |= flags::ACKNOWLEDGEMENT;
            made.varint(u64::from(now.acknowledgement.wrapping_sub(base.acknowledgement)));
        }
        if now.window != base.window {
            made.flags |= flags::WINDOW;
            made.put(&now.window.to_be_bytes());
        }
        if now.timestamps != base.timestamps {
            made.flags |= flags::TIMESTAMPS;
            for (now, base) in now.timestamps.iter().zip(base.timestamps) {
                made.varint(zigzag(now.wrapping_sub(base)));
            }
        }
        if now.tcp_flags != tcp_flags::ACK {
            made.flags |= flags::TCP_FLAGS;
            made.put(&[now.tcp_flags]);
        }
        if now.traffic_class != base.traffic_class {
            made.flags |= flags::TRAFFIC_CLASS;
            made.put(&[now.traffic_class]);
        }
        if keeps_identification {
            made.put(&now.identification.to_be_bytes());
        }
        if now.segment_size != base.segment_size {
            made.put(&now.segment_size.to_be_bytes());
        }
        // What any context would cost does not count.
        made.dear = made.len > DEAR
            || made.flags & flags::SEQUENCE != 0
            || made.more & more::SEGMENT_SIZE != 0
            || made.flags & flags::TRAFFIC_CLASS != 0;
        if !options.is_empty() {
            made.put(&[options.len() as u8]);
            made.put(options);
        }
        made
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn varint(&mut self, value: u64) {
        match varint::len(value) {
            1 => self.put(&[value as u8]),
            2 => self.put(&(value as u16 | 0x4000).to_be_bytes()),
            4 => self.put(&(value as u32 | 0x8000_0000).to_be_bytes()),
            _ => self.put(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// With the flags.
    fn len(&self) -> usize {
        1 + self.len
    }
}
