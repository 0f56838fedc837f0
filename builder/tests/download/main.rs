//! Downloads from servers that cut, stall, lie and change their mind; full and read-only disks; a killed builder.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panics and say what they skip"
)]

mod disks;
mod killed;
mod server;

use std::sync::Arc;
use std::time::Duration;

use builder::digest::Sha256;
use builder::fetch::{self, Fetcher, Options, Patience, Wanted};
use builder::report::Report;
use builder::source::{Base, Keys, Source};
use builder::{Error, error::Exit};
use camino::{Utf8Path, Utf8PathBuf};
use server::{Answer, Server};

const SIZE: usize = 1_000_000;

/// Bytes without a period that a mistake in offsets could hide in.
fn content() -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(SIZE)
    .collect()
}

fn source(base: Base) -> Source {
    Source {
        name: "lab".into(),
        base,
        label: "lab".into(),
        archives: Vec::new(),
        keys: Keys::default(),
        made_by: None,
        unreachable: Some("ask the lab".into()),
    }
}

struct Test {
    _folder: tempfile::TempDir,
    cache: Utf8PathBuf,
    options: Options,
}

impl Test {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8PathBuf::from_path_buf(folder.path().join("cache")).unwrap();
        let patience = Patience {
            connect: Duration::from_secs(5),
            stall: Duration::from_millis(300),
            attempts: 3,
            first_pause: Duration::from_millis(1),
        };
        Self {
            _folder: folder,
            cache,
            options: Options {
                patience,
                ..Options::default()
            },
        }
    }

    fn fetcher(&self) -> Fetcher {
        Fetcher::new(&self.cache, self.options.clone(), Report::silent())
    }

    fn fetch_from(&self, source: &Source, wanted: &Wanted) -> Result<Utf8PathBuf, Error> {
        let paths = block_on(self.fetcher().pinned(source, std::slice::from_ref(wanted)))?;
        Ok(paths[0].clone())
    }

    fn fetch(&self, server: &Server, wanted: &Wanted) -> Result<Utf8PathBuf, Error> {
        self.fetch_from(&source(Base::Url(server.url.clone())), wanted)
    }

    /// Files with a final name.
    fn kept(&self) -> usize {
        walkdir::WalkDir::new(self.cache.join("sha256"))
            .into_iter()
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_type().is_file()))
            .count()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn wanted(bytes: &[u8]) -> Wanted {
    Wanted::new("releases/file.bin", Sha256::of(bytes), Some(bytes.len() as u64))
}

fn unsized_(bytes: &[u8]) -> Wanted {
    Wanted {
        size: None,
        ..wanted(bytes)
    }
}

#[test]
fn a_download_that_is_cut_continues_where_it_broke_off() {
    let test = Test::new();
    let server = Server::start(
        content(),
        vec![Answer::CutAfter(300_000), Answer::CutAfter(300_000)],
    );
    let path = test.fetch(&server, &wanted(&content())).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content());
    assert_eq!(server.ranges(), [None, Some(300_000), Some(600_000)]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o444
    );
}

#[test]
fn a_line_that_always_breaks_is_tried_on_while_it_makes_progress() {
    let test = Test::new();
    let server = Server::start(content(), vec![Answer::CutAfter(100_000); 20]);
    test.fetch(&server, &wanted(&content())).unwrap();
    assert_eq!(server.requests().len(), 10);
}

#[test]
fn a_server_that_only_ever_cuts_is_given_up_and_what_came_is_kept_for_the_next_run() {
    let test = Test::new();
    let server = Server::start(
        content(),
        vec![
            Answer::CutAfter(400_000),
            Answer::CutAfter(0),
            Answer::CutAfter(0),
        ],
    );
    let error = test.fetch(&server, &wanted(&content())).unwrap_err();
    assert_eq!(error.exit(), Exit::Environment);
    assert!(
        error.hints().iter().any(|hint| hint == "ask the lab"),
        "{:?}",
        error.hints()
    );
    assert_eq!(test.kept(), 0);
    // A new process, for all that the cache knows.
    test.fetch(&server, &wanted(&content())).unwrap();
    assert_eq!(server.ranges().last(), Some(&Some(400_000)));
}

#[test]
fn a_server_that_stalls_is_left_and_asked_again() {
    let test = Test::new();
    let server = Server::start(content(), vec![Answer::StallAfter(200_000)]);
    test.fetch(&server, &wanted(&content())).unwrap();
    assert_eq!(server.ranges(), [None, Some(200_000)]);
}

