//! A TCP connection whose other end sends everything back: what arrives is compared with what was sent, byte by byte, and
//! the longest time is known in which nothing arrived.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use super::failed;
use crate::{Error, Result};

/// Bytes written at once.
const BLOCK: u64 = 16_384;

/// Runs until it is dropped.
pub(super) struct Transfer {
    progress: Arc<Mutex<Progress>>,
    tasks: [JoinHandle<()>; 2],
}

struct Progress {
    received: u64,
    last: Instant,
    longest_gap: Duration,
    end: Option<String>,
}

impl Transfer {
    /// Takes the router's connection and begins.
    pub(super) async fn accept(listener: &TcpListener, patience: Duration) -> Result<Self> {
        let (stream, _) = tokio::time::timeout(patience, listener.accept())
            .await
            .map_err(|_| failed("no TCP connection came through the tunnel"))?
            .map_err(|error| Error::environment("failed to accept the router's connection").because(error))?;
        let progress = Arc::new(Mutex::new(Progress {
            received: 0,
            last: Instant::now(),
            longest_gap: Duration::ZERO,
            end: None,
        }));
        let (reader, writer) = stream.into_split();
        let tasks = [
            tokio::spawn(send(writer)),
            tokio::spawn(receive(reader, Arc::clone(&progress))),
        ];
        Ok(Self { progress, tasks })
    }

    /// Bytes that came back so far.
    pub(super) fn received(&self) -> u64 {
        lock(&self.progress).received
    }

    /// Measures gaps from now on.
    pub(super) fn forget_gaps(&self) {
        let mut progress = lock(&self.progress);
        progress.longest_gap = Duration::ZERO;
        progress.last = Instant::now();
    }

    /// The longest time in which nothing arrived, with the one that lasts.
    pub(super) fn longest_gap(&self) -> Duration {
        let progress = lock(&self.progress);
        progress.longest_gap.max(progress.last.elapsed())
    }

    /// An error if the connection ended, or brought something else than what was sent.
    pub(super) fn check(&self) -> Result<()> {
        match &lock(&self.progress).end {
            Some(end) => Err(failed(end)),
            None => Ok(()),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What byte `position` of the stream is: no shift of the stream looks like it.
fn pattern(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

async fn send(mut writer: OwnedWriteHalf) {
    let mut position = 0;
    loop {
        let block: Vec<u8> = (position..position + BLOCK).map(pattern).collect();
        // The reader tells of a connection that ended.
        if writer.write_all(&block).await.is_err() {
            return;
        }
        position += BLOCK;
    }
}

async fn receive(mut reader: OwnedReadHalf, progress: Arc<Mutex<Progress>>) {
    let mut buffer = vec![0; 65_536];
    let mut position = 0;
    let end = loop {
        let length = match reader.read(&mut buffer).await {
            Ok(0) => break "the router closed the connection".to_owned(),
            Ok(length) => length,
            Err(error) => break format!("the connection broke: {error}"),
        };
        let wrong = (position..)
            .zip(&buffer[..length])
            .find(|(position, byte)| **byte != pattern(*position));
        if let Some((position, _)) = wrong {
            break format!("byte {position} of the transfer came back changed");
        }
        position += length as u64;
        let mut progress = lock(&progress);
        progress.received = position;
        progress.longest_gap = progress.longest_gap.max(progress.last.elapsed());
        progress.last = Instant::now();
    };
    lock(&progress).end = Some(end);
}
