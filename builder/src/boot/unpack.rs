//! Turns an image file into a raw disk that QEMU can open: `.gz` into a sparse copy, others as they are.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use flate2::read::GzDecoder;

use crate::{Error, Result};

/// Real images are below 5 GB; a file that unpacks to more than this is broken or hostile.
const MAX_DISK: u64 = 64 << 30;

/// The raw disk of `image`: itself, or a copy in `dir`.
pub(super) fn raw_disk(image: &Utf8Path, dir: &Utf8Path) -> Result<Utf8PathBuf> {
    let mut file = File::open(image).map_err(|error| Error::io("open", image, error))?;
    let mut magic = [0; 2];
    let compressed = match file.read_exact(&mut magic) {
        Ok(()) => magic == [0x1f, 0x8b],
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(Error::io("read", image, error)),
    };
    if !compressed {
        return Ok(image.to_owned());
    }
    file.rewind().map_err(|error| Error::io("read", image, error))?;
    let disk = dir.join("disk.img");
    let target = File::create(&disk).map_err(|error| Error::io("create", &disk, error))?;
    // One member only: OpenWrt puts metadata for sysupgrade behind it.
    copy_sparse(GzDecoder::new(BufReader::new(file)), target).map_err(|error| {
        Error::io("unpack", image, error).hint("the image may be cut short: build it again")
    })?;
    Ok(disk)
}

/// Copies, leaving holes where a whole block is zero.
fn copy_sparse(mut source: impl Read, mut target: File) -> io::Result<()> {
    let mut block = vec![0; 128 * 1024];
    let mut length: u64 = 0;
    loop {
        let read = match source.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if block[..read].iter().any(|byte| *byte != 0) {
            target.write_all(&block[..read])?;
        } else {
            target.seek(SeekFrom::Current(read as i64))?;
        }
        length += read as u64;
        if length > MAX_DISK {
            return Err(io::Error::other("it unpacks to more than 64 GiB"));
        }
    }
    // QEMU wants whole sectors.
    target.set_len(length.next_multiple_of(512))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("compresses");
        encoder.finish().expect("compresses")
    }

    #[test]
    fn a_compressed_image_becomes_a_sparse_copy_and_its_trailing_metadata_is_ignored() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let mut bytes = vec![0; 8 << 20];
        bytes[5] = 1;
        bytes[(8 << 20) - 3] = 2;
        let mut file = gzip(&bytes);
        file.extend(b"FWx0 metadata");
        std::fs::write(dir.join("a.img.gz"), file).expect("writes");

        let disk = raw_disk(&dir.join("a.img.gz"), dir).expect("unpacks");
        assert_eq!(std::fs::read(&disk).expect("reads"), bytes);
        let used = std::fs::metadata(&disk).expect("is there").blocks() * 512;
        assert!(used < 1 << 20, "{used} bytes used");
    }

    #[test]
    fn a_raw_image_is_used_as_it_is_and_a_cut_one_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        std::fs::write(dir.join("a.img"), "raw").expect("writes");
        assert_eq!(
            raw_disk(&dir.join("a.img"), dir).expect("as it is"),
            dir.join("a.img")
        );

        let whole = gzip(&[7; 4096]);
        std::fs::write(dir.join("b.img.gz"), &whole[..whole.len() - 12]).expect("writes");
        let error = raw_disk(&dir.join("b.img.gz"), dir).expect_err("cut");
        assert!(error.to_string().contains("failed to unpack"), "{error}");
    }
}
