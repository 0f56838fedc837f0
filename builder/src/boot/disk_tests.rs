//! Small made-up disks: what is found in them, and what is refused with which words.

use std::io::Cursor;

use super::*;

const PARTITION_START: u64 = 64;
const PARTITION_SECTORS: u64 = 2048;

/// A FAT file system of one MiB with empty files in it.
fn fat_with(files: &[&str]) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![0; (PARTITION_SECTORS * SECTOR) as usize]);
    fatfs::format_volume(&mut bytes, fatfs::FormatVolumeOptions::new()).expect("formats");
    {
        let system = fatfs::FileSystem::new(&mut bytes, fatfs::FsOptions::new()).expect("opens");
        for path in files {
            let mut dir = system.root_dir();
            let mut parts: Vec<&str> = path.split('/').collect();
            let name = parts.pop().expect("a name");
            for part in parts {
                dir = dir.create_dir(part).expect("creates");
            }
            dir.create_file(name).expect("creates");
        }
    }
    bytes.into_inner()
}

fn empty_disk() -> Vec<u8> {
    let mut disk = vec![0; ((PARTITION_START + PARTITION_SECTORS) * SECTOR) as usize];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn put_partition(disk: &mut [u8], content: &[u8]) {
    let start = (PARTITION_START * SECTOR) as usize;
    disk[start..start + content.len()].copy_from_slice(content);
}

fn mbr_disk(kind: u8, files: &[&str]) -> Vec<u8> {
    let mut disk = empty_disk();
    disk[446 + 4] = kind;
    disk[446 + 8..446 + 12].copy_from_slice(&(PARTITION_START as u32).to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&(PARTITION_SECTORS as u32).to_le_bytes());
    put_partition(&mut disk, &fat_with(files));
    disk
}

fn gpt_disk(files: &[&str]) -> Vec<u8> {
    let mut disk = empty_disk();
    disk[446 + 4] = PROTECTIVE;
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[512 + 72..512 + 80].copy_from_slice(&2_u64.to_le_bytes());
    disk[512 + 80..512 + 84].copy_from_slice(&4_u32.to_le_bytes());
    disk[512 + 84..512 + 88].copy_from_slice(&128_u32.to_le_bytes());
    // The second entry: the first one is unused, as after deleting a partition.
    let entry = 1024 + 128;
    disk[entry..entry + 16].fill(7);
    disk[entry + 32..entry + 40].copy_from_slice(&PARTITION_START.to_le_bytes());
    disk[entry + 40..entry + 48].copy_from_slice(&(PARTITION_START + PARTITION_SECTORS - 1).to_le_bytes());
    put_partition(&mut disk, &fat_with(files));
    disk
}

fn look(disk: &[u8], machine: Machine) -> String {
    match boot_loader(&mut Cursor::new(disk), machine) {
        Ok(found) => found.to_string(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn an_efi_boot_loader_is_found_in_mbr_and_gpt_disks() {
    let files = ["EFI/BOOT/BOOTAA64.EFI"];
    assert_eq!(look(&mbr_disk(0x0c, &files), Machine::Aarch64), "EFI");
    assert_eq!(look(&mbr_disk(0xef, &files), Machine::Aarch64), "EFI");
    assert_eq!(look(&gpt_disk(&files), Machine::Aarch64), "EFI");
    assert_eq!(look(&gpt_disk(&["efi/boot/bootx64.efi"]), Machine::X86_64), "EFI");
}

#[test]
fn a_pc_disk_with_code_in_its_first_sector_starts_by_bios() {
    let mut disk = mbr_disk(0x83, &[]);
    disk[..4].copy_from_slice(&[0xeb, 0x63, 0x90, 0x10]);
    assert_eq!(look(&disk, Machine::X86_64), "BIOS");
    let arm = look(&disk, Machine::Aarch64);
    assert!(
        arm.starts_with("none of its partitions has an EFI boot loader (EFI/BOOT/BOOTAA64.EFI)"),
        "{arm}"
    );
}

#[test]
fn the_wrong_machines_boot_loader_is_none() {
    let text = look(&gpt_disk(&["EFI/BOOT/BOOTAA64.EFI"]), Machine::X86_64);
    assert!(text.contains("EFI/BOOT/BOOTX64.EFI"), "{text}");
}

#[test]
fn a_real_raspberry_pi_image_is_refused_by_name() {
    let text = look(
        &mbr_disk(0x0c, &["start4.elf", "config.txt", "kernel8.img"]),
        Machine::Aarch64,
    );
    assert!(
        text.contains("Raspberry Pi's own GPU firmware (start4.elf)"),
        "{text}"
    );
}

#[test]
fn a_pi_image_that_also_has_an_efi_boot_loader_boots() {
    assert_eq!(
        look(
            &mbr_disk(0x0c, &["start4.elf", "EFI/BOOT/BOOTAA64.EFI"]),
            Machine::Aarch64
        ),
        "EFI"
    );
}

#[test]
fn flash_containers_are_refused_by_kind() {
    assert!(look(b"UBI#\x01\0\0\0", Machine::Aarch64).starts_with("it is a UBI image"));
    assert!(look(&[0xd0, 0x0d, 0xfe, 0xed, 0, 0], Machine::Aarch64).starts_with("it is a FIT image"));
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(look(&tar, Machine::Aarch64).starts_with("it is a sysupgrade archive"));
}

#[test]
fn broken_disks_are_refused_without_reading_beyond_them() {
    assert!(look(b"", Machine::X86_64).contains("not a disk image"));
    assert!(look(&[0; 4096], Machine::X86_64).contains("not a disk image"));
    let mut beyond = mbr_disk(0x0c, &["EFI/BOOT/BOOTX64.EFI"]);
    beyond[446 + 12..446 + 16].fill(0xff);
    assert!(look(&beyond, Machine::X86_64).contains("the first sector no code"));
    let mut far_table = gpt_disk(&["EFI/BOOT/BOOTX64.EFI"]);
    far_table[512 + 72..512 + 80].fill(0xff);
    assert!(look(&far_table, Machine::X86_64).contains("the first sector no code"));
    let mut garbage = gpt_disk(&["EFI/BOOT/BOOTX64.EFI"]);
    for (index, byte) in garbage
        .iter_mut()
        .enumerate()
        .skip(PARTITION_START as usize * 512)
    {
        *byte = (index * 31 % 251) as u8;
    }
    assert!(look(&garbage, Machine::X86_64).contains("none of its partitions"));
}
