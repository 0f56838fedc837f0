//! Downloads into the content-addressed cache: resume, retry, several at once, verified before they get a name.
//!
//! What a file is called upstream matters only for finding it; it is known by its SHA-256 from then on. Nothing here
//! judges signatures: [`Fetcher::bytes`] hands out unverified metadata, and says so.

mod cache;
mod patience;
mod places;
mod transfer;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use camino::{Utf8Path, Utf8PathBuf};
use indicatif::{HumanBytes, ProgressBar};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::digest::Sha256;
use crate::report::Report;
use crate::source::{Base, Source};
use crate::{Error, Result};

use cache::Cache;
pub use patience::Patience;
use places::{Place, Refusal};

/// How to fetch.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take everything from the cache and from folders; open no connection.
    pub offline: bool,
    /// A place with the source's same bytes, asked first.
    pub mirror: Option<Base>,
    /// Downloads at once; 0 means 4.
    pub jobs: usize,
    /// Retries and time-outs.
    pub patience: Patience,
}

/// A file known by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Relative to the source's base.
    pub path: String,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Bytes, where known.
    pub size: Option<u64>,
    /// What progress and messages call it.
    pub label: String,
}

impl Wanted {
    /// Called by its file name.
    pub fn new(path: impl Into<String>, sha256: Sha256, size: Option<u64>) -> Self {
        let path = path.into();
        let label = path.rsplit('/').next().unwrap_or(&path).to_owned();
        Self {
            path,
            sha256,
            size,
            label,
        }
    }
}

/// Says what is wrong with a file's bytes.
pub type Vet = Box<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// A file whose own hash nobody published, and that is told from a wrong one in another way: an apk index signs the hash
/// of a part of each package.
pub struct Unhashed {
    /// Relative to the source's base.
    pub path: String,
    /// Bytes; they are held in memory.
    pub size: u64,
    /// Tells it from a wrong one.
    pub vet: Vet,
}

/// Fetches files. Cheap to clone; clones share connections, cache and the number of jobs.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    cache: Cache,
    client: OnceLock<reqwest::Client>,
    options: Options,
    slots: Semaphore,
    report: Report,
}

impl Fetcher {
    /// Keeps files in `cache_dir`, which is made when the first one arrives.
    pub fn new(cache_dir: impl Into<Utf8PathBuf>, options: Options, report: Report) -> Self {
        let jobs = if options.jobs == 0 { 4 } else { options.jobs };
        let (client, slots) = (OnceLock::new(), Semaphore::new(jobs));
        Self(Arc::new(Inner {
            cache: Cache::new(cache_dir.into()),
            client,
            options,
            slots,
            report,
        }))
    }

    /// Cache paths of files known by hash, in the order of `wanted`; downloads those that are missing.
    ///
    /// Every file was compared with its hash in this process. All downloads stop at the first failure; what was
    /// already received is kept and continued by the next run.
    pub async fn pinned(&self, source: &Source, wanted: &[Wanted]) -> Result<Vec<Utf8PathBuf>> {
        let mut paths = self.take(wanted).await?;
        let missing: Vec<usize> = (0..wanted.len())
            .filter(|&index| paths[index].is_none())
            .collect();
        let progress = Progress::new(&self.0.report, missing.iter().map(|&index| &wanted[index]));
        let source = Arc::new(source.clone());
        let mut downloads = JoinSet::new();
        for &index in &missing {
            let (inner, source, file) = (self.0.clone(), source.clone(), wanted[index].clone());
            let bar = progress.bar(&self.0.report, &file);
            downloads.spawn(async move {
                let _slot = inner
                    .slots
                    .acquire()
                    .await
                    .map_err(|_| Error::bug("download slots are closed"))?;
                Ok::<_, Error>((index, inner.download(&source, &file, &bar).await?))
            });
        }
        while let Some(ended) = downloads.join_next().await {
            let (index, path) =
                ended.map_err(|error| Error::bug("a download broke off").because(error))??;
            paths[index] = Some(path);
        }
        progress.done(&self.0.report);
        let path = |path: Option<Utf8PathBuf>| path.ok_or_else(|| Error::bug("a download has no path"));
        paths.into_iter().map(path).collect()
    }

