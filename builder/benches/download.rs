//! How fast the builder downloads and verifies a file, beside curl, and beside curl with sha256sum after it.
//!
//! `cargo bench -p builder --bench download [-- MEBIBYTES]`. The server is on loopback, so that this measures what the
//! builder itself costs, not a network. Prints medians and ratios; judges nothing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark ends by a panic and prints its numbers"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use builder::digest::Sha256;
use builder::fetch::{Fetcher, Options, Wanted};
use builder::report::Report;
use builder::source::{Base, Keys, Source};
use camino::Utf8PathBuf;

const ROUNDS: usize = 7;

fn main() {
    let mebibytes = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(256_usize);
    let content: Arc<Vec<u8>> = Arc::new(
        (0..mebibytes << 20)
            .map(|index| ((index * index) >> 7) as u8)
            .collect(),
    );
    let wanted = Wanted::new("file", Sha256::of(&*content), Some(content.len() as u64));
    let url = serve(content);
    let folder = tempfile::tempdir_in(".").unwrap();
    let folder = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let source = Source {
        name: "bench".into(),
        base: Base::Url(url.clone()),
        label: "bench".into(),
        archives: Vec::new(),
        keys: Keys::default(),
        made_by: None,
        unreachable: None,
    };
    let file = folder.join("file");
    let curl = || {
        run(Command::new("curl").args([
            "--silent",
            "--fail",
            "--output",
            file.as_str(),
            &format!("{url}file"),
        ]))
    };
    let sum = || run(Command::new("sha256sum").arg(&file).stdout(Stdio::null()));
    let builder = || {
        let fetcher = Fetcher::new(folder.join("cache"), Options::default(), Report::silent());
        runtime
            .block_on(fetcher.pinned(&source, std::slice::from_ref(&wanted)))
            .unwrap();
    };
    let (mut alone, mut summed, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that a busy moment of the machine hits all alike.
    for _ in 0..ROUNDS {
        let _ = std::fs::remove_file(&file);
        alone.push(time(curl));
        summed.push(alone.last().copied().unwrap() + time(sum));
        let _ = std::fs::remove_dir_all(folder.join("cache"));
        ours.push(time(builder));
    }
    let (alone, summed, ours) = (median(alone), median(summed), median(ours));
    let speed = |time: Duration| mebibytes as f64 / time.as_secs_f64();
    println!("{mebibytes} MiB over loopback, median of {ROUNDS}:");
    println!("  curl                 {:7.0} MiB/s", speed(alone));
    println!("  curl and sha256sum   {:7.0} MiB/s", speed(summed));
    println!("  builder (verified)   {:7.0} MiB/s", speed(ours));
    println!(
        "  builder beside curl: {:.2}; beside curl and sha256sum: {:.2}",
        ratio(ours, alone),
        ratio(ours, summed)
    );
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    theirs.as_secs_f64() / ours.as_secs_f64()
}

fn time(work: impl Fn()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success());
}

/// Answers every request with `content`.
fn serve(content: Arc<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, content) = (connection.unwrap(), content.clone());
            std::thread::spawn(move || answer(connection, &content));
        }
    });
    url
}

fn answer(mut stream: TcpStream, content: &[u8]) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let length = content.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(content)
}
