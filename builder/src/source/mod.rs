//! Sources: where images come from. Name, base, trusted keys, lock file, label.
//!
//! A source is data in a `source.toml` (docs/sources.md); `openwrt` is one that is built in.
//! Nothing is downloaded here except the `source.toml` of a source named by URL.

mod description;
mod remembered;

use camino::{Utf8Path, Utf8PathBuf};

use crate::fetch::Fetcher;
use crate::project::{self, Project};
use crate::{Error, Result};

pub use description::key_fingerprint;

/// The source that is used when none is named.
pub const DEFAULT: &str = "openwrt";

/// Where a source's files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// `https://…/`, with the final slash.
    Url(String),
    /// A folder laid out like OpenWrt's site.
    Folder(Utf8PathBuf),
}

impl Base {
    /// `text` is a URL, or a folder relative to `here`.
    pub fn parse(text: &str, here: &Utf8Path) -> Self {
        if !is_url(text) {
            return Self::Folder(here.join(text));
        }
        Self::Url(if text.ends_with('/') {
            text.to_owned()
        } else {
            format!("{text}/")
        })
    }

    /// The address of a file below this base, for requests and messages.
    pub fn locate(&self, path: &str) -> String {
        match self {
            Self::Url(base) => format!("{base}{path}"),
            Self::Folder(folder) => folder.join(path).into_string(),
        }
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(base) => f.write_str(base),
            Self::Folder(folder) => f.write_str(folder.as_str()),
        }
    }
}

/// A source of ImageBuilders and packages.
#[derive(Clone, Debug)]
pub struct Source {
    /// `openwrt`, `miniature`, …
    pub name: String,
    /// Where it serves from.
    pub base: Base,
    /// Put into file names and the login banner of images; empty for `openwrt`.
    pub label: String,
    /// Places with the bytes of locked files that the base no longer has, tried in order.
    pub archives: Vec<Base>,
    /// Trusted signers of `sha256sums` and of package indexes.
    pub keys: Keys,
    /// The command that makes this source, shown when it is not there.
    pub made_by: Option<String>,
    /// What to do where its base cannot be reached, shown as a hint.
    pub unreachable: Option<String>,
}

/// Keys trusted for one source and for nothing else.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// OpenPGP primary fingerprints, 40 hex digits upper case.
    pub openpgp: Vec<String>,
    /// Where the OpenPGP key file is, tried in order: URLs, or paths below the base. It is trusted by fingerprint only.
    pub openpgp_key: Vec<String>,
    /// usign public keys, base64.
    pub usign: Vec<String>,
    /// EC P-256 public keys of apk indexes, PEM.
    pub apk: Vec<String>,
}

impl Source {
    /// `images/NAME.lock`.
    pub fn lock_path(&self, project: &Project) -> Utf8PathBuf {
        project.images().join(format!("{}.lock", self.name))
    }

    /// Where a device's images go: `images/DEVICE` for `openwrt`, `images/NAME/DEVICE` for all others,
    /// so that no look-alike lies where the real thing is expected.
    pub fn images_dir(&self, project: &Project, device: &str) -> Utf8PathBuf {
        match self.name.as_str() {
            DEFAULT => project.images().join(device),
            name => project.images().join(name).join(device),
        }
    }

    /// Fails with the command that makes this source where its folder is not there.
    pub fn check_there(&self) -> Result<()> {
        let Base::Folder(folder) = &self.base else {
            return Ok(());
        };
        if folder.is_dir() {
            return Ok(());
        }
        let error = Error::user(format!(
            "the source `{}` is not there: no folder {folder}",
            self.name
        ));
        Err(match &self.made_by {
            Some(command) => error.hint(format!("this makes it: {command}")),
            None => error.hint("check `base` in its source.toml"),
        })
    }
}

/// True where `spec` names a source by URL: [`open_url`] opens those.
pub fn is_url(spec: &str) -> bool {
    spec.starts_with("https://") || spec.starts_with("http://")
}