#[test]
fn a_length_that_is_not_the_locked_one_is_refused_before_the_bytes_are_taken() {
    let test = Test::new();
    let server = Server::start(content(), vec![Answer::LieAboutLength(10); 9]);
    let error = test.fetch(&server, &wanted(&content())).unwrap_err();
    assert!(
        error.to_string().contains("it has 1000010 bytes, not 1000000"),
        "{error}"
    );
    assert_eq!(test.kept(), 0);
}

#[test]
fn where_the_size_is_not_locked_a_lie_about_it_costs_a_request_and_nothing_else() {
    let test = Test::new();
    let server = Server::start(content(), vec![Answer::LieAboutLength(10)]);
    let path = test.fetch(&server, &unsized_(&content())).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
}

#[test]
fn a_wrong_range_means_from_the_beginning() {
    for answer in [Answer::WrongRange(100), Answer::LyingRange, Answer::IgnoreRange] {
        let test = Test::new();
        let server = Server::start(content(), vec![Answer::CutAfter(500_000), answer.clone()]);
        let path = test.fetch(&server, &wanted(&content())).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), content(), "{answer:?}");
        assert_eq!(server.ranges()[1], Some(500_000), "{answer:?}");
    }
}

#[test]
fn a_redirect_is_followed() {
    let test = Test::new();
    let target = Server::start(content(), vec![]);
    let server = Server::start(
        Vec::new(),
        vec![Answer::Redirect(format!("{}elsewhere", target.url))],
    );
    test.fetch(&server, &wanted(&content())).unwrap();
    assert_eq!(target.requests()[0].target, "/elsewhere");
}

#[test]
fn a_redirect_in_a_circle_ends() {
    let test = Test::new();
    let server = Server::start(Vec::new(), vec![Answer::Redirect("/again".into()); 100]);
    assert!(test.fetch(&server, &wanted(&content())).is_err());
    assert!(server.requests().len() < 60);
}

#[test]
fn garbage_is_retried_and_then_named() {
    let test = Test::new();
    let server = Server::start(content(), vec![Answer::Garbage; 9]);
    let error = test.fetch(&server, &wanted(&content())).unwrap_err();
    assert_eq!(server.requests().len(), 3);
    assert!(error.to_string().contains("(3 attempts)"), "{error}");
}

#[test]
fn a_busy_server_is_asked_again() {
    let test = Test::new();
    let busy = vec![
        Answer::Status("503 Service Unavailable\r\nRetry-After: 0"),
        Answer::Status("429 Too Many Requests"),
    ];
    test.fetch(&Server::start(content(), busy), &wanted(&content()))
        .unwrap();
}

#[test]
fn a_body_without_end_is_left_at_the_locked_size() {
    let test = Test::new();
    let server = Server::start(content(), vec![Answer::Endless; 9]);
    let error = test.fetch(&server, &wanted(&content())).unwrap_err();
    assert!(error.to_string().contains("more than 1000000 bytes"), "{error}");
}

#[test]
fn one_changed_byte_is_refused_even_past_caches_and_leaves_no_file() {
    let test = Test::new();
    let mut other = content();
    other[SIZE / 2] ^= 1;
    let server = Server::start(content(), vec![Answer::Other(other); 9]);
    let error = test.fetch(&server, &wanted(&content())).unwrap_err();
    assert!(error.to_string().contains("its SHA-256 is"), "{error}");
    assert_eq!(test.kept(), 0);
    let asked: Vec<bool> = server.requests().iter().map(|request| request.no_cache).collect();
    assert_eq!(asked, [false, true]);
}

#[test]
fn a_stale_cache_on_the_way_is_passed() {
    let test = Test::new();
    let server = Server::start(content(), vec![Answer::Other(vec![7; SIZE])]);
    test.fetch(&server, &wanted(&content())).unwrap();
    assert!(server.requests()[1].no_cache);
}

#[test]
fn a_mirror_is_asked_first_and_the_base_where_the_mirror_is_wrong() {
    let mirror = Server::start(content(), vec![Answer::Other(b"wrong".to_vec()); 9]);
    let base = Server::start(content(), vec![]);
    let mut test = Test::new();
    test.options.mirror = Some(Base::Url(mirror.url.clone()));
    test.fetch(&base, &wanted(&content())).unwrap();
    assert_eq!((mirror.requests().len(), base.requests().len()), (2, 1));
}

