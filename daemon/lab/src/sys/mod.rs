//! System calls that no crate of ours wraps safely, each in a small function. Nothing here decides anything.

pub(crate) mod clock;
pub(crate) mod ethtool;
pub(crate) mod packet;
pub(crate) mod tcp;
pub(crate) mod thread;
pub(crate) mod tun;
