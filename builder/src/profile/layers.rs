//! Which files make a profile: the device's own, its bases in order, and the table of features.
//!
//! Reads and orders; merges nothing.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use super::Origin;
use super::checks;
use super::diagnostic::SourceFile;
use super::raw::{RawFeature, RawFeatures, RawProfile};
use crate::project::Project;
use crate::{Error, Result, nearest};

/// The file that holds the features; it is no profile.
pub(super) const FEATURES: &str = "features";

/// One profile file.
pub(super) struct Layer {
    pub(super) file: SourceFile,
    pub(super) raw: RawProfile,
}

/// `features.toml`.
pub(super) struct Features {
    pub(super) file: SourceFile,
    by_name: BTreeMap<String, RawFeature>,
}

impl Layer {
    pub(super) fn read(project: &Project, name: &str) -> Result<Self> {
        let file = SourceFile::read(project, path(name))?;
        let raw = file.parse()?;
        Ok(Self { file, raw })
    }

    pub(super) fn origin(&self, offset: usize) -> Origin {
        Origin {
            file: self.file.path.clone(),
            line: self.file.line(offset),
            feature: None,
        }
    }
}

impl Features {
    pub(super) fn read(project: &Project) -> Result<Self> {
        let file = SourceFile::read(project, path(FEATURES))?;
        let raw: RawFeatures = file.parse()?;
        let mut by_name = BTreeMap::new();
        for (name, feature) in raw.feature {
            checks::plain_name(name.get_ref()).map_err(|reason| {
                file.error(
                    name.span(),
                    format!("malformed name of a feature in {}", file.path),
                    &reason,
                )
            })?;
            by_name.insert(name.into_inner(), feature);
        }
        Ok(Self { file, by_name })
    }

    pub(super) fn find(&self, name: &str) -> Option<(&str, &RawFeature)> {
        self.by_name
            .get_key_value(name)
            .map(|(name, feature)| (name.as_str(), feature))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// Names of all files in `profiles/` but the features, sorted.
pub(super) fn names(project: &Project) -> Result<Vec<String>> {
    let dir = project.profiles();
    let failed = |error| Error::io("read the folder", &dir, error);
    let mut names = Vec::new();
    for entry in dir.read_dir_utf8().map_err(failed)? {
        let path = entry.map_err(failed)?.into_path();
        let Some(name) = path.file_stem().filter(|_| path.extension() == Some("toml")) else {
            continue;
        };
        // `.#rpi4.toml` and the like are an editor's.
        if name == FEATURES || name.starts_with('.') {
            continue;
        }
        checks::plain_name(name).map_err(|reason| {
            Error::user(format!(
                "malformed name of a profile: profiles/{name}.toml: {reason}"
            ))
            .hint("rename the file; its name is what people type after --device")
        })?;
        names.push(name.to_owned());
    }
    names.sort();
    Ok(names)
}

/// The device's file and all its bases: what is nearer to the device comes later, and each file once.
pub(super) fn chain(project: &Project, name: &str) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    append(
        project,
        Layer::read(project, name)?,
        &mut vec![name.to_owned()],
        &mut layers,
    )?;
    Ok(layers)
}

fn append(project: &Project, layer: Layer, open: &mut Vec<String>, layers: &mut Vec<Layer>) -> Result<()> {
    for base in &layer.raw.extends {
        let name = base.get_ref();
        if open.contains(name) {
            let chain = open
                .iter()
                .chain([name])
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" → ");
            let message = format!("profiles extend each other in a circle: {chain}");
            return Err(layer
                .file
                .error(base.span(), message, "closes the circle")
                .hint(format!("remove `{name}` from `extends` in {}", layer.file.path)));
        }
        if layers.iter().any(|seen| seen.file.stem() == name) {
            continue;
        }
        if name == FEATURES || !project.root.join(path(name)).is_file() {
            let known = names(project)?;
            let others = known
                .iter()
                .map(String::as_str)
                .filter(|known| *known != layer.file.stem());
            let error = layer.file.error(
                base.span(),
                format!("unknown base `{name}` in {}", layer.file.path),
                &format!("there is no {}", path(name)),
            );
            return Err(nearest::hint(name, "profiles that can be extended", others)
                .into_iter()
                .fold(error, Error::hint));
        }
        let base = Layer::read(project, name)?;
        open.push(name.clone());
        append(project, base, open, layers)?;
        open.pop();
    }
    layers.push(layer);
    Ok(())
}

fn path(name: &str) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("profiles/{name}.toml"))
}