/// Opens the source called `spec` (`openwrt` if `None`): a folder with a `source.toml`, or a name, which is
/// `sources/NAME/source.toml` of the project, then of the user's configuration folder.
pub fn open(project: &Project, spec: Option<&str>) -> Result<Source> {
    let spec = spec.unwrap_or(DEFAULT);
    if spec == DEFAULT {
        return description::built_in();
    }
    if spec.contains('/') || spec.starts_with('.') {
        return description::read(&Utf8Path::new(spec).join("source.toml"));
    }
    let places = [
        Some(project.sources()),
        project::config_dir().ok().map(|dir| dir.join("sources")),
    ];
    let files = places
        .into_iter()
        .flatten()
        .map(|dir| dir.join(spec).join("source.toml"));
    let found = files.clone().find(|file| file.is_file());
    match found {
        Some(file) => {
            let source = description::read(&file)?;
            if source.name == spec {
                return Ok(source);
            }
            Err(Error::user(format!(
                "{file} calls its source `{}`, its folder says `{spec}`",
                source.name
            ))
            .hint("give both the same name: lock and images are named after it"))
        }
        None => {
            let looked = files.map(|file| file.to_string()).collect::<Vec<_>>().join(", ");
            Err(
                Error::user(format!("no source called `{spec}` (looked for {looked})")).hint(format!(
                    "known here: {}; a folder is written as ./DIR, a server as https://…",
                    names(project).join(", ")
                )),
            )
        }
    }
}

/// Opens a source that a server carries: `URL/source.toml`. On first use its keys must have the fingerprint
/// `key` ([`key_fingerprint`]), which the user has from somewhere trusted; later they must not change.
pub async fn open_url(url: &str, key: Option<&str>, fetcher: &Fetcher) -> Result<Source> {
    let base = Base::parse(url.strip_suffix("source.toml").unwrap_or(url), Utf8Path::new("/"));
    let remembered = remembered::Remembered::new(&project::config_dir()?, &base);
    let place = base.locate("source.toml");
    let text = match fetcher.address(&place, description::MAX_BYTES).await {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| Error::user(format!("{place} is not UTF-8")))?,
        // What was trusted before is still trusted: offline, the cache may have every locked file.
        Err(error) => remembered.read()?.ok_or(error)?,
    };
    let source = description::parse_served(&place, &text, &base)?;
    remembered.accept(&source, &text, key)?;
    Ok(source)
}

/// Names of the sources that [`open`] finds.
pub fn names(project: &Project) -> Vec<String> {
    let places = [
        Some(project.sources()),
        project::config_dir().ok().map(|dir| dir.join("sources")),
    ];
    let mut names = vec![DEFAULT.to_owned()];
    for dir in places.into_iter().flatten() {
        let entries = dir.read_dir_utf8().into_iter().flatten().flatten();
        let found = entries.filter(|entry| entry.path().join("source.toml").is_file());
        names.extend(found.map(|entry| entry.file_name().to_owned()));
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(dir: &tempfile::TempDir) -> Project {
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        std::fs::create_dir_all(root.join("sources/own")).unwrap();
        Project { root }
    }

    #[test]
    fn openwrt_is_built_in_and_trusts_exactly_its_release_keys() {
        let dir = tempfile::tempdir().unwrap();
        let source = open(&project(&dir), None).unwrap();
        assert_eq!(source.base, Base::Url("https://downloads.openwrt.org/".into()));
        assert_eq!(source.keys.openpgp, ["8A8BC12F46B836C0F9CDB36F1D53D1877742E911"]);
        assert_eq!(source.keys.usign.len(), 1);
        assert_eq!(source.keys.apk.len(), 1);
        assert_eq!(source.label, "");
    }

    #[test]
    fn a_name_is_a_folder_of_the_project_and_its_base_is_relative_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(&dir);
        let text =
            "name = 'own'\nbase = 'site'\nlabel = 'own'\nmade-by = 'make own'\n[keys]\nusign = ['own.pub']\n";
        std::fs::write(project.sources().join("own/source.toml"), text).unwrap();
        std::fs::write(
            project.sources().join("own/own.pub"),
            "untrusted comment: own\nRWQAAAA=\n",
        )
        .unwrap();
        let source = open(&project, Some("own")).unwrap();
        assert_eq!(source.base, Base::Folder(project.sources().join("own/site")));
        assert_eq!(source.keys.usign, ["RWQAAAA="]);
        assert_eq!(source.images_dir(&project, "pc"), project.images().join("own/pc"));
        let missing = source.check_there().unwrap_err();
        assert_eq!(missing.hints(), ["this makes it: make own"]);
    }

    #[test]
    fn an_unknown_name_says_where_it_was_looked_for_and_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(&project(&dir), Some("openwtr")).unwrap_err();
        assert!(
            error.to_string().contains("sources/openwtr/source.toml"),
            "{error}"
        );
        assert!(error.hints()[0].contains("openwrt"), "{:?}", error.hints());
    }
}
