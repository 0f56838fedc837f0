//! Looks at an ELF header: is this a static program for the right processor?

/// What is wrong with a program that should be a static one for `target`, or nothing.
pub(super) fn refusal(bytes: &[u8], target: &str) -> Option<String> {
    const MACHINE_X86_64: u16 = 62;
    const MACHINE_AARCH64: u16 = 183;
    const INTERPRETER: u32 = 3;
    let machine = match target.split('-').next() {
        Some("x86_64") => MACHINE_X86_64,
        Some("aarch64") => MACHINE_AARCH64,
        _ => return Some(format!("{target} is no target that the daemon is built for")),
    };
    let Some(header) = Header::read(bytes) else {
        return Some("it is not a 64-bit little-endian ELF file".to_owned());
    };
    if header.machine != machine {
        return Some(format!(
            "it is for ELF machine {}, not for {target}",
            header.machine
        ));
    }
    if header.segment_types.contains(&INTERPRETER) {
        return Some("it is linked dynamically".to_owned());
    }
    None
}

struct Header {
    machine: u16,
    segment_types: Vec<u32>,
}

impl Header {
    /// Reads the file header and the types of the program headers.
    fn read(bytes: &[u8]) -> Option<Self> {
        const IDENTITY: &[u8] = b"\x7fELF\x02\x01";
        let u16_at = |at: usize| {
            Some(u16::from_le_bytes(
                bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
            ))
        };
        let u32_at = |at: usize| {
            Some(u32::from_le_bytes(
                bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
            ))
        };
        let u64_at = |at: usize| {
            Some(u64::from_le_bytes(
                bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
            ))
        };
        if !bytes.starts_with(IDENTITY) {
            return None;
        }
        let table = usize::try_from(u64_at(32)?).ok()?;
        let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
        let segment_types = (0..count)
            .map(|index| u32_at(table.checked_add(index * size)?))
            .collect::<Option<_>>()?;
        Some(Self {
            machine: u16_at(18)?,
            segment_types,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, segment_types: &[u32]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(64, 0);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&(segment_types.len() as u16).to_le_bytes());
        for kind in segment_types {
            let start = bytes.len();
            bytes.extend(kind.to_le_bytes());
            bytes.resize(start + 56, 0);
        }
        bytes
    }

    #[test]
    fn a_static_program_for_the_target_is_right() {
        assert_eq!(refusal(&elf(183, &[1, 2]), "aarch64-unknown-linux-musl"), None);
        assert_eq!(refusal(&elf(62, &[1]), "x86_64-unknown-linux-musl"), None);
    }

    #[test]
    fn a_dynamic_or_foreign_program_is_refused() {
        let target = "aarch64-unknown-linux-musl";
        assert!(
            refusal(&elf(183, &[1, 3]), target)
                .unwrap()
                .contains("dynamically")
        );
        assert!(refusal(&elf(62, &[1]), target).unwrap().contains("machine 62"));
        assert!(refusal(b"#!/bin/sh", target).unwrap().contains("not a 64-bit"));
        let whole = elf(183, &[1, 2]);
        for cut in 0..whole.len() - 56 {
            assert!(refusal(&whole[..cut], target).is_some(), "cut at {cut}");
        }
        let mut far = elf(183, &[1]);
        far[32..40].fill(0xff);
        assert!(refusal(&far, target).is_some());
    }

    #[test]
    fn this_very_test_is_a_dynamic_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            assert!(
                refusal(&own, "x86_64-unknown-linux-musl")
                    .unwrap()
                    .contains("dynamically")
            );
        }
    }
}
