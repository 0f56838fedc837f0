//! One device from profile to `images/<device>/`.

pub mod flash_note;
