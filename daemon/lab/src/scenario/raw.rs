//! A scenario as it is written: TOML, whose unknown keys are errors. What it means is checked in `mod.rs`.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScenario {
    pub(super) title: String,
    #[serde(default)]
    pub(super) about: String,
    #[serde(default = "seconds")]
    pub(super) seconds: f64,
    #[serde(default)]
    pub(super) settle: f64,
    #[serde(default = "repeat")]
    pub(super) repeat: u32,
    #[serde(default = "yes")]
    pub(super) bench: bool,
    #[serde(default)]
    pub(super) item: usize,
    #[serde(default)]
    pub(super) bare: bool,
    #[serde(default)]
    pub(super) contestants: Vec<String>,
    #[serde(default = "down")]
    pub(super) directions: Vec<String>,
    #[serde(default = "cubic")]
    pub(super) congestion: Vec<String>,
    #[serde(default = "speed")]
    pub(super) modes: Vec<String>,
    #[serde(default = "one")]
    pub(super) flows: Vec<usize>,
    #[serde(default)]
    pub(super) link: Vec<RawLink>,
    #[serde(default)]
    pub(super) bulk: Vec<RawBulk>,
    #[serde(default)]
    pub(super) probe: Vec<RawProbe>,
    #[serde(default)]
    pub(super) page: Vec<RawPage>,
    #[serde(default)]
    pub(super) flood: Vec<RawFlood>,
    pub(super) crowd: Option<RawCrowd>,
    #[serde(default)]
    pub(super) event: Vec<RawEvent>,
    #[serde(default)]
    pub(super) goal: Vec<RawGoal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    #[serde(default)]
    pub(super) both: RawShape,
    #[serde(default)]
    pub(super) up: RawShape,
    #[serde(default)]
    pub(super) down: RawShape,
    #[serde(default)]
    pub(super) metered: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShape {
    pub(super) rate: Option<f64>,
    pub(super) trace: Option<String>,
    pub(super) delay_ms: Option<f64>,
    pub(super) queue_kb: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) burst: Option<f64>,
    pub(super) jitter_ms: Option<f64>,
    pub(super) jitter_memory_ms: Option<f64>,
    pub(super) grant_ms: Option<f64>,
    pub(super) reorder: Option<f64>,
    pub(super) reorder_ms: Option<f64>,
    pub(super) duplicate: Option<f64>,
    pub(super) policer_rate: Option<f64>,
    pub(super) policer_kb: Option<f64>,
}

impl RawShape {
    /// What `other` says, and what this one says where the other is silent.
    pub(super) fn overlaid(&self, other: &Self) -> Self {
        Self {
            rate: other.rate.or(self.rate),
            trace: other.trace.clone().or_else(|| self.trace.clone()),
            delay_ms: other.delay_ms.or(self.delay_ms),
            queue_kb: other.queue_kb.or(self.queue_kb),
            loss: other.loss.or(self.loss),
            burst: other.burst.or(self.burst),
            jitter_ms: other.jitter_ms.or(self.jitter_ms),
            jitter_memory_ms: other.jitter_memory_ms.or(self.jitter_memory_ms),
            grant_ms: other.grant_ms.or(self.grant_ms),
            reorder: other.reorder.or(self.reorder),
            reorder_ms: other.reorder_ms.or(self.reorder_ms),
            duplicate: other.duplicate.or(self.duplicate),
            policer_rate: other.policer_rate.or(self.policer_rate),
            policer_kb: other.policer_kb.or(self.policer_kb),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBulk {
    pub(super) flows: Option<usize>,
    pub(super) direction: Option<String>,
    pub(super) congestion: Option<String>,
    #[serde(default)]
    pub(super) start: f64,
    #[serde(default)]
    pub(super) from: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProbe {
    pub(super) name: String,
    pub(super) per_second: u32,
    #[serde(default = "probe_bytes")]
    pub(super) bytes: usize,
    #[serde(default)]
    pub(super) start: f64,
    #[serde(default)]
    pub(super) from: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPage {
    #[serde(default)]
    pub(super) start: f64,
    #[serde(default)]
    pub(super) from: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFlood {
    pub(super) bytes: usize,
    pub(super) per_second: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCrowd {
    pub(super) each: f64,
    #[serde(default = "crowd_bytes")]
    pub(super) bytes: usize,
    #[serde(default)]
    pub(super) hostile_per_second: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    pub(super) at: f64,
    pub(super) action: String,
    pub(super) link: Option<usize>,
    pub(super) way: Option<String>,
    pub(super) value: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGoal {
    pub(super) measure: String,
    pub(super) contestant: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) relative_to: Option<String>,
    pub(super) relative_congestion: Option<String>,
    pub(super) minus: Option<String>,
    pub(super) at_least: Option<f64>,
    pub(super) at_most: Option<f64>,
}

fn seconds() -> f64 {
    20.0
}

fn repeat() -> u32 {
    3
}

fn one() -> Vec<usize> {
    vec![1]
}

fn probe_bytes() -> usize {
    64
}

fn crowd_bytes() -> usize {
    1200
}

fn yes() -> bool {
    true
}

fn down() -> Vec<String> {
    vec!["down".into()]
}

fn cubic() -> Vec<String> {
    vec!["cubic".into()]
}

fn speed() -> Vec<String> {
    vec!["speed".into()]
}
