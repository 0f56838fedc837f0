//! `--source`, `--mirror`, `--offline`, `--jobs`: the options of every command that takes files from a source.

use std::num::NonZeroUsize;

use camino::Utf8Path;
use clap::Args;

use crate::fetch::{Fetcher, Options, Patience};
use crate::project::{self, Project};
use crate::report::Report;
use crate::source::{self, Base, Source};
use crate::{Error, Result};

/// Where files come from, and how.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where files come from")]
pub(super) struct SourceOptions {
    /// A source's name, or a folder or server with a source.toml [default: openwrt]
    #[arg(long, value_name = "NAME|DIR|URL")]
    source: Option<String>,
    /// Fingerprint of the keys of a source on a server, needed the first time it is used
    #[arg(long, value_name = "SHA256", requires = "source")]
    source_key: Option<String>,
    /// Another place with the source's same bytes, asked first
    #[arg(long, value_name = "URL|DIR")]
    mirror: Option<String>,
    /// Take everything from the cache and from folders; open no connection
    #[arg(long)]
    offline: bool,
    /// Downloads, and builds, at once
    #[arg(long, short, value_name = "NUMBER")]
    jobs: Option<NonZeroUsize>,
}

impl SourceOptions {
    /// Opens the source, and a fetcher for it.
    pub(super) async fn open(&self, project: &Project, report: &Report) -> Result<(Source, Fetcher)> {
        let options = Options {
            offline: self.offline,
            mirror: self.mirror.as_deref().map(mirror).transpose()?,
            jobs: self.jobs.map_or(0, NonZeroUsize::get),
            patience: Patience::default(),
        };
        let fetcher = Fetcher::new(project::cache_dir()?, options, report.clone());
        let source = match self.source.as_deref() {
            Some(url) if source::is_url(url) => {
                source::open_url(url, self.source_key.as_deref(), &fetcher).await?
            }
            spec => source::open(project, spec)?,
        };
        Ok((source, fetcher))
    }

    /// True if no connection may be opened.
    pub(super) fn is_offline(&self) -> bool {
        self.offline
    }

    /// How many at once; `None`: as the machine allows.
    pub(super) fn jobs(&self) -> Option<NonZeroUsize> {
        self.jobs
    }
}

fn mirror(text: &str) -> Result<Base> {
    if source::is_url(text) {
        return Ok(Base::parse(text, Utf8Path::new("/")));
    }
    let folder = Utf8Path::new(text);
    match folder.canonicalize_utf8() {
        Ok(folder) if folder.is_dir() => Ok(Base::Folder(folder)),
        _ => Err(Error::user(format!(
            "--mirror {text} is no folder here, and no URL (https://…)"
        ))),
    }
}
