//! One device from profile to `images/<device>/`.
