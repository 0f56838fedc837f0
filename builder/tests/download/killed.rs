//! The real program: killed in the middle of a download, behind a proxy, and with a source on a server.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use builder::digest::Sha256;
use camino::Utf8PathBuf;
use openwrt_formats::usign::SecretKey;

use super::{SIZE, content};
use crate::server::{Answer, Server};

struct Run {
    _folder: tempfile::TempDir,
    root: Utf8PathBuf,
}

impl Run {
    /// A project with this repository's profiles and a source at `url` that trusts `key`.
    fn new(url: &str, key: &SecretKey) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let repository = Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        for name in ["profiles", "overlays"] {
            std::os::unix::fs::symlink(repository.join(name), root.join(name)).unwrap();
        }
        std::fs::create_dir_all(root.join("sources/lab")).unwrap();
        let public = key.public().to_text();
        let public = public.lines().nth(1).unwrap();
        let text = format!("name = 'lab'\nbase = '{url}'\nlabel = 'lab'\n[keys]\nusign = ['{public}']\n");
        std::fs::write(root.join("sources/lab/source.toml"), text).unwrap();
        Self {
            _folder: folder,
            root,
        }
    }

    fn builder(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_builder"));
        command
            .args(["--project", self.root.as_str()])
            .args(arguments)
            .env_clear()
            .env("HOME", &self.root)
            .env("SENNIT_CACHE", self.root.join("cache"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// The parts of a source that are fetched before the ImageBuilder is unpacked.
fn site(key: &SecretKey, target: &str) -> Vec<u8> {
    let profiles = br#"{"arch_packages": "x86_64"}"#.to_vec();
    let sums = format!(
        "{} *openwrt-imagebuilder-1.Linux-x86_64.tar.zst\n{} *profiles.json\n",
        Sha256::of(content()),
        Sha256::of(&profiles)
    );
    match target.rsplit('/').next() {
        Some("sha256sums") => sums.into_bytes(),
        Some("sha256sums.sig") => key.sign(sums.as_bytes()).into_bytes(),
        Some("profiles.json") => profiles,
        Some(".versions.json") => b"{}".to_vec(),
        _ => content(),
    }
}

#[test]
fn a_killed_builder_leaves_nothing_half_done_and_the_next_one_continues() {
    let key = SecretKey::from_seed(&[7; 32]);
    let (stalled, when_stalled) = mpsc::channel();
    let signer = key.clone();
    let server = Server::with(move |_, request| {
        let archive = request.target.ends_with(".tar.zst");
        let answer = match (archive, request.range) {
            (true, None) => {
                stalled.send(()).unwrap();
                Answer::StallAfter(SIZE / 2)
            }
            _ => Answer::Good,
        };
        (site(&signer, &request.target), answer)
    });
    let run = Run::new(&server.url, &key);

    let mut first = run
        .builder(&["lock", "--update", "pc", "--source", "lab"])
        .spawn()
        .unwrap();
    when_stalled.recv().unwrap();
    let partial = run
        .root
        .join("cache/partial")
        .join(Sha256::of(content()).to_string());
    while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < SIZE as u64 / 2 {
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!builder::fetch::cache_path(&run.root.join("cache"), Sha256::of(content())).exists());
    assert!(!run.root.join("images/lab.lock").exists());

    let second = run
        .builder(&["lock", "--update", "pc", "--source", "lab"])
        .output()
        .unwrap();
    let kept = builder::fetch::cache_path(&run.root.join("cache"), Sha256::of(content()));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(std::fs::read(kept).expect(&said), content());
    let asked = server
        .requests()
        .into_iter()
        .filter(|request| request.target.ends_with(".tar.zst"));
    assert_eq!(
        asked.map(|request| request.range).collect::<Vec<_>>(),
        [None, Some(SIZE / 2)]
    );
    // What it downloaded is no archive: that is the next thing it finds out, and nothing is locked.
    assert!(!second.status.success(), "{said}");
    assert!(!run.root.join("images/lab.lock").exists());
}

#[test]
fn one_changed_byte_in_sums_or_signature_is_refused_before_anything_is_downloaded() {
    let key = SecretKey::from_seed(&[7; 32]);
    for broken in ["sha256sums", "sha256sums.sig"] {
        let signer = key.clone();
        let server = Server::with(move |_, request| {
            let mut bytes = site(&signer, &request.target);
            if request.target.ends_with(&format!("/{broken}")) {
                // Hex and base64 stay hex and base64.
                let last = bytes.len() - 20;
                bytes[last] = if bytes[last] == b'a' { b'b' } else { b'a' };
            }
            (bytes, Answer::Good)
        });
        let run = Run::new(&server.url, &key);
        let output = run
            .builder(&["lock", "--update", "pc", "--source", "lab"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("is not signed by a key of the source `lab`"),
            "{said}"
        );
        assert!(
            !server
                .requests()
                .iter()
                .any(|request| request.target.ends_with(".tar.zst")),
            "{broken}"
        );
    }
}

#[test]
fn a_proxy_is_used_where_the_environment_names_one() {
    let key = SecretKey::from_seed(&[7; 32]);
    let proxy = Server::start(Vec::new(), vec![Answer::Status("404 Not Found"); 9]);
    let run = Run::new("http://lab.invalid/", &key);
    let mut command = run.builder(&["lock", "--update", "pc", "--source", "lab"]);
    let output = command.env("http_proxy", &proxy.url).output().unwrap();
    std::io::stderr().write_all(&output.stderr).unwrap();
    assert_eq!(proxy.requests()[0].target, "http://lab.invalid/.versions.json");
}

#[test]
fn a_source_on_a_server_needs_the_fingerprint_of_its_keys_once() {
    let key = SecretKey::from_seed(&[7; 32]);
    let public = key.public().to_text();
    let usign = public.lines().nth(1).unwrap();
    let text = format!("name = 'far'\nbase = '.'\nlabel = 'far'\n[keys]\nusign = ['{usign}']\n");
    let server = Server::start(text.into_bytes(), vec![]);
    let run = Run::new("http://unused.invalid/", &key);
    let lock = |more: &[&str]| {
        let arguments = [&["lock", "--source", server.url.as_str()], more].concat();
        let output = run.builder(&arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = lock(&[]);
    assert_eq!(code, Some(1), "{said}");
    let fingerprint = said.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(lock(&["--source-key", &"0".repeat(64)]).0, Some(1));
    assert_eq!(lock(&["--source-key", &fingerprint]).0, Some(0));
    assert_eq!(lock(&[]).0, Some(0));
    // What was accepted is remembered, and serves where no connection may be opened.
    let asked = server.requests().len();
    assert_eq!(lock(&["--offline"]).0, Some(0));
    assert_eq!(server.requests().len(), asked);
}
