//! The fuzz targets (`daemon/fuzz`) for a while, without a fuzzer: damaged copies of good inputs, from a fixed seed, and
//! every input that once broke something.

#[expect(unreachable_pub, reason = "a library of its own for the fuzzers")]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

mod good;

use std::path::Path;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

#[test]
fn no_input_breaks_an_invariant() {
    for (name, run) in targets::TARGETS.iter().filter(|(name, _)| *name != "engine") {
        // Curves are slow.
        let share = if *name == "handshake" { 20 } else { 1 };
        try_damaged(name, *run, runs() / share);
    }
}

#[test]
fn no_peer_with_keys_breaks_the_engine() {
    try_damaged("engine", targets::engine::run, runs() / 80);
}

/// Damaged inputs for each target.
fn runs() -> usize {
    std::env::var("SENNIT_FUZZ_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(2000)
}

fn try_damaged(name: &str, run: fn(&[u8]), runs: usize) {
    let good = good::inputs(name);
    assert!(!good.is_empty(), "{name} has no good inputs");
    for (count, input) in good.iter().enumerate() {
        run(input);
        if let Some(folder) = std::env::var_os("SENNIT_FUZZ_CORPUS") {
            let folder = Path::new(&folder).join(name);
            std::fs::create_dir_all(&folder).expect("it can be made");
            std::fs::write(folder.join(format!("good-{count}")), input).expect("it can be written");
        }
    }
    let mut random = ChaCha12Rng::seed_from_u64(7);
    for _ in 0..runs {
        let input = damaged(&good, &mut random);
        let outcome = std::panic::catch_unwind(|| run(&input));
        assert!(outcome.is_ok(), "{name} breaks on {input:02x?}");
    }
}

#[test]
fn what_once_broke_something_does_not_any_more() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        let target = targets::TARGETS
            .iter()
            .find(|(target, _)| name.starts_with(&format!("{target}-")));
        if let Some((_, run)) = target {
            run(&std::fs::read(&path).expect("readable"));
        }
    }
}

fn below(random: &mut ChaCha12Rng, limit: usize) -> usize {
    random.next_u32() as usize % limit.max(1)
}

/// A good input with some damage, as fuzzers do it.
fn damaged(good: &[Vec<u8>], random: &mut ChaCha12Rng) -> Vec<u8> {
    let mut input = good[below(random, good.len())].clone();
    for _ in 0..=below(random, 4) {
        let at = below(random, input.len() + 1);
        match below(random, 7) {
            0 => input.truncate(at),
            1 => input.insert(at, random.next_u32() as u8),
            2 => {
                let other = &good[below(random, good.len())];
                let from = below(random, other.len());
                input.splice(at.., other[from..].iter().copied());
            }
            3 => {
                const SPECIAL: [u8; 8] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff];
                for byte in input.iter_mut().skip(at).take(1 + below(random, 4)) {
                    *byte = SPECIAL[below(random, SPECIAL.len())];
                }
            }
            4 => {
                let end = (at + below(random, 8)).min(input.len());
                input.drain(at..end);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << below(random, 8);
                }
            }
        }
    }
    input
}
