//! Files that get their final name only when they are whole.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;

use crate::{Error, Result};

/// Writes `bytes` to `path`: a temporary file beside it, synced, then renamed; folders above are made.
/// `mode` is exact, whatever the umask. On failure nothing is left.
pub fn write(path: &Utf8Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    let fail = |error| Error::io("write", path, error);
    let mut file = tempfile::Builder::new()
        .prefix(".part-")
        .tempfile_in(folder)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}