    /// The path of a file that is in the cache with the right bytes.
    pub async fn cached(&self, sha256: Sha256, size: Option<u64>) -> Result<Option<Utf8PathBuf>> {
        let wanted = Wanted {
            path: String::new(),
            sha256,
            size,
            label: String::new(),
        };
        Ok(self.take(&[wanted]).await?.into_iter().next().flatten())
    }

    /// Downloads files without a known hash, vets them and puts them into the cache; hashes and paths in their order.
    pub async fn vetted(&self, source: &Source, files: Vec<Unhashed>) -> Result<Vec<(Sha256, Utf8PathBuf)>> {
        source.check_there()?;
        let total: u64 = files.iter().map(|file| file.size).sum();
        let bar = self.0.report.bytes(format!("{} files", files.len()), Some(total));
        let count = files.len();
        let source = Arc::new(source.clone());
        let mut downloads = JoinSet::new();
        for (index, file) in files.into_iter().enumerate() {
            let (fetcher, source, bar) = (self.clone(), source.clone(), bar.clone());
            downloads.spawn(async move {
                let inner = &fetcher.0;
                let _slot = inner
                    .slots
                    .acquire()
                    .await
                    .map_err(|_| Error::bug("download slots are closed"))?;
                let bytes = inner.vetted(&source, &file).await?;
                bar.inc(file.size);
                Ok::<_, Error>((index, fetcher.store(bytes).await?))
            });
        }
        let mut stored = BTreeMap::new();
        while let Some(ended) = downloads.join_next().await {
            let (index, kept) =
                ended.map_err(|error| Error::bug("a download broke off").because(error))??;
            stored.insert(index, kept);
        }
        bar.finish_and_clear();
        if count > 0 {
            self.0
                .report
                .done(format!("Downloaded {count} files ({})", HumanBytes(total)));
        }
        Ok(stored.into_values().collect())
    }

    /// Puts bytes that the caller has verified into the cache.
    pub async fn store(&self, bytes: Vec<u8>) -> Result<(Sha256, Utf8PathBuf)> {
        let inner = self.0.clone();
        blocking(move || inner.cache.store(&bytes)).await
    }

    /// Unverified metadata of at most `max_bytes`, always fresh: asked past caches, from the mirror first.
    pub async fn bytes(&self, source: &Source, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
        match self.first_that_has(source, path, max_bytes).await? {
            Ok(bytes) => Ok(bytes),
            Err(refusals) => Err(self.0.explain(source, path, &refusals, Kind::Metadata)),
        }
    }

    /// As [`Fetcher::bytes`]; `None` where the source answers that it has no such file.
    pub async fn optional(&self, source: &Source, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        match self.first_that_has(source, path, max_bytes).await? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(refusals)
                if refusals
                    .iter()
                    .all(|(_, refusal)| matches!(refusal, Refusal::Absent(_))) =>
            {
                Ok(None)
            }
            Err(refusals) => Err(self.0.explain(source, path, &refusals, Kind::Metadata)),
        }
    }

    /// As [`Fetcher::bytes`], as text.
    pub async fn text(&self, source: &Source, path: &str, max_bytes: u64) -> Result<String> {
        let bytes = self.bytes(source, path, max_bytes).await?;
        String::from_utf8(bytes)
            .map_err(|_| Error::environment(format!("{} is not text", source.base.locate(path))))
    }

    /// Unverified bytes of one address outside of any source.
    pub async fn address(&self, url: &str, max_bytes: u64) -> Result<Vec<u8>> {
        if self.0.options.offline {
            return Err(Error::environment(format!(
                "{url} is needed, and --offline forbids to ask for it"
            )));
        }
        self.0
            .small(&Place::Url(url.to_owned()), max_bytes)
            .await
            .map_err(|refusal| match refusal {
                Refusal::Local(error) => error,
                refusal => Error::environment(format!("failed to download {url}: {refusal}")),
            })
    }

    /// True where no connection may be opened.
    pub fn is_offline(&self) -> bool {
        self.0.options.offline
    }

    async fn take(&self, wanted: &[Wanted]) -> Result<Vec<Option<Utf8PathBuf>>> {
        let keys: Vec<_> = wanted.iter().map(|file| (file.sha256, file.size)).collect();
        let inner = self.0.clone();
        blocking(move || {
            keys.into_iter()
                .map(|(sha256, size)| inner.cache.take(sha256, size, &inner.report))
                .collect()
        })
        .await
    }

    async fn first_that_has(
        &self,
        source: &Source,
        path: &str,
        max_bytes: u64,
    ) -> Result<Result<Vec<u8>, Vec<(Place, Refusal)>>> {
        source.check_there()?;
        let mut refusals = Vec::new();
        for place in self.0.places(source, path, None) {
            match self.0.small(&place, max_bytes).await {
                Ok(bytes) => return Ok(Ok(bytes)),
                Err(Refusal::Local(error)) => return Err(error),
                Err(refusal) => refusals.push((place, refusal)),
            }
        }
        Ok(Err(refusals))
    }
}

