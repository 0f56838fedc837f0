//! The miniature: a folder laid out like OpenWrt's download site, made of Debian's packages, for tests and a first try.
//!
//! `sources/miniature/site/` is the site, `keys/` the public keys that `source.toml` trusts, `private/` the secret halves,
//! `debian/` the downloads. The builder knows nothing of it: it is a source like any other. A run whose inputs did not
//! change does nothing; an interrupted one leaves the old site in place.

mod archive;
mod debian;
mod imagebuilder;
mod kernel;
mod keys;
mod packages;
mod site;
mod tables;

use crate::{Failure, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::host::{project, say};
use archive::Tree;

/// Options of `ci miniature`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Make it again even if nothing changed.
    #[arg(long)]
    force: bool,
}

/// Where the miniature's parts lie.
struct Places {
    /// `ci/miniature`: tables, scripts, root file system.
    data: Utf8PathBuf,
    /// `sources/miniature`.
    source: Utf8PathBuf,
}

/// Makes the miniature, or says that it is there.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let project = project();
    let places = Places {
        data: project.join("ci/miniature"),
        source: project.join("sources/miniature"),
    };
    let site = places.source.join("site");
    let stamp = places.source.join("made");
    let inputs = inputs(&places)?;
    if !arguments.force && site.is_dir() && std::fs::read_to_string(&stamp).is_ok_and(|made| made == inputs) {
        say("the miniature is up to date: sources/miniature");
        return Ok(());
    }
    make(&places)?;
    archive::write_file(&stamp, inputs.as_bytes(), 0o644)?;
    say("made the miniature; use it with: builder build --device pc --source miniature");
    Ok(())
}

/// Hash of all that decides what the site holds, but for Debian's packages, which are kept once downloaded.
fn inputs(places: &Places) -> Result<String> {
    let program = std::env::current_exe().map_err(|error| Failure::io("find", "this program", error))?;
    let program = Utf8PathBuf::try_from(program).map_err(|error| Failure::environment(error.to_string()))?;
    let data = Tree::read(&places.data)?;
    Ok(format!(
        "{} {}\n",
        data.digest(),
        archive::sha256_of_file(&program)?
    ))
}

fn make(places: &Places) -> Result<()> {
    let tables = tables::Tables::read(&places.data)?;
    let keys = keys::Keys::prepare(&places.source)?;
    let site = places.source.join("site.new");
    archive::remove(&site)?;
    archive::create_folder(&site)?;
    for release in &tables.releases {
        for target in &release.targets {
            let debian = debian::Archive::prepare(&places.source.join("debian"), &target.debian)?;
            let kernel = kernel::Kernel::prepare(&debian, &places.data, &tables.packages)?;
            let context = site::Context {
                tables: &tables,
                release,
                target,
                kernel: &kernel,
                keys: &keys,
            };
            let tools = debian::Archive::prepare(&places.source.join("debian"), debian::HOST)?;
            let built = packages::build(&context, &tools, &places.data)?;
            site::write_feeds(&context, &built, &site)?;
            imagebuilder::write(&context, &built, &debian, &tools, &places.data, &site)?;
            site::sign_target(&context, &site)?;
            say(&format!(
                "    {} {}: ImageBuilder and {} packages",
                release.version,
                target.name,
                built.len()
            ));
        }
    }
    site::write_versions(&tables, &keys, &site)?;
    replace(&site, &places.source.join("site"))
}

/// Puts the new folder in the place of the old one.
fn replace(new: &Utf8Path, place: &Utf8Path) -> Result<()> {
    let old = place.with_extension("old");
    archive::remove(&old)?;
    if place.exists() {
        std::fs::rename(place, &old).map_err(|error| Failure::io("rename", place, error))?;
    }
    std::fs::rename(new, place).map_err(|error| Failure::io("rename", new, error))?;
    archive::remove(&old)
}
