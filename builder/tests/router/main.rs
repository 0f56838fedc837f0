//! The scripts of the overlays, run as a router runs them: by busybox ash in a root file system of its own, with the
//! miniature's `uci`, a made-up /sys and a made-up `ip`.
//!
//! Needs the package busybox-static; without root also user namespaces.

mod first_configuration;
mod port_names;
mod root;
mod usb_uplinks;
