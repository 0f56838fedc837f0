//! Offload settings of an interface by name (`ethtool -k`), through the ioctl that every kernel has.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::interface::{check, request_for};

const GET_SET_INFO: u32 = 0x37;
const GET_STRINGS: u32 = 0x1b;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
const SET_OF_FEATURES: u32 = 4;
const STRING: usize = 32;
const WORD_BITS: usize = 32;

/// The offload settings of one interface.
pub(crate) struct Features {
    socket: OwnedFd,
    interface: String,
    names: Vec<String>,
}

impl Features {
    /// Asks the kernel which settings there are.
    pub(crate) fn of(interface: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let mut features = Self {
            socket,
            interface: interface.to_owned(),
            names: Vec::new(),
        };
        // struct ethtool_sset_info: cmd, reserved, mask (64 bits), one length.
        let mut info = [GET_SET_INFO, 0, 0, 0, 0];
        set_wide(&mut info, 2, 1 << SET_OF_FEATURES);
        features.request(&mut info)?;
        let count = info[4] as usize;
        // struct ethtool_gstrings: cmd, string_set, len, then the strings.
        let mut strings = vec![0u32; 3 + count * STRING / 4];
        strings[..3].copy_from_slice(&[GET_STRINGS, SET_OF_FEATURES, count as u32]);
        features.request(&mut strings)?;
        let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        features.names = bytes
            .chunks_exact(STRING)
            .map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
            .collect();
        Ok(features)
    }

    /// Whether a setting is on; `None` if the kernel does not know it.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<bool>> {
        let Some(bit) = self.position(name) else {
            return Ok(None);
        };
        // struct ethtool_gfeatures: cmd, size, then (available, requested, active, never_changed) for each 32.
        let words = self.names.len().div_ceil(WORD_BITS);
        let mut request = vec![0u32; 2 + 4 * words];
        request[..2].copy_from_slice(&[GET_FEATURES, words as u32]);
        self.request(&mut request)?;
        let active = request[2 + 4 * (bit / WORD_BITS) + 2];
        Ok(Some(active & (1 << (bit % WORD_BITS)) != 0))
    }

    /// Turns a setting on or off.
    pub(crate) fn write(&self, name: &str, on: bool) -> io::Result<()> {
        let Some(bit) = self.position(name) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // struct ethtool_sfeatures: cmd, size, then (valid, requested) for each 32.
        let words = self.names.len().div_ceil(WORD_BITS);
        let mut request = vec![0u32; 2 + 2 * words];
        request[..2].copy_from_slice(&[SET_FEATURES, words as u32]);
        let word = 2 + 2 * (bit / WORD_BITS);
        request[word] = 1 << (bit % WORD_BITS);
        request[word + 1] = u32::from(on) << (bit % WORD_BITS);
        self.request(&mut request)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// `words` must be the structure of the command that its first word names, long enough for the kernel's answer.
    fn request(&self, words: &mut [u32]) -> io::Result<()> {
        let mut request = request_for(&self.interface);
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: `ifru_data` points to live memory of the size that the command's own length field announces.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) })
    }
}

/// Writes a number of 64 bits over two words in the machine's byte order.
fn set_wide(words: &mut [u32], at: usize, value: u64) {
    let bytes = value.to_ne_bytes();
    for (word, half) in words[at..at + 2].iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([half[0], half[1], half[2], half[3]]);
    }
}
