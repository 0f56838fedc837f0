//! One file from one place: HTTP with ranges, or a copy from a folder.

use std::io::Read;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::cache::{Part, Unwritten};
use super::places::{Place, Refusal};
use super::{Inner, Wanted, blocking};
use crate::{Error, Result};

/// So many bytes count as progress: a line that breaks now and then is tried on for ever.
const PROGRESS: u64 = 64 * 1024;
/// Chunks between the network and the disk.
const QUEUE: usize = 16;

/// How one request ended.
enum End {
    /// The body is whole, as far as HTTP can tell.
    Whole,
    /// Worth another attempt, continued where it broke off, after a pause that the server may have asked for.
    Broken(String, Option<Duration>),
    /// What is there cannot be continued: from the beginning, without asking for a range.
    Restart(String),
    Refused(Refusal),
}

/// What the attempts at one place have learned.
#[derive(Default)]
struct Memory {
    failures: u32,
    /// From now on without ranges and past caches.
    afresh: bool,
    /// The strong ETag of the bytes that are there, if this process received them.
    validator: Option<HeaderValue>,
}

impl Inner {
    /// Fills `part` from `place` until it has its hash. The part comes back for the next place.
    pub(super) async fn transfer(
        &self,
        place: &Place,
        mut part: Part,
        wanted: &Wanted,
        bar: &ProgressBar,
    ) -> Result<(Part, Result<(), Refusal>)> {
        let url = match place {
            Place::Url(url) => url,
            Place::File(path) => return copy(path.clone(), part, wanted.clone(), bar.clone()).await,
        };
        let mut memory = Memory::default();
        loop {
            let before = part.length();
            let end = if wanted.size == Some(before) {
                End::Whole
            } else {
                let (left, end) = self.attempt(url, part, &mut memory, bar).await?;
                part = left;
                end
            };
            match end {
                End::Whole if part.digest() == wanted.sha256 => return Ok((part, Ok(()))),
                End::Whole if memory.afresh => {
                    let found = part.digest();
                    forget(&mut part, bar)?;
                    let why = format!("its SHA-256 is {found}, not {}", wanted.sha256);
                    return Ok((part, Err(Refusal::Wrong(why))));
                }
                // The beginning may be from another file, or a cache on the way has an old one.
                End::Whole => start_afresh(&mut part, &mut memory, bar)?,
                End::Restart(_) if !memory.afresh => start_afresh(&mut part, &mut memory, bar)?,
                End::Restart(why) => return Ok((part, Err(Refusal::Unreachable(why)))),
                End::Refused(Refusal::Wrong(_)) if !memory.afresh => {
                    start_afresh(&mut part, &mut memory, bar)?
                }
                End::Refused(refusal) => return Ok((part, Err(refusal))),
                End::Broken(why, asked) => {
                    if part.length() >= before + PROGRESS {
                        memory.failures = 0;
                    }
                    memory.failures += 1;
                    if memory.failures >= self.options.patience.attempts {
                        let why = format!("{why} ({} attempts)", memory.failures);
                        return Ok((part, Err(Refusal::Unreachable(why))));
                    }
                    tokio::time::sleep(self.options.patience.pause(memory.failures, asked)).await;
                }
            }
        }
    }

