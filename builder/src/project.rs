//! Where things lie: the project's folder, and the user's cache and configuration.

use camino::{Utf8Path, Utf8PathBuf};

use crate::{Error, Result};

/// The folder that holds `profiles/`, `overlays/` and `images/`.
#[derive(Clone, Debug)]
pub struct Project {
    /// Absolute path of the project.
    pub root: Utf8PathBuf,
}

impl Project {
    /// Takes `explicit` if given, else looks upwards from `start` for a folder with `profiles/` and `overlays/`.
    pub fn find(explicit: Option<&Utf8Path>, start: &Utf8Path) -> Result<Self> {
        let is_project = |dir: &Utf8Path| dir.join("profiles").is_dir() && dir.join("overlays").is_dir();
        let absolute = |path: &Utf8Path| {
            path.canonicalize_utf8()
                .map_err(|error| Error::io("open", path, error))
        };
        if let Some(dir) = explicit {
            let root = absolute(dir)?;
            if is_project(&root) {
                return Ok(Self { root });
            }
            return Err(Error::user(format!(
                "{dir} is not a project: it has no profiles/ and overlays/ folders"
            ))
            .hint("give the folder of a clone of the Sennit repository"));
        }
        let start = absolute(start)?;
        match start.ancestors().find(|dir| is_project(dir)) {
            Some(root) => Ok(Self {
                root: root.to_owned(),
            }),
            None => Err(Error::user(format!(
                "no project in {start} or above it (a folder with profiles/ and overlays/)"
            ))
            .hint("run this inside a clone of the Sennit repository, or name one: builder --project DIR …")),
        }
    }

    /// `profiles/`: one TOML per device.
    pub fn profiles(&self) -> Utf8PathBuf {
        self.root.join("profiles")
    }

    /// `overlays/`: named overlays.
    pub fn overlays(&self) -> Utf8PathBuf {
        self.root.join("overlays")
    }

    /// `images/`: locks, and the outputs of builds.
    pub fn images(&self) -> Utf8PathBuf {
        self.root.join("images")
    }

    /// `sources/`: `NAME/source.toml` each.
    pub fn sources(&self) -> Utf8PathBuf {
        self.root.join("sources")
    }

    /// Where work in progress lies (unpacked ImageBuilders, logs); safe to delete when nothing runs.
    pub fn work(&self) -> Utf8PathBuf {
        self.root.join("target/builder")
    }
}

/// The cache that all projects of this user share: `$SENNIT_CACHE`, else `$XDG_CACHE_HOME/sennit`, else `~/.cache/sennit`.
pub fn cache_dir() -> Result<Utf8PathBuf> {
    user_dir("SENNIT_CACHE", "XDG_CACHE_HOME", ".cache")
}

/// The user's own configuration: `$SENNIT_CONFIG`, else `$XDG_CONFIG_HOME/sennit`, else `~/.config/sennit`.
pub fn config_dir() -> Result<Utf8PathBuf> {
    user_dir("SENNIT_CONFIG", "XDG_CONFIG_HOME", ".config")
}

fn user_dir(own: &str, xdg: &str, home_relative: &str) -> Result<Utf8PathBuf> {
    let variable = |name: &str| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.is_empty())
            .map(Utf8PathBuf::from)
    };
    variable(own)
        .or_else(|| variable(xdg).map(|dir| dir.join("sennit")))
        .or_else(|| variable("HOME").map(|dir| dir.join(home_relative).join("sennit")))
        .ok_or_else(|| Error::environment(format!("neither {own}, {xdg} nor HOME is set")))
}
