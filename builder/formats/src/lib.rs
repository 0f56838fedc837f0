//! OpenWrt formats as byte codecs.
