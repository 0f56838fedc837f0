//! Looks into an image: is it a disk, and by which boot loader does it start?
//!
//! Reads only. Everything here comes from a file that may be broken or hostile: sizes are bounded, offsets checked.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::machine::Machine;

const SECTOR: u64 = 512;
/// Type of the one MBR entry that stands for a whole GPT.
const PROTECTIVE: u8 = 0xee;
/// MBR types that hold a FAT file system (the last is the EFI system partition's own).
const FAT_TYPES: [u8; 7] = [0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e, 0xef];
/// Entries of a GPT that are looked at; 128 is usual.
const MAX_GPT_ENTRIES: u32 = 1024;

/// How an image starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLoader {
    /// Code in the first sector, run by a PC's BIOS.
    Bios,
    /// `EFI/BOOT/BOOT….EFI` in a FAT partition.
    Efi,
}

impl fmt::Display for BootLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Efi => "EFI",
        })
    }
}

/// Why an image cannot be booted here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// For raw NAND: no partition table, and the board's flash controller is not emulated.
    #[error("it is {0}, which only the board's own NAND flash and boot loader can start")]
    Nand(&'static str),
    /// Neither a disk nor anything else that is known.
    #[error("it is not a disk image: its first sector has no partition table")]
    NotADisk,
    /// A real Raspberry Pi image.
    #[error(
        "it starts by the Raspberry Pi's own GPU firmware ({0}), which QEMU cannot run; there is no EFI boot loader in it"
    )]
    RaspberryPi(&'static str),
    /// A disk without a boot loader for this machine.
    #[error("none of its partitions has an EFI boot loader ({0}){1}")]
    NoBootLoader(&'static str, &'static str),
    /// It could not be read.
    #[error("failed to read it: {0}")]
    Io(#[from] io::Error),
}

/// Finds out how the disk in `image` (already decompressed) starts on `machine`.
pub(super) fn boot_loader<T: Read + Seek>(image: &mut T, machine: Machine) -> Result<BootLoader, Refusal> {
    let mut first = [0; SECTOR as usize];
    let read = read_up_to(image, &mut first)?;
    if let Some(what) = flash_container(&first[..read]) {
        return Err(Refusal::Nand(what));
    }
    if read < first.len() || first[510..] != [0x55, 0xaa] {
        return Err(Refusal::NotADisk);
    }
    let size = image.seek(SeekFrom::End(0))?;
    let mut raspberry_pi = None;
    for partition in partitions(image, &first, size)? {
        let Some(files) = fat(image, partition) else {
            continue;
        };
        if files.has(machine.efi_file()) {
            return Ok(BootLoader::Efi);
        }
        raspberry_pi = raspberry_pi.or(["start4.elf", "bootcode.bin"]
            .into_iter()
            .find(|name| files.has(name)));
    }
    match (raspberry_pi, machine) {
        (Some(file), _) => Err(Refusal::RaspberryPi(file)),
        (None, Machine::X86_64) if first[..440].iter().any(|byte| *byte != 0) => Ok(BootLoader::Bios),
        (None, Machine::X86_64) => Err(Refusal::NoBootLoader(
            machine.efi_file(),
            ", and the first sector no code",
        )),
        (None, Machine::Aarch64) => Err(Refusal::NoBootLoader(
            machine.efi_file(),
            "; the board's own U-Boot starts it, which QEMU has no board for",
        )),
    }
}

/// Names images that are no disks, by their first bytes.
fn flash_container(first: &[u8]) -> Option<&'static str> {
    let tar_member = first.get(257..262) == Some(b"ustar");
    match first.get(..4)? {
        b"UBI#" => Some("a UBI image"),
        [0xd0, 0x0d, 0xfe, 0xed] => Some("a FIT image"),
        _ if tar_member => Some("a sysupgrade archive"),
        _ => None,
    }
}

/// First byte and length of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Partition {
    start: u64,
    length: u64,
}

impl Partition {
    fn of_sectors(start: u64, count: u64, disk: u64) -> Option<Self> {
        let start = start.checked_mul(SECTOR)?;
        let length = count.checked_mul(SECTOR)?;
        let end = start.checked_add(length)?;
        (start >= SECTOR && length > 0 && end <= disk).then_some(Self { start, length })
    }
}

/// Partitions that may hold a FAT file system, in the order of the table.
fn partitions(image: &mut (impl Read + Seek), first: &[u8; 512], disk: u64) -> io::Result<Vec<Partition>> {
    let entries = || first[446..510].chunks_exact(16);
    if entries().any(|entry| entry[4] == PROTECTIVE) {
        return gpt_partitions(image, disk);
    }
    Ok(entries()
        .filter(|entry| FAT_TYPES.contains(&entry[4]))
        .filter_map(|entry| Partition::of_sectors(u32_at(entry, 8).into(), u32_at(entry, 12).into(), disk))
        .collect())
}

fn gpt_partitions(image: &mut (impl Read + Seek), disk: u64) -> io::Result<Vec<Partition>> {
    let mut header = [0; SECTOR as usize];
    image.seek(SeekFrom::Start(SECTOR))?;
    if read_up_to(image, &mut header)? < header.len() || &header[..8] != b"EFI PART" {
        return Ok(Vec::new());
    }
    let (table, count, entry_size) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
    let Some(table) = table.checked_mul(SECTOR).filter(|start| *start < disk) else {
        return Ok(Vec::new());
    };
    if !(128..=4096).contains(&entry_size) {
        return Ok(Vec::new());
    }
    image.seek(SeekFrom::Start(table))?;
    let mut found = Vec::new();
    let mut entry = vec![0; entry_size as usize];
    for _ in 0..count.min(MAX_GPT_ENTRIES) {
        if read_up_to(image, &mut entry)? < entry.len() {
            break;
        }
        let (first, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
        // An unused entry is all zeros; the type is not asked: OpenWrt marks boot partitions as basic data, too.
        if first > 0 && last >= first {
            found.extend(Partition::of_sectors(first, last - first + 1, disk));
        }
    }
    Ok(found)
}

/// A FAT file system that was found in a partition.
struct Fat<'a, T: Read + Seek>(fatfs::FileSystem<Window<'a, T>>);

impl<T: Read + Seek> Fat<'_, T> {
    fn has(&self, path: &str) -> bool {
        self.0.root_dir().open_file(path).is_ok()
    }
}

fn fat<T: Read + Seek>(image: &mut T, partition: Partition) -> Option<Fat<'_, T>> {
    let window = Window {
        image,
        partition,
        position: 0,
    };
    fatfs::FileSystem::new(window, fatfs::FsOptions::new())
        .ok()
        .map(Fat)
}

/// One partition as a file of its own; refuses to write.
struct Window<'a, T> {
    image: &'a mut T,
    partition: Partition,
    position: u64,
}

impl<T: Read + Seek> Read for Window<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.partition.length.saturating_sub(self.position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.image
            .seek(SeekFrom::Start(self.partition.start + self.position))?;
        let read = self.image.read(&mut buffer[..wanted])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<T> Seek for Window<'_, T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.partition.length.checked_add_signed(offset),
        };
        let target = target.filter(|target| *target <= self.partition.length);
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

// `fatfs` wants to be able to write; images are only looked at.
impl<T> Write for Window<'_, T> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
