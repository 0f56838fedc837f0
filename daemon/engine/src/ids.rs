//! Numbers that name things, each a type of its own.

use std::net::{IpAddr, SocketAddr};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A path within a session. Chosen by the client, never used twice under one key.
    PathId(u8)
);
id!(
    /// A WAN of the client, as the caller numbers it.
    WanId(u16)
);
id!(
    /// A flow within one direction of a session, numbered by its sender; 0 is the unordered flow.
    FlowId(u32)
);
id!(
    /// A client of a server, as the caller numbers it.
    ClientId(u32)
);
id!(
    /// The caller's number for one of its sockets.
    SocketId(u16)
);
id!(
    /// Says which session and key a datagram belongs to; chosen by the datagram's receiver. 24 bits.
    ReceiverIndex(u32)
);

impl FlowId {
    /// Packets that no order is kept for.
    pub const UNORDERED: Self = Self(0);
}

/// Where a datagram comes from and goes to, as seen from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkPath {
    /// The caller's socket.
    pub socket: SocketId,
    /// This machine's address, where the caller's socket serves several.
    pub local: Option<IpAddr>,
    /// The other machine.
    pub remote: SocketAddr,
}
