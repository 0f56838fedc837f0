//! Builder library.
