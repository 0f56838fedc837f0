//! What every device's image carries and what lies beside it: rendered overlays and FLASH.md, compared with snapshots.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p builder --test devices` writes the snapshots anew; read the difference.
//! Of the overlays, what all devices share is in common.txt, what differs in DEVICE.txt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use builder::build::flash_note::{Handed, flash_note};
use builder::overlay::{self, Content, Entry, RenderContext, Tree};
use builder::profile::{self, Image, Profile};
use builder::project::Project;
use camino::{Utf8Path, Utf8PathBuf};

const CONTEXT: RenderContext<'_> = RenderContext {
    source_label: "",
    version: "0.1.0",
};

fn project() -> Project {
    let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    Project {
        root: manifest.parent().expect("the workspace").to_owned(),
    }
}

fn profiles() -> BTreeMap<String, Profile> {
    let project = project();
    let devices = profile::list(&project).expect("profiles");
    let load = |name: String| {
        let resolved = profile::load(&project, &name).expect("a device that the list has");
        (name, resolved.profile)
    };
    devices.into_iter().map(|device| load(device.name)).collect()
}

fn trees() -> BTreeMap<String, Tree> {
    let render = |profile: &Profile| overlay::render(&project(), profile, &CONTEXT).expect("rendered");
    profiles()
        .iter()
        .map(|(device, profile)| (device.clone(), render(profile)))
        .collect()
}

/// Mode, path and overlay, and below it the content, indented.
fn listing<'a>(entries: impl Iterator<Item = (&'a Utf8PathBuf, &'a Entry)>) -> String {
    let mut text = String::new();
    for (path, entry) in entries {
        write!(text, "{:04o} /{path} ({})", entry.mode, entry.overlay).expect("a String takes it");
        match &entry.content {
            Content::Link(target) => writeln!(text, " -> {target}").expect("a String takes it"),
            Content::File(bytes) => {
                text.push('\n');
                for line in String::from_utf8_lossy(bytes).lines() {
                    text.push_str(if line.is_empty() { "" } else { "    " });
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn every_devices_tree_passes_the_lint() {
    for (device, tree) in trees() {
        assert_eq!(overlay::findings(&tree).expect("sh runs"), [], "{device}");
    }
}

#[test]
fn every_devices_tree_is_as_in_its_snapshot() {
    let trees = trees();
    let is_common =
        |path: &Utf8PathBuf, entry: &Entry| trees.values().all(|tree| tree.get(path) == Some(entry));
    let mut snapshots = BTreeMap::new();
    let first = trees.values().next().expect("a device");
    snapshots.insert(
        "common.txt".to_owned(),
        listing(first.iter().filter(|(path, entry)| is_common(path, entry))),
    );
    for (device, tree) in &trees {
        let own = tree.iter().filter(|(path, entry)| !is_common(path, entry));
        snapshots.insert(format!("{device}.txt"), listing(own));
    }

    compare("overlays", &snapshots);
}

#[test]
fn every_devices_flashing_note_is_as_in_its_snapshot() {
    let notes = profiles().into_iter().map(|(device, profile)| {
        let handed = |image: &Image| Handed {
            name: format!("sennit-0.1.0-{device}-{}", image.file),
            purpose: image.purpose.clone(),
            size: 40 << 20,
        };
        let images: Vec<Handed> = profile.images.iter().map(handed).collect();
        (format!("{device}.md"), flash_note(&profile, &images, &CONTEXT))
    });
    compare("flash", &notes.collect());
}

/// Compares texts with the files of a folder of snapshots, which has these files and no others.
fn compare(folder: &str, snapshots: &BTreeMap<String, String>) {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(folder);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("made");
        for (name, text) in snapshots {
            std::fs::write(folder.join(name), text).expect("written");
        }
    }
    let there: BTreeSet<String> = folder
        .read_dir_utf8()
        .expect("the folder of snapshots")
        .map(|entry| entry.expect("readable").file_name().to_owned())
        .collect();
    assert_eq!(
        there,
        snapshots.keys().cloned().collect(),
        "UPDATE_SNAPSHOTS=1 makes them anew"
    );
    for (name, text) in snapshots {
        let expected = std::fs::read_to_string(folder.join(name)).expect("readable");
        let differs = expected
            .lines()
            .zip(text.lines())
            .position(|(old, new)| old != new);
        assert!(
            expected == *text,
            "{name} differs from line {}; UPDATE_SNAPSHOTS=1 writes it anew",
            differs.unwrap_or(expected.lines().count().min(text.lines().count())) + 1
        );
    }
}
