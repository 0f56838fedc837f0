//! The header that a TUN device puts before each packet (`struct virtio_net_hdr`): what is left to be done to it.

/// Bytes of the header.
pub const VIRTIO_HEADER_LEN: usize = 10;

/// What the packet is to be cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// Nothing: a packet as it is.
    #[default]
    None,
    /// TCP segments over IPv4.
    Tcp4,
    /// TCP segments over IPv6.
    Tcp6,
    /// UDP datagrams of equal size.
    Udp,
}

/// The offload header of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioHeader {
    /// The transport checksum is only begun: the rest is to be summed from `checksum_start`.
    pub needs_checksum: bool,
    /// The transport checksum was verified.
    pub data_valid: bool,
    /// What the packet is to be cut into.
    pub segmentation: Segmentation,
    /// The first segment carries CWR (explicit congestion notification).
    pub ecn: bool,
    /// Bytes of the headers. What a TUN device says here is not to be trusted.
    pub header_len: u16,
    /// Payload bytes of each segment.
    pub segment_size: u16,
    /// Where the sum begins, in bytes of the packet.
    pub checksum_start: u16,
    /// Where the checksum is to be written, in bytes from `checksum_start`.
    pub checksum_offset: u16,
}

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP_L4: u8 = 5;
const ECN: u8 = 0x80;

impl VirtioHeader {
    /// Reads the header from its wire form (the host's byte order, as Linux does without `TUNSETVNETLE`); nothing
    /// if it asks for a kind of segmentation that is not known.
    pub fn parse(bytes: &[u8; VIRTIO_HEADER_LEN]) -> Option<Self> {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let segmentation = match bytes[1] & !ECN {
            0 => Segmentation::None,
            TCP4 => Segmentation::Tcp4,
            TCP6 => Segmentation::Tcp6,
            UDP_L4 => Segmentation::Udp,
            _ => return None,
        };
        Some(Self {
            needs_checksum: bytes[0] & NEEDS_CHECKSUM != 0,
            data_valid: bytes[0] & DATA_VALID != 0,
            segmentation,
            ecn: bytes[1] & ECN != 0,
            header_len: word(2),
            segment_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        })
    }

    /// The wire form.
    pub fn to_bytes(&self) -> [u8; VIRTIO_HEADER_LEN] {
        let mut bytes = [0; VIRTIO_HEADER_LEN];
        bytes[0] = u8::from(self.needs_checksum) * NEEDS_CHECKSUM + u8::from(self.data_valid) * DATA_VALID;
        let kind = match self.segmentation {
            Segmentation::None => 0,
            Segmentation::Tcp4 => TCP4,
            Segmentation::Tcp6 => TCP6,
            Segmentation::Udp => UDP_L4,
        };
        bytes[1] = kind + u8::from(self.ecn) * ECN;
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.segment_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_wire_form() {
        for segmentation in [
            Segmentation::None,
            Segmentation::Tcp4,
            Segmentation::Tcp6,
            Segmentation::Udp,
        ] {
            for ecn in [false, true] {
                let header = VirtioHeader {
                    needs_checksum: true,
                    data_valid: ecn,
                    segmentation,
                    ecn,
                    header_len: 52,
                    segment_size: 1448,
                    checksum_start: 20,
                    checksum_offset: 16,
                };
                assert_eq!(VirtioHeader::parse(&header.to_bytes()), Some(header));
            }
        }
    }

    #[test]
    fn refuses_unknown_kinds_of_segmentation() {
        assert_eq!(VirtioHeader::parse(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
