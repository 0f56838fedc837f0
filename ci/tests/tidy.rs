//! What a reviewer would otherwise have to say again and again, as tests over the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    found.sort();
    found
}

const CRATES: [(&str, &str); 7] = [
    ("builder", "builder"),
    ("openwrt-formats", "builder/formats"),
    ("sennit-engine", "daemon/engine"),
    ("sennit", "daemon/sennit"),
    ("sennit-simulation", "daemon/simulation"),
    ("sennit-lab", "daemon/lab"),
    ("ci", "ci"),
];

/// Top-level modules of a crate: files and folders below `src/`.
fn modules(crate_folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(crate_folder.join("src"))
        .expect("every crate has src/")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "lib" && name != "main")
        .collect()
}

#[test]
fn the_code_map_names_every_module_and_no_other() {
    let map = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the map is there");
    for (name, folder) in CRATES {
        let written: BTreeSet<String> = map
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("| `{name}::"))?.split_once('`'))
            .map(|(module, _)| module.to_owned())
            .collect();
        assert_eq!(
            written,
            modules(&root().join(folder)),
            "docs/ARCHITECTURE.md, crate {name}"
        );
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (_, folder) in CRATES {
        for path in sources(&root().join(folder).join("src")) {
            let text = std::fs::read_to_string(&path).expect("readable");
            assert!(
                text.starts_with("//!"),
                "{} does not open with `//!`",
                path.display()
            );
        }
    }
}

#[test]
fn no_file_grows_past_what_one_can_read() {
    const LINES: usize = 700;
    for (_, folder) in CRATES {
        for path in sources(&root().join(folder).join("src")) {
            let lines = std::fs::read_to_string(&path).expect("readable").lines().count();
            assert!(lines <= LINES, "{} has {lines} lines: split it", path.display());
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("readable");
    let dependencies = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("a table of dependencies");
    for line in dependencies.lines().take_while(|line| !line.starts_with('[')) {
        let own = line.contains("path = ");
        if line.contains(" = ") && !line.starts_with('#') && !own {
            assert!(line.contains(" # "), "no reason beside `{line}` in Cargo.toml");
        }
    }
}
