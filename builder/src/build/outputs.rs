//! What a device's folder holds: images under stable names, manifest, checksums, provenance, flashing note.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use camino::Utf8Path;

use super::flash_note::{Handed, flash_note};
use super::key::Inputs;
use super::provenance::{self, Git, Output, Provenance};
use super::publish::Outgoing;
use super::sbom;
use crate::digest::Sha256;
use crate::imagebuilder;
use crate::overlay::RenderContext;
use crate::profile::Profile;
use crate::{Error, Result, error::Exit};

/// How to flash the images of the folder.
const FLASH_NOTE: &str = "FLASH.md";

/// What a finished run of `make image` and its surroundings say.
pub(super) struct Made<'a> {
    pub(super) profile: &'a Profile,
    pub(super) inputs: &'a Inputs,
    pub(super) outputs: &'a imagebuilder::Outputs,
    pub(super) source_date_epoch: Option<u64>,
    pub(super) daemon_sha256: Sha256,
    pub(super) git: Option<Git>,
}

/// `sennit-0.1.0[-LABEL]-pc-ext4-combined.img.gz`: stable from build to build, and never mistaken for another source's.
pub fn image_name(inputs: &Inputs, kind: &str) -> String {
    format!("{}-{kind}", stem(inputs))
}

fn stem(inputs: &Inputs) -> String {
    let label = if inputs.label.is_empty() {
        String::new()
    } else {
        format!("-{}", inputs.label)
    };
    format!("sennit-{}{label}-{}", inputs.daemon.version, inputs.device)
}

/// Collects the outputs into `place`, which changes at once and only when all of them are there.
pub(super) fn collect(made: &Made<'_>, place: &Utf8Path) -> Result<BTreeMap<String, Output>> {
    let outgoing = Outgoing::begin(place, made.source_date_epoch.unwrap_or(0))?;
    let mut files = BTreeMap::new();
    let mut handed = Vec::new();
    for image in &made.profile.images {
        let from = made.outputs.images.get(&image.file).ok_or_else(|| {
            Error::bug(format!(
                "the ImageBuilder's outputs lack {}, which was checked",
                image.file
            ))
        })?;
        let name = image_name(made.inputs, &image.file);
        let output = described(&outgoing.take(&name, from)?)?;
        check_limit(made.profile, &name, image.disk, output.size)?;
        handed.push(Handed {
            name: name.clone(),
            purpose: image.purpose.clone(),
            size: output.size,
        });
        files.insert(name, output);
    }
    let images = files.clone();
    let packages = made.outputs.packages()?;
    let manifest = format!("{}.manifest", stem(made.inputs));
    files.insert(
        manifest.clone(),
        described(&outgoing.take(&manifest, &made.outputs.manifest)?)?,
    );
    let bill = sbom::text(&sbom::Contents {
        inputs: made.inputs,
        key: made.inputs.key()?,
        packages: &packages,
        images: &images,
        epoch: made.source_date_epoch.unwrap_or(0),
        daemon_sha256: made.daemon_sha256,
    })?;
    files.insert(sbom::FILE.into(), written(&outgoing, sbom::FILE, &bill)?);
    let context = RenderContext {
        source_label: &made.inputs.label,
        version: &made.inputs.daemon.version,
    };
    let note = flash_note(made.profile, &handed, &context);
    files.insert(
        FLASH_NOTE.into(),
        Output {
            sha256: Sha256::of(&note),
            size: note.len() as u64,
        },
    );
    outgoing.write(FLASH_NOTE, note)?;
    let provenance = Provenance::new(
        made.inputs.clone(),
        made.source_date_epoch,
        made.daemon_sha256,
        made.git.clone(),
        files.clone(),
    )?
    .to_text()?;
    files.insert(
        provenance::FILE.into(),
        written(&outgoing, provenance::FILE, &provenance)?,
    );
    outgoing.write("SHA256SUMS", checksums(&files))?;
    outgoing.publish()?;
    Ok(files)
}

/// Writes a small file, and says what it is.
fn written(outgoing: &Outgoing, name: &str, text: &str) -> Result<Output> {
    outgoing.write(name, text)?;
    Ok(Output {
        sha256: Sha256::of(text),
        size: text.len() as u64,
    })
}

fn described(path: &Utf8Path) -> Result<Output> {
    let size = std::fs::metadata(path)
        .map_err(|error| Error::io("read", path, error))?
        .len();
    Ok(Output {
        sha256: Sha256::of_file(path)?,
        size,
    })
}

fn check_limit(profile: &Profile, name: &str, disk: bool, size: u64) -> Result<()> {
    match profile.limits.image_bytes {
        Some(limit) if !disk && size > limit => Err(Error::new(
            Exit::OverBudget,
            format!(
                "{name} is {} bytes too big for {}: {size} of at most {limit}",
                size - limit,
                profile.title
            ),
        )
        .hint("take features or packages out of the device's profile")),
        _ => Ok(()),
    }
}

/// As `sha256sum --check` reads it.
fn checksums(files: &BTreeMap<String, Output>) -> String {
    let mut text = String::new();
    for (name, output) in files {
        let _ = writeln!(text, "{}  {name}", output.sha256);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::key::tests::inputs;

    #[test]
    fn names_say_version_source_and_device() {
        let mut inputs = inputs();
        assert_eq!(
            image_name(&inputs, "ext4-combined.img.gz"),
            "sennit-0.1.0-pc-ext4-combined.img.gz"
        );
        inputs.label = "miniature".into();
        assert_eq!(
            image_name(&inputs, "sysupgrade.bin"),
            "sennit-0.1.0-miniature-pc-sysupgrade.bin"
        );
    }

    #[test]
    fn checksums_are_in_the_form_of_sha256sum() {
        let files = BTreeMap::from([(
            "a.img".to_owned(),
            Output {
                sha256: Sha256::of("a"),
                size: 1,
            },
        )]);
        assert_eq!(
            checksums(&files),
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.img\n"
        );
    }
}