    /// One request.
    async fn attempt(
        &self,
        url: &str,
        mut part: Part,
        memory: &mut Memory,
        bar: &ProgressBar,
    ) -> Result<(Part, End)> {
        let mut headers = HeaderMap::new();
        if memory.afresh {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            part.restart()?;
        }
        let resumed = part.length();
        if resumed > 0 {
            let range = HeaderValue::try_from(format!("bytes={resumed}-"));
            headers.insert(
                header::RANGE,
                range.map_err(|error| Error::bug("a range header").because(error))?,
            );
            if let Some(validator) = &memory.validator {
                headers.insert(header::IF_RANGE, validator.clone());
            }
        }
        let response = match self.request(url, headers).await? {
            Ok(response) => response,
            Err(end) => return Ok((part, end)),
        };
        if resumed > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            // The whole file instead of the rest of it.
            part.restart()?;
        }
        if let Err(end) = fits(&response, &part) {
            return Ok((part, end));
        }
        memory.validator = strong_etag(&response);
        bar.set_position(bar.position().saturating_sub(resumed) + part.length());
        receive(response, part, bar).await
    }

    /// Sends a request; an answer that is not a file becomes the end of this attempt.
    async fn request(&self, url: &str, headers: HeaderMap) -> Result<Result<Response, End>> {
        // Compressed on the way, ranges would count other bytes than ours.
        let request = self
            .client()?
            .get(url)
            .header(header::ACCEPT_ENCODING, "identity")
            .headers(headers);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => {
                return Err(Error::user(format!("{url} is not a URL")).because(error.without_url()));
            }
            Err(error) => return Ok(Err(End::Broken(cause(error), None))),
        };
        let status = response.status();
        Ok(match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(End::Refused(Refusal::Absent(status.to_string())))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => Err(End::Restart(status.to_string())),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(End::Broken(status.to_string(), retry_after(&response)))
            }
            _ if status.is_server_error() => Err(End::Broken(status.to_string(), retry_after(&response))),
            _ => Err(End::Refused(Refusal::Unreachable(status.to_string()))),
        })
    }

    /// Small, unverified bytes, past caches.
    pub(super) async fn small(&self, place: &Place, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
        let url = match place {
            Place::Url(url) => url,
            Place::File(path) => {
                let path = path.clone();
                return blocking(move || Ok(read_small(&path, max_bytes)))
                    .await
                    .map_err(Refusal::Local)?;
            }
        };
        let mut failures = 0;
        loop {
            let headers =
                HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))]);
            let end = match self.request(url, headers).await.map_err(Refusal::Local)? {
                Ok(response) => match collect(response, max_bytes).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(end) => end,
                },
                Err(end) => end,
            };
            let (why, asked) = match end {
                End::Broken(why, asked) => (why, asked),
                End::Refused(refusal) => return Err(refusal),
                End::Restart(why) => return Err(Refusal::Unreachable(why)),
                End::Whole => return Err(Refusal::Local(Error::bug("a whole body without bytes"))),
            };
            failures += 1;
            if failures >= self.options.patience.attempts {
                return Err(Refusal::Unreachable(format!("{why} ({failures} attempts)")));
            }
            tokio::time::sleep(self.options.patience.pause(failures, asked)).await;
        }
    }
}

fn forget(part: &mut Part, bar: &ProgressBar) -> Result<()> {
    bar.set_position(bar.position().saturating_sub(part.length()));
    part.restart()
}

fn start_afresh(part: &mut Part, memory: &mut Memory, bar: &ProgressBar) -> Result<()> {
    memory.afresh = true;
    forget(part, bar)
}

/// Refuses an answer that says itself that it is not the file, or not the part of it that was asked for.
fn fits(response: &Response, part: &Part) -> Result<(), End> {
    let start = part.length();
    let known_size = part.known_size();
    if response.status() == StatusCode::PARTIAL_CONTENT {
        let range = response
            .headers()
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        let Some((first, total)) = range.and_then(content_range) else {
            return Err(End::Restart(
                "it answers with a part, and does not say which".into(),
            ));
        };
        if first != start {
            return Err(End::Restart(format!(
                "it answers from byte {first}, not from {start}"
            )));
        }
        return match (known_size, total) {
            (Some(size), Some(total)) if size != total => Err(End::Refused(Refusal::Wrong(format!(
                "it has {total} bytes, not {size}"
            )))),
            _ => Ok(()),
        };
    }
    match (known_size, response.content_length()) {
        (Some(size), Some(length)) if size != length => Err(End::Refused(Refusal::Wrong(format!(
            "it has {length} bytes, not {size}"
        )))),
        _ => Ok(()),
    }
}

/// `bytes 100-199/1000` is (100, Some(1000)).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Receives a body into a part; a thread of its own hashes and writes while the next bytes arrive.
async fn receive(mut response: Response, part: Part, bar: &ProgressBar) -> Result<(Part, End)> {
    let (queue, received) = mpsc::channel(QUEUE);
    let writer = write(part, received, bar.clone());
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                if queue.send(chunk).await.is_err() {
                    break None;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(cause(error)),
        }
    };
    drop(queue);
    let (part, written) = writer
        .await
        .map_err(|error| Error::bug("the writer broke off").because(error))?;
    let end = match (written, broken) {
        (Err(Unwritten::Disk(error)), _) => End::Refused(Refusal::Local(error)),
        (Err(Unwritten::TooMany), _) => {
            End::Refused(Refusal::Wrong(format!("it has more than {} bytes", part.limit())))
        }
        (Ok(()), Some(why)) => End::Broken(why, None),
        (Ok(()), None) => match part.known_size() {
            Some(size) if part.length() < size => {
                End::Broken(format!("it ended after {} of {size} bytes", part.length()), None)
            }
            _ => End::Whole,
        },
    };
    Ok((part, end))
}

