//! Page loads: 30 short connections, six at a time, as a browser opens them; a new page every two seconds.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::socket::{accept, connect, failed, is_glance, listen};
use super::{Reach, Running, Window};
use crate::link::Random;
use crate::namespace::Namespace;
use crate::sys::clock;
use crate::time::Nanos;
use crate::{Error, Result};

/// Connections of a page.
const OBJECTS: usize = 30;
/// How many at a time.
const PARALLEL: usize = 6;
/// From the start of a page to that of the next.
const EVERY: Nanos = Nanos(2_000_000_000);

/// What to load.
#[derive(Clone, Debug, PartialEq)]
pub struct PagePlan {
    /// Congestion control of both ends.
    pub congestion: String,
    /// Chance in the sizes of the objects.
    pub seed: u64,
}

/// One page: when it was asked for, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// When it was asked for.
    pub at: Nanos,
    /// Until the last byte of the last object was there.
    pub took: Nanos,
}

/// Sizes of a page's objects in bytes: 2 to 200 KB, most of them small.
fn sizes(seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed, 77);
    (0..OBJECTS)
        .map(|_| (2_000.0 * 10_f64.powf(2.0 * random.unit())) as u32)
        .collect()
}

/// Starts loading pages.
pub fn start(
    from: &Namespace,
    to: &Namespace,
    reach: Reach,
    plan: PagePlan,
    window: Window,
) -> Result<Running<Vec<Page>>> {
    let (tell_port, port) = mpsc::channel();
    let (server_reach, congestion) = (reach.clone(), plan.congestion.clone());
    let server = to.spawn(move || {
        let listener = listen(&server_reach, &congestion)?;
        let address = listener.local_addr().map_err(|error| failed("listen", &error))?;
        let _ = tell_port.send(address.port());
        while let Some(stream) = accept(&listener, window.end)? {
            // An object that fails is seen by the client.
            std::thread::spawn(move || serve(&stream, window.end));
        }
        Ok(())
    })?;
    let client = from.spawn(move || {
        let Ok(port) = port.recv() else {
            return server
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .map(|()| Vec::new());
        };
        let sizes = sizes(plan.seed);
        let mut pages = Vec::new();
        let mut at = window.start;
        while at + EVERY <= window.end {
            clock::sleep_until(at);
            if let Some(took) = load(&reach, port, &plan, &sizes, window.end)? {
                pages.push(Page { at, took });
            }
            at = (at + EVERY).max(clock::now());
        }
        Ok(pages)
    })?;
    Ok(Running(client))
}

/// Loads one page; none if the window ended meanwhile.
fn load(reach: &Reach, port: u16, plan: &PagePlan, sizes: &[u32], end: Nanos) -> Result<Option<Nanos>> {
    let begun = clock::now();
    let next = AtomicUsize::new(0);
    let outcome: Result<Vec<()>> = std::thread::scope(|scope| {
        let fetch = || {
            while let Some(size) = sizes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let limit = Duration::from(end.since(clock::now())).max(Duration::from_millis(1));
                object(&connect(reach, port, &plan.congestion, limit)?, *size, end)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(fetch)).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let done = clock::now();
    if done >= end {
        return Ok(None);
    }
    outcome.map(|_| Some(done.since(begun)))
}

/// Asks for an object and reads it.
fn object(mut stream: &TcpStream, size: u32, end: Nanos) -> Result<()> {
    stream
        .write_all(&size.to_le_bytes())
        .map_err(|error| failed("ask for an object", &error))?;
    let mut buffer = [0; 16 << 10];
    let mut left = size as usize;
    while left > 0 && clock::now() < end {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(Error::environment("a page's connection was closed too early", "")),
            Ok(bytes) => left = left.saturating_sub(bytes),
            Err(error) if is_glance(&error) => {}
            Err(error) => return Err(failed("read an object", &error)),
        }
    }
    Ok(())
}

/// Answers one connection.
fn serve(mut stream: &TcpStream, end: Nanos) {
    let mut request = [0; 4];
    let mut have = 0;
    while have < request.len() && clock::now() < end {
        match stream.read(&mut request[have..]) {
            Ok(0) => return,
            Ok(bytes) => have += bytes,
            Err(error) if is_glance(&error) => {}
            Err(_) => return,
        }
    }
    let body = [0x20; 16 << 10];
    let mut left = u32::from_le_bytes(request) as usize;
    while left > 0 && clock::now() < end {
        match stream.write(&body[..left.min(body.len())]) {
            Ok(bytes) => left -= bytes,
            Err(error) if is_glance(&error) => {}
            Err(_) => return,
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}
