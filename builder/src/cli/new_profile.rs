//! `builder new-profile NAME`: a profile for one more board, from what its target publishes.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::json;
use tokio::task::JoinSet;

use super::Context;
use super::source_options::SourceOptions;
use crate::error::Exit;
use crate::fetch::Fetcher;
use crate::lock::{self, Lock};
use crate::profile::published::Target;
use crate::profile::{self, template};
use crate::project::Project;
use crate::report::Report;
use crate::source::Source;
use crate::{Error, Result};

/// Largest list of targets, and largest profiles.json, that is read.
const MAX_LIST: u64 = 16 << 20;

/// Write profiles/NAME.toml for a board that OpenWrt supports
///
/// The board is searched for by its name in all targets of the release; `--target` narrows the search. An existing
/// file is never overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the new profile: what people will type after --device
    name: String,
    /// Words of the board's name or id: --board nanopi r4s
    #[arg(long, value_name = "WORDS", num_args = 1.., required_unless_present = "target")]
    board: Vec<String>,
    /// Search in this target only: rockchip/armv8
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Release of OpenWrt [default: the newest that a profile of this project has]
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    #[command(flatten)]
    source: SourceOptions,
}

/// A board that fits the words.
struct Candidate {
    target: String,
    board: String,
    title: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit> {
    let project = context.project()?;
    let known = profile::list(&project)?;
    profile::check_new_name(&project, &arguments.name)?;
    let newest = known
        .iter()
        .map(|device| device.release.as_str())
        .max_by_key(|release| numbers(release));
    let release = match (&arguments.release, newest) {
        (Some(release), _) => release.clone(),
        (None, Some(release)) => release.to_owned(),
        (None, None) => {
            return Err(
                Error::user("this project has no profile yet to take the release from")
                    .hint("name it: --release 25.12.5"),
            );
        }
    };
    let words: Vec<String> = arguments
        .board
        .iter()
        .flat_map(|words| words.split_whitespace())
        .map(str::to_owned)
        .collect();
    let text = super::block_on(async {
        let (source, fetcher) = arguments.source.open(&project, &context.report).await?;
        let search = Search {
            project: &project,
            source: &source,
            fetcher: &fetcher,
            report: &context.report,
            release,
        };
        search.run(arguments.target.as_deref(), &words).await
    })?;
    let path = project.profiles().join(format!("{}.toml", arguments.name));
    write_new(&path, &text)?;
    // What was written must be a profile, whatever OpenWrt's list said.
    if let Err(error) = profile::load(&project, &arguments.name) {
        let _ = std::fs::remove_file(&path);
        return Err(error.context("OpenWrt's list made no valid profile"));
    }
    context.report.event(
        "profile-written",
        json!({ "device": arguments.name, "path": path }),
    );
    context.report.data(format!(
        "Wrote profiles/{name}.toml. Next:\n  \
         1. say in it which ports are LAN and WAN\n  \
         2. builder check {name}\n  \
         3. builder build --device {name}",
        name = arguments.name
    ));
    Ok(Exit::Ok)
}

fn write_new(path: &camino::Utf8Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(|error| Error::io("write in", folder, error))?;
    file.write_all(text.as_bytes())
        .map_err(|error| Error::io("write", path, error))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file()
        .set_permissions(mode)
        .map_err(|error| Error::io("write", path, error))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::user(format!("{path} is there already; it was not touched")).hint("give another name"))
        }
        Err(error) => Err(Error::io("write", path, error.error)),
    }
}

struct Search<'a> {
    project: &'a Project,
    source: &'a Source,
    fetcher: &'a Fetcher,
    report: &'a Report,
    release: String,
}

