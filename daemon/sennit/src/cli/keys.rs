//! `sennit keygen` and `sennit pubkey`.

use std::path::Path;

use serde_json::json;

use super::printer::{say, show};
use crate::Result;
use crate::key::PrivateKey;

pub(super) fn generate(file: &Path, force: bool, as_json: bool) -> Result<()> {
    let key = PrivateKey::generate()?;
    key.write(file, force)?;
    if as_json {
        show(&json!({ "public_key": key.public().to_string(), "file": file }).to_string());
    } else {
        say(&format!(
            "private key: {} (keep it secret); public key, for the other end:",
            file.display()
        ));
        show(&key.public().to_string());
    }
    Ok(())
}

pub(super) fn public(file: &Path) -> Result<()> {
    show(&PrivateKey::read(file)?.public().to_string());
    Ok(())
}
