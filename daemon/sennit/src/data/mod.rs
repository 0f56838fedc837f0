//! The data path: one thread that owns the engine, the TUN device and the UDP sockets, and moves packets between them.
//!
//! The other threads speak to it through a [`Handle`]: what they want done to the engine goes over as a closure, so that
//! the engine needs no lock.

mod clock;
mod counters;
mod endpoint;
mod shell;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use sennit_engine::ids::SocketId;
use sennit_engine::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

pub use clock::Clock;
pub use counters::Counters;
pub use endpoint::Endpoint;

use crate::tun::Tun;
use crate::udp::UdpSocket;
use crate::{Error, Result};
use shell::Shell;

/// What the data path tells.
#[derive(Debug)]
pub enum Notice<E> {
    /// The engine's events.
    Event(E),
    /// A socket's WAN refuses to send.
    Unreachable(SocketId),
    /// The TUN device is gone; the data path has ended.
    TunnelLost(io::Error),
}

/// Something to do to the engine.
type Action<E> = Box<dyn FnOnce(&mut E, Instant) + Send>;

enum Command<E> {
    Engine(Action<E>),
    AddSocket(SocketId, UdpSocket),
    RemoveSocket(SocketId),
    ReplaceTun(Tun),
    Counters(oneshot::Sender<Counters>),
    Stop,
}

/// Speaks to the data path.
pub struct Handle<E> {
    commands: Sender<Command<E>>,
    wake: Arc<OwnedFd>,
}

impl<E> Clone for Handle<E> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<E: Endpoint> Handle<E> {
    /// Does something to the engine; does not wait for it.
    pub fn engine(&self, action: impl FnOnce(&mut E, Instant) + Send + 'static) {
        self.send(Command::Engine(Box::new(action)));
    }

    /// Asks the engine; `None` if the data path has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut E, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.engine(move |engine, now| {
            let _ = answer.send(question(engine, now));
        });
        answered.await.ok()
    }

    /// What went through so far; `None` if the data path has ended.
    pub async fn counters(&self) -> Option<Counters> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Counters(answer));
        answered.await.ok()
    }

    /// Adds a socket; the engine must be told of its number afterwards.
    pub fn add_socket(&self, id: SocketId, socket: UdpSocket) {
        self.send(Command::AddSocket(id, socket));
    }

    /// Closes a socket.
    pub fn remove_socket(&self, id: SocketId) {
        self.send(Command::RemoveSocket(id));
    }

    /// Reads and writes another TUN device from now on.
    pub fn replace_tun(&self, tun: Tun) {
        self.send(Command::ReplaceTun(tun));
    }

    /// Ends the data path after it has sent what the engine still has to say.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// If the data path has ended, there is nobody to tell.
    fn send(&self, command: Command<E>) {
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

/// A running data path.
pub struct DataPath<E: Endpoint> {
    /// Speaks to it.
    pub handle: Handle<E>,
    /// What it tells.
    pub notices: UnboundedReceiver<Notice<E::Event>>,
    thread: JoinHandle<()>,
}

impl<E: Endpoint> DataPath<E> {
    /// Starts the thread. `make` makes the engine there, with the time that its clock begins at.
    pub fn start(tun: Tun, make: impl FnOnce(Instant) -> E + Send + 'static) -> Result<Self> {
        let failed = |what: &str, error: io::Error| {
            Error::environment(
                format!("failed to {what}: {error}"),
                "raise the limits of files and threads (ulimit -a)",
            )
        };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed("make an event", error.into()))?;
        let wake = Arc::new(wake);
        let (commands, received) = channel();
        let (tell, notices) = unbounded_channel();
        let handle = Handle {
            commands,
            wake: Arc::clone(&wake),
        };
        let thread = std::thread::Builder::new()
            .name("sennit-data".to_owned())
            .spawn(move || {
                let clock = Clock::new();
                let engine = make(clock.now());
                Shell::new(engine, tun, clock, received, wake, tell).run();
            })
            .map_err(|error| failed("start the data path", error))?;
        Ok(Self {
            handle,
            notices,
            thread,
        })
    }

    /// Stops the thread and waits for its end.
    pub fn stop(self) {
        self.handle.stop();
        // A panic there has been printed already.
        let _ = self.thread.join();
    }
}