#[test]
fn what_the_base_lost_comes_from_an_archive_and_else_the_error_says_what_helps() {
    let gone = || Server::start(content(), vec![Answer::Status("404 Not Found"); 9]);
    let archive = Server::start(content(), vec![]);
    let test = Test::new();
    let mut source = source(Base::Url(gone().url));
    let error = test.fetch_from(&source, &wanted(&content())).unwrap_err();
    assert!(error.to_string().contains("releases/file.bin"), "{error}");
    assert!(
        error
            .hints()
            .iter()
            .any(|hint| hint.contains("builder lock --update")),
        "{:?}",
        error.hints()
    );
    source.archives = vec![Base::Url(archive.url.clone())];
    test.fetch_from(&source, &wanted(&content())).unwrap();
    assert_eq!(
        archive.requests()[0].target,
        format!("/{}", Sha256::of(content()))
    );
}

#[test]
fn offline_takes_what_is_there_and_asks_nobody() {
    let server = Server::start(content(), vec![]);
    let mut test = Test::new();
    test.options.offline = true;
    let error = test.fetch(&server, &wanted(&content())).unwrap_err();
    assert!(error.to_string().contains("--offline"), "{error}");
    test.options.offline = false;
    let first = test.fetch(&server, &wanted(&content())).unwrap();
    test.options.offline = true;
    assert_eq!(test.fetch(&server, &wanted(&content())).unwrap(), first);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_folder_is_a_source_offline_too_and_its_bytes_are_checked() {
    let mut test = Test::new();
    test.options.offline = true;
    let site = test.cache.with_file_name("site");
    std::fs::create_dir_all(site.join("releases")).unwrap();
    std::fs::write(site.join("releases/file.bin"), content()).unwrap();
    let source = source(Base::Folder(site.clone()));
    let path = test.fetch_from(&source, &wanted(&content())).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
    std::fs::write(site.join("releases/file.bin"), b"changed").unwrap();
    let mut other = content();
    other[0] ^= 1;
    assert!(test.fetch_from(&source, &wanted(&other)).is_err());
    assert_eq!(test.kept(), 1);
}

#[test]
fn a_file_of_the_cache_that_went_bad_is_fetched_again() {
    let test = Test::new();
    let server = Server::start(content(), vec![]);
    let path = test.fetch(&server, &wanted(&content())).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![0; SIZE]).unwrap();
    assert_eq!(test.fetch(&server, &wanted(&content())).unwrap(), path);
    assert_eq!(std::fs::read(&path).unwrap(), content());
}

#[test]
fn two_builders_download_a_file_once() {
    let test = Test::new();
    let server = Arc::new(Server::start(content(), vec![]));
    let source = source(Base::Url(server.url.clone()));
    let (first, second) = (test.fetcher(), test.fetcher());
    block_on(async {
        let wanted = [wanted(&content())];
        let (first, second) = tokio::join!(first.pinned(&source, &wanted), second.pinned(&source, &wanted));
        assert_eq!(first.unwrap(), second.unwrap());
    });
    assert_eq!(server.requests().len(), 1);
    assert_eq!(std::fs::read_dir(test.cache.join("partial")).unwrap().count(), 0);
}

#[test]
fn many_files_come_in_the_order_they_were_asked_for() {
    let test = Test::new();
    let server = Server::with(|_, request| (request.target.clone().into_bytes(), Answer::Good));
    let files: Vec<_> = (0..40)
        .map(|number| {
            let bytes = format!("/file-{number}");
            Wanted::new(&bytes[1..], Sha256::of(&bytes), Some(bytes.len() as u64))
        })
        .collect();
    let source = source(Base::Url(server.url.clone()));
    let paths = block_on(test.fetcher().pinned(&source, &files)).unwrap();
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("/file-{number}"));
    }
}

#[test]
fn metadata_is_fresh_bounded_and_may_be_absent() {
    let test = Test::new();
    let server = Server::start(
        content(),
        vec![Answer::Good, Answer::Good, Answer::Status("404 Not Found")],
    );
    let source = source(Base::Url(server.url.clone()));
    let fetcher = test.fetcher();
    block_on(async {
        assert_eq!(fetcher.bytes(&source, "a", SIZE as u64).await.unwrap(), content());
        assert!(fetcher.bytes(&source, "a", SIZE as u64 - 1).await.is_err());
        assert_eq!(fetcher.optional(&source, "a", 1).await.unwrap(), None);
    });
    assert!(server.requests().iter().all(|request| request.no_cache));
}

#[test]
fn a_name_that_a_cache_path_has_is_the_hash() {
    let sha256 = Sha256::of("x");
    let path = fetch::cache_path(Utf8Path::new("/cache"), sha256);
    assert_eq!(
        path,
        format!("/cache/sha256/{}/{sha256}", &sha256.to_string()[..2])
    );
}
