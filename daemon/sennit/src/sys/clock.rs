//! Whether the kernel's clock is kept right.
#![allow(unsafe_code)]

/// Whether some program (chrony, systemd-timesyncd, ntpd) says that it keeps the clock right.
pub(crate) fn is_synchronised() -> bool {
    // SAFETY: `timex` is plain data of the C ABI, for which all zero bits are valid; with no modes set nothing is changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex writes a `timex`, which `timex` is.
    let state = unsafe { libc::adjtimex(&mut timex) };
    state != -1 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}