impl Inner {
    /// Where `path` may be, in the order of asking; with a hash, archives too. Offline: folders only.
    fn places(&self, source: &Source, path: &str, sha256: Option<Sha256>) -> Vec<Place> {
        let mirror = self.options.mirror.iter().map(|base| Place::below(base, path));
        let base = std::iter::once(Place::below(&source.base, path));
        let archived = |sha256: Sha256| {
            let name = sha256.to_string();
            source
                .archives
                .iter()
                .map(move |archive| Place::below(archive, &name))
        };
        let archives = sha256.into_iter().flat_map(archived);
        let allowed = |place: &Place| !self.options.offline || matches!(place, Place::File(_));
        mirror.chain(base).chain(archives).filter(allowed).collect()
    }

    /// Downloads one file that is not in the cache, from the first place that has the right bytes.
    async fn download(
        self: &Arc<Self>,
        source: &Source,
        wanted: &Wanted,
        bar: &ProgressBar,
    ) -> Result<Utf8PathBuf> {
        source.check_there()?;
        let places = self.places(source, &wanted.path, Some(wanted.sha256));
        if places.is_empty() {
            return Err(self.explain(source, &wanted.path, &[], Kind::Locked));
        }
        let (inner, file) = (self.clone(), wanted.clone());
        let begun = blocking(move || {
            inner
                .cache
                .begin(file.sha256, file.size, &file.label, &inner.report)
        })
        .await?;
        let mut part = match begun {
            cache::Begun::There(path) => return Ok(path),
            cache::Begun::Part(part) => part,
        };
        let mut refusals = Vec::new();
        for place in places {
            let (left, ended) = self.transfer(&place, part, wanted, bar).await?;
            part = left;
            match ended {
                Ok(()) => {
                    let inner = self.clone();
                    return blocking(move || inner.cache.finish(part)).await;
                }
                Err(Refusal::Local(error)) => return Err(error),
                Err(refusal) => refusals.push((place, refusal)),
            }
        }
        Err(self.explain(source, &wanted.path, &refusals, Kind::Locked))
    }

    /// The bytes of a file that passes its examination, from the first place that has such.
    async fn vetted(&self, source: &Source, file: &Unhashed) -> Result<Vec<u8>> {
        let mut refusals = Vec::new();
        for place in self.places(source, &file.path, None) {
            let refusal = match self.small(&place, file.size).await {
                Ok(bytes) if bytes.len() as u64 != file.size => {
                    Refusal::Wrong(format!("it has {} bytes, not {}", bytes.len(), file.size))
                }
                Ok(bytes) => match (file.vet)(&bytes) {
                    Ok(()) => return Ok(bytes),
                    Err(why) => Refusal::Wrong(why),
                },
                Err(Refusal::Local(error)) => return Err(error),
                Err(refusal) => refusal,
            };
            refusals.push((place, refusal));
        }
        Err(self.explain(source, &file.path, &refusals, Kind::Locked))
    }

