//! Memory for packets: large chunks that reads fill one after another, and that are used again when all is delivered.
//!
//! A read takes as much of a chunk as it filled; the slices of it are handed around without copies, by count of
//! references. Unlike one buffer per read, small reads do not pin large buffers.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Bytes of one chunk.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait for their last slice; more than that are left to the allocator.
const WAITING: usize = 64;

/// Hands out memory for reads.
#[derive(Debug, Default)]
pub struct Pool {
    current: BytesMut,
    /// The emptied ends of chunks whose slices are still about, oldest first.
    waiting: VecDeque<BytesMut>,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty memory with room for at least `room` bytes (at most 128 KiB). Fill it, then split off what was filled.
    pub fn room(&mut self, room: usize) -> &mut BytesMut {
        debug_assert!(room <= CHUNK / 2);
        self.current.clear();
        if self.current.capacity() < room {
            let next = self.reclaim().unwrap_or_else(|| BytesMut::with_capacity(CHUNK));
            let spent = std::mem::replace(&mut self.current, next);
            if spent.capacity() > 0 || !self.waiting.is_empty() {
                if self.waiting.len() == WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(spent);
            }
        }
        &mut self.current
    }

    fn reclaim(&mut self) -> Option<BytesMut> {
        // Slices are mostly given back in the order in which they were read; a few that stay longer are passed over.
        for index in 0..self.waiting.len().min(4) {
            if self.waiting[index].try_reclaim(CHUNK) {
                return self.waiting.remove(index);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_used_again_when_its_last_slice_is_gone() {
        let mut pool = Pool::new();
        let mut addresses = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let room = pool.room(65536);
            room.resize(60000, 7);
            let slice = room.split().freeze();
            addresses.insert(slice.as_ptr() as usize);
            assert!(slice.iter().all(|byte| *byte == 7));
        }
        assert!(addresses.len() <= 16, "{} places", addresses.len());
    }

    #[test]
    fn slices_stay_whole_while_they_are_held() {
        let mut pool = Pool::new();
        let held: Vec<_> = (0..100u8)
            .map(|fill| {
                let room = pool.room(65536);
                room.resize(50_000, fill);
                room.split().freeze()
            })
            .collect();
        for (fill, slice) in held.iter().enumerate() {
            assert!(slice.iter().all(|byte| usize::from(*byte) == fill));
        }
    }
}
