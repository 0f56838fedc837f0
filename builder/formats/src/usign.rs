//! usign: OpenWrt's Ed25519 keys and signatures.