    /// The error after every place refused.
    fn explain(&self, source: &Source, path: &str, refusals: &[(Place, Refusal)], kind: Kind) -> Error {
        let tried = refusals
            .iter()
            .map(|(place, refusal)| format!("{place}: {refusal}"))
            .collect::<Vec<_>>()
            .join("; ");
        if self.options.offline {
            let tried = if tried.is_empty() {
                String::new()
            } else {
                format!(" ({tried})")
            };
            return Error::environment(format!(
                "{path} is not in the cache{tried}, and --offline forbids to download it"
            ))
            .hint("run the same command once without --offline");
        }
        let any_wrong = refusals
            .iter()
            .any(|(_, refusal)| matches!(refusal, Refusal::Wrong(_)));
        let all_absent = refusals
            .iter()
            .all(|(_, refusal)| matches!(refusal, Refusal::Absent(_)));
        if kind == Kind::Metadata && (any_wrong || all_absent) {
            return Error::environment(format!(
                "the source `{}` has no usable {path} ({tried})",
                source.name
            ))
            .hint("check release and target of the profile, and `base` of the source");
        }
        if any_wrong {
            return Error::environment(format!("failed to download {path}: {tried}"))
                .hint("a proxy, a mirror or the server hands out wrong bytes; nothing of it was kept")
                .hint("if the file was replaced upstream on purpose: builder lock --update DEVICE");
        }
        if all_absent {
            return Error::environment(format!("the source `{}` has no {path} ({tried})", source.name))
                .hint("take what the source has now: builder lock --update DEVICE")
                .hint("or name a place that still has it: --mirror URL|DIR");
        }
        let error = Error::environment(format!("failed to download {path}: {tried}"))
            .hint("check the network, and HTTPS_PROXY if this network needs one; what was received is kept");
        match &source.unreachable {
            Some(remedy) => error.hint(remedy),
            None => error,
        }
    }

    fn client(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // Another part of the program may have chosen it already; then it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("sennit-builder/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.options.patience.connect)
            // Of silence, not of the whole: a slow line is not an error.
            .read_timeout(self.options.patience.stall)
            .redirect(reqwest::redirect::Policy::limited(10))
            .build()
            .map_err(|error| {
                Error::environment("failed to prepare for HTTPS")
                    .because(error)
                    .hint("the system's CA certificates may be missing: apt-get install ca-certificates")
            })?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// What a file is to us, and so what helps when it cannot be had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A lock names it by its hash.
    Locked,
    /// Asked for by name, as it is now.
    Metadata,
}

/// One bar a file for a few files, one for all where there are many.
struct Progress {
    all: Option<ProgressBar>,
    lines: Vec<String>,
}

impl Progress {
    const FEW: usize = 3;

    fn new<'a>(report: &Report, files: impl Iterator<Item = &'a Wanted>) -> Self {
        let files: Vec<_> = files.collect();
        let total: Option<u64> = files.iter().map(|file| file.size).sum();
        let size = |bytes: Option<u64>| {
            bytes
                .map(|bytes| format!(" ({})", HumanBytes(bytes)))
                .unwrap_or_default()
        };
        if files.len() <= Self::FEW {
            let lines = files
                .iter()
                .map(|file| format!("Downloaded {}{}", file.label, size(file.size)))
                .collect();
            return Self { all: None, lines };
        }
        let all = report.bytes(format!("{} files", files.len()), total);
        Self {
            all: Some(all),
            lines: vec![format!("Downloaded {} files{}", files.len(), size(total))],
        }
    }

    fn bar(&self, report: &Report, file: &Wanted) -> ProgressBar {
        match &self.all {
            Some(bar) => bar.clone(),
            None => report.bytes(&file.label, file.size),
        }
    }

    fn done(self, report: &Report) {
        if let Some(bar) = self.all {
            bar.finish_and_clear();
        }
        self.lines.iter().for_each(|line| report.done(line));
    }
}

/// Runs what reads and writes files on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::bug("a file task broke off").because(error))?
}

/// The cache's folder for one file, for messages and tests.
pub fn cache_path(cache_dir: &Utf8Path, sha256: Sha256) -> Utf8PathBuf {
    cache::path(cache_dir, sha256)
}