impl Search<'_> {
    /// The text of a profile for the only board that fits.
    async fn run(&self, only: Option<&str>, words: &[String]) -> Result<String> {
        let targets = match only {
            Some(target) => vec![target.to_owned()],
            None => self.targets().await?,
        };
        let mut found = self.candidates(targets, words).await?;
        // The exact id, or all words of one title and no more, beats boards that merely contain them (R3 and R3 Mini).
        let wanted = plain(&words.concat());
        if let Some(exact) = found
            .iter()
            .position(|c| plain(&c.board) == wanted || plain(&c.title) == wanted)
        {
            found = vec![found.swap_remove(exact)];
        }
        let [only] = found.as_slice() else {
            return Err(ambiguous(&found, words, &self.release));
        };
        let target = self.verified(&only.target).await?;
        template::render(&self.release, &target, &only.board)
    }

    /// All targets of the release.
    async fn targets(&self) -> Result<Vec<String>> {
        let path = format!("releases/{}/.targets.json", self.release);
        let bytes = self.fetcher.bytes(self.source, &path, MAX_LIST).await?;
        let targets: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|error| {
            Error::environment(format!("{} is malformed", self.source.base.locate(&path))).because(error)
        })?;
        Ok(targets.into_keys().collect())
    }

    /// Searches the lists as they are served; the one that is then used is verified.
    async fn candidates(&self, targets: Vec<String>, words: &[String]) -> Result<Vec<Candidate>> {
        let bar = self
            .report
            .spinner(format!("Searching {} targets", targets.len()));
        let mut tasks = JoinSet::new();
        for target in targets {
            let (source, fetcher) = (self.source.clone(), self.fetcher.clone());
            let path = format!("releases/{}/targets/{target}/profiles.json", self.release);
            tasks.spawn(async move {
                let bytes = fetcher.optional(&source, &path, MAX_LIST).await?;
                let list = bytes.map(|bytes| Target::parse(&path, &bytes)).transpose()?;
                Ok::<_, Error>((target, list))
            });
        }
        let mut found = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let (target, list) = ended.map_err(|error| Error::bug("a search broke off").because(error))??;
            let boards = list.map(|list| list.profiles).unwrap_or_default();
            found.extend(
                boards
                    .into_iter()
                    .filter(|(id, board)| board.matches(id, words))
                    .map(|(id, board)| Candidate {
                        target: target.clone(),
                        title: board.title(&id),
                        board: id,
                    }),
            );
        }
        bar.finish_and_clear();
        found.sort_by(|a, b| (&a.target, &a.board).cmp(&(&b.target, &b.board)));
        Ok(found)
    }

    /// The list of one target: by the lock's hash, else by the target's signed checksums.
    async fn verified(&self, target: &str) -> Result<Target> {
        let lock = Lock::read(&self.source.lock_path(self.project))?;
        let key = format!("{}/{target}", self.release);
        let (path, bytes) = match lock.targets.get(&key) {
            Some(locked) => {
                let file = self
                    .fetcher
                    .pinned(self.source, &[locked.profiles.wanted()])
                    .await?
                    .remove(0);
                let bytes = std::fs::read(&file).map_err(|error| Error::io("read", &file, error))?;
                (locked.profiles.path.clone(), bytes)
            }
            None => {
                let (release, report) = (&self.release, self.report);
                let bytes =
                    lock::verified_profiles(self.source, self.fetcher, release, target, report).await?;
                (
                    format!("releases/{release}/targets/{target}/profiles.json"),
                    bytes,
                )
            }
        };
        Target::parse(&path, &bytes)
    }
}

fn ambiguous(found: &[Candidate], words: &[String], release: &str) -> Error {
    let words = words.join(" ");
    if found.is_empty() {
        return Error::user(format!("OpenWrt {release} has no board that fits `{words}`"))
            .hint("fewer words find more: --board r5s; https://openwrt.org/toh lists what is supported");
    }
    let shown = found.iter().take(20).map(|candidate| {
        format!(
            "\n  {} ({}): --target {} --board {}",
            candidate.title, candidate.board, candidate.target, candidate.board
        )
    });
    let rest = found.len().saturating_sub(20);
    let rest = if rest > 0 {
        format!("\n  and {rest} more")
    } else {
        String::new()
    };
    Error::user(format!(
        "{} boards fit `{words}`:{}{rest}",
        found.len(),
        shown.collect::<String>()
    ))
    .hint("take one of these by its --target and --board")
}

fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// `25.12.5` as numbers, so that 25.12.10 is newer than 25.12.9.
fn numbers(release: &str) -> Vec<u32> {
    release
        .split(['.', '-'])
        .filter_map(|part| part.parse().ok())
        .collect()
}
