//! Cross-compiles `sennit` as a static musl binary, with what this machine has.
