//! What the user chooses: modes, priorities, limits. All of it can change while a session runs.

/// How packets are spread over paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Aggregates: each packet once, lost ones repaired.
    #[default]
    Speed,
    /// A copy on every WAN; the first one wins.
    Redundant,
}

/// Whether what goes through the tunnel is encrypted. It is authenticated in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Always.
    #[default]
    On,
    /// Not if the other end does not want it either: for processors that are too slow for it, and for users to whom all
    /// that matters is encrypted anyway.
    Off,
}

/// When a WAN takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Always.
    #[default]
    Primary,
    /// When the primary ones are loaded.
    Secondary,
    /// When the others fail.
    Backup,
    /// Never.
    Off,
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BytesPerSecond(pub u64);

impl BytesPerSecond {
    /// Nanoseconds that `bytes` take at this rate; the longest time there is if the rate is zero.
    pub fn nanoseconds(self, bytes: u64) -> u64 {
        (bytes.saturating_mul(1_000_000_000))
            .checked_div(self.0)
            .unwrap_or(u64::MAX)
    }

    /// Bytes sent in `nanoseconds` at this rate.
    pub fn bytes_in(self, nanoseconds: u64) -> u64 {
        u64::try_from(u128::from(self.0) * u128::from(nanoseconds) / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

/// The most that one client's inner packets may take, all WANs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// From client to server.
    pub up: Option<BytesPerSecond>,
    /// From server to client.
    pub down: Option<BytesPerSecond>,
}

/// Settings of one WAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WanSettings {
    /// When it takes part.
    pub priority: Priority,
    /// Upper limit from client to server.
    pub limit_up: Option<BytesPerSecond>,
    /// Upper limit from server to client.
    pub limit_down: Option<BytesPerSecond>,
    /// Data costs money here: no speculative traffic, rare probes.
    pub metered: bool,
}