type Written = (Part, Result<(), Unwritten>);

fn write<Chunk>(mut part: Part, mut received: mpsc::Receiver<Chunk>, bar: ProgressBar) -> JoinHandle<Written>
where
    Chunk: AsRef<[u8]> + Send + 'static,
{
    tokio::task::spawn_blocking(move || {
        while let Some(chunk) = received.blocking_recv() {
            if let Err(unwritten) = part.append(chunk.as_ref()) {
                return (part, Err(unwritten));
            }
            bar.inc(chunk.as_ref().len() as u64);
        }
        (part, Ok(()))
    })
}

/// From a folder: copied, so that a later change there does not reach into the cache.
async fn copy(
    path: camino::Utf8PathBuf,
    mut part: Part,
    wanted: Wanted,
    bar: ProgressBar,
) -> Result<(Part, Result<(), Refusal>)> {
    blocking(move || {
        forget(&mut part, &bar)?;
        let ended = copy_into(&path, &mut part, &wanted, &bar);
        if ended.is_err() {
            forget(&mut part, &bar)?;
        }
        Ok((part, ended))
    })
    .await
}

fn copy_into(
    path: &camino::Utf8Path,
    part: &mut Part,
    wanted: &Wanted,
    bar: &ProgressBar,
) -> Result<(), Refusal> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::Absent("no such file".into()),
        _ => Refusal::Unreachable(error.to_string()),
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?.len();
    if wanted.size.is_some_and(|size| size != found) {
        let size = wanted.size.unwrap_or_default();
        return Err(Refusal::Wrong(format!("it has {found} bytes, not {size}")));
    }
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        match part.append(&buffer[..read]) {
            Ok(()) => bar.inc(read as u64),
            Err(Unwritten::Disk(error)) => return Err(Refusal::Local(error)),
            Err(Unwritten::TooMany) => {
                return Err(Refusal::Wrong(format!("it has more than {} bytes", part.limit())));
            }
        }
    }
    match part.digest() == wanted.sha256 {
        true => Ok(()),
        false => Err(Refusal::Wrong(format!(
            "its SHA-256 is {}, not {}",
            part.digest(),
            wanted.sha256
        ))),
    }
}

fn read_small(path: &camino::Utf8Path, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::Absent("no such file".into()),
        _ => Refusal::Unreachable(error.to_string()),
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    match bytes.len() as u64 > max_bytes {
        true => Err(Refusal::Wrong(format!("it has more than {max_bytes} bytes"))),
        false => Ok(bytes),
    }
}

async fn collect(mut response: Response, max_bytes: u64) -> Result<Vec<u8>, End> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| End::Broken(cause(error), None))?
    {
        if (bytes.len() + chunk.len()) as u64 > max_bytes {
            return Err(End::Refused(Refusal::Wrong(format!(
                "it has more than {max_bytes} bytes"
            ))));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn strong_etag(response: &Response) -> Option<HeaderValue> {
    let etag = response.headers().get(header::ETAG)?;
    (!etag.as_bytes().starts_with(b"W/")).then(|| etag.clone())
}

/// In seconds; a date is not understood, and our own back-off is used.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// reqwest's own text says "error sending request"; the reason is at the end of the chain.
fn cause(error: reqwest::Error) -> String {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(deeper) = reason.source() {
        reason = deeper;
    }
    match (timed_out, error.is_connect()) {
        (true, true) => "no connection in time".into(),
        (true, false) => "no byte in time".into(),
        (false, true) => format!("no connection: {reason}"),
        (false, false) => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_exactly() {
        assert_eq!(content_range("bytes 100-199/1000"), Some((100, Some(1000))));
        assert_eq!(content_range("bytes 0-9/*"), Some((0, None)));
        for wrong in ["bytes */1000", "100-199/1000", "bytes -5/10", "bytes a-b/c", ""] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
