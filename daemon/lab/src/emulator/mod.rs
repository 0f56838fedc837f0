//! The emulator at work: one real-time thread that carries frames between the ends of all links.
//!
//! It may be late, but it never guesses: frames are stamped by the kernel when they arrive, so that a late wake-up
//! does not change what a link does with them, and how late each delivery was is measured and reported.
//!
//! One thread for all links, because on a small machine every further one only adds wake-ups.

mod frame;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::link::{Change, Counters, Direction, Shape};
use crate::namespace::Namespace;
use crate::sys::clock;
use crate::sys::packet::{PacketSocket, SEND_BATCH};
use crate::sys::thread::{EMULATOR_PRIORITY, real_time};
use crate::time::Nanos;
use crate::{Error, Result};

use frame::{Frame, contents, is_for, is_inner, store};

/// Ethernet header and an IP packet of 1500 bytes. Anything longer is a super-packet that no wire would carry.
pub const MAX_FRAME: usize = 1514;
/// Width of a bin of the timelines.
pub const BIN: Nanos = Nanos(10_000_000);
/// While frames come, the thread wakes up this often. Waking up is what costs, not the frames: on a small virtual
/// machine ten times what carrying one takes.
const TICK: Nanos = Nanos(125_000);
/// Frames go out up to half a tick early, so that on average they are on time.
const AHEAD: Nanos = Nanos(TICK.0 / 2);
/// A pause of this many ticks ends the ticking.
const QUIET_TICKS: u32 = 8;
/// How soon a command is seen while nothing happens.
const IDLE: Nanos = Nanos(5_000_000);

/// An interface of a link's end and the host behind it.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name in the WAN's namespace.
    pub interface: String,
    /// MAC address of the host.
    pub host: [u8; 6],
}

/// A link to be emulated.
#[derive(Debug)]
pub struct LinkPlan<'a> {
    /// Where its interfaces are.
    pub namespace: &'a Namespace,
    /// The clients' side: usually one, two if there is a neighbour.
    pub near: Vec<Port>,
    /// The server's side.
    pub far: String,
    /// From near to far.
    pub up: Shape,
    /// From far to near.
    pub down: Shape,
}

/// Which way through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happened in one bin of a timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Bytes of frames delivered.
    pub bytes: u32,
    /// The most bytes that were queued.
    pub queued: u32,
}

/// One direction of a link, as it was.
#[derive(Clone, Debug)]
pub struct DirectionReport {
    /// Frames and what became of them.
    pub counters: Counters,
    /// In bins of [`BIN`] from the emulator's start.
    pub bins: Vec<Bin>,
    /// Time in queue and jitter of delivered frames: what the link added to its plain delay.
    pub added_delay: Histogram,
}

/// One link, as it was.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// From the client to the server.
    pub up: DirectionReport,
    /// From the server to the client.
    pub down: DirectionReport,
    /// Frames of the client's own port whose packets were neither a tunnel's (UDP of its ports to or from the
    /// server) nor the link's own (ARP, ICMPv6): with a bond, packets that leaked.
    pub inner_frames: u64,
}

impl LinkReport {
    /// One of the directions.
    pub fn way(&self, way: Way) -> &DirectionReport {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

/// What the emulator did, and how well.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it began.
    pub started: Nanos,
    /// When this was asked for.
    pub until: Nanos,
    /// Each link.
    pub links: Vec<LinkReport>,
    /// How late frames were handed to the kernel after they were due.
    pub lateness: Histogram,
    /// Frames that the kernel dropped before the emulator saw them (its sockets' rings were full).
    pub socket_drops: u64,
    /// Frames that an interface refused when they were delivered.
    pub send_failures: u64,
    /// Frames over [`MAX_FRAME`]: none may come.
    pub oversize: u64,
    /// Whether the thread had real-time priority.
    pub real_time: bool,
    /// Processor time that it took, in nanoseconds; what the kernel does for the receiver on delivery is in it.
    pub cpu: u64,
}

enum Command {
    Change { link: usize, way: Way, change: Change },
    Begin,
    Delivered(Sender<Vec<u64>>),
    Report(Sender<Report>),
}

/// A running emulator, stopped when this value is dropped.
#[derive(Debug)]
pub struct Emulator {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    _awake: Option<File>,
}

/// Keeps the processors from sleeping deeply as long as the file is open (the kernel's power management quality of
/// service): on a quiet virtual machine waking up takes 0.3 ms, more than the emulator may be late. Where the kernel has no
/// such file, the measured lateness tells.
fn keep_awake() -> Option<File> {
    let mut file = File::options().write(true).open("/dev/cpu_dma_latency").ok()?;
    file.write_all(&0_i32.to_ne_bytes()).ok()?;
    Some(file)
}

impl Emulator {
    /// Starts carrying frames. All chance comes from `seed`.
    pub fn start(plans: Vec<LinkPlan<'_>>, seed: u64) -> Result<Self> {
        let now = clock::now();
        let mut links = Vec::new();
        for (number, plan) in plans.into_iter().enumerate() {
            links.push(Link::open(plan, seed, number as u64, now)?);
        }
        let (commands, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("emulator".into())
            .spawn(move || Worker::new(links, now).work(&inbox))
            .map_err(|error| Error::environment(format!("failed to start a thread: {error}"), ""))?;
        Ok(Self {
            commands: Some(commands),
            thread: Some(thread),
            _awake: keep_awake(),
        })
    }

    /// Changes a link; takes effect within 5 ms.
    pub fn change(&self, link: usize, way: Way, change: Change) {
        self.send(Command::Change { link, way, change });
    }

    /// Counts, and follows traces, from the beginning again: what a contestant did before its traffic is not part
    /// of the result, and every contestant meets the same weather.
    pub fn begin(&self) {
        self.send(Command::Begin);
    }

    /// Bytes of frames that each link has delivered, both ways together.
    pub fn delivered(&self) -> Result<Vec<u64>> {
        self.ask(Command::Delivered)
    }

    /// What happened so far.
    pub fn report(&self) -> Result<Report> {
        self.ask(Command::Report)
    }

    fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Command) -> Result<T> {
        let (tell, answer) = mpsc::channel();
        self.send(question(tell));
        answer
            .recv()
            .map_err(|_| Error::environment("the emulator ended by itself", "this is a bug of the lab"))
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // Fails only if the thread has ended, which `report` tells.
            let _ = commands.send(command);
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A direction with its measurements.
struct Lane {
    direction: Direction<Frame>,
    /// Arrivals of two ports may interleave; a link's time does not go back.
    last_arrival: Nanos,
    bins: Vec<Bin>,
    added_delay: Histogram,
}

impl Lane {
    fn new(shape: Shape, seed: u64, stream: u64, now: Nanos) -> Self {
        Self {
            direction: Direction::new(shape, seed, stream, now),
            last_arrival: now,
            bins: Vec::new(),
            added_delay: Histogram::new(),
        }
    }

    fn arrive(&mut self, at: Nanos, bytes: &[u8], pool: &mut Vec<Frame>, since_start: Nanos) {
        self.last_arrival = self.last_arrival.max(at);
        let frame = store(bytes, pool);
        let length = contents(&frame).len();
        self.direction.arrive(self.last_arrival, length as u32, frame);
        let queued = self.direction.queued_bytes() as u32;
        let bin = self.bin(since_start);
        bin.queued = bin.queued.max(queued);
    }

    fn bin(&mut self, since_start: Nanos) -> &mut Bin {
        let index = (since_start.0 / BIN.0) as usize;
        if self.bins.len() <= index {
            self.bins.resize(index + 1, Bin::default());
        }
        &mut self.bins[index]
    }

    fn report(&self) -> DirectionReport {
        DirectionReport {
            counters: self.direction.counters(),
            bins: self.bins.clone(),
            added_delay: self.added_delay.clone(),
        }
    }
}

struct Link {
    near: Vec<(PacketSocket, [u8; 6])>,
    far: PacketSocket,
    up: Lane,
    down: Lane,
    inner_frames: u64,
}

impl Link {
    fn open(plan: LinkPlan<'_>, seed: u64, number: u64, now: Nanos) -> Result<Self> {
        let (ports, far) = (plan.near, plan.far);
        let (near, far) = plan.namespace.run(move || {
            let open = |interface: &str| {
                PacketSocket::open(interface).map_err(|error| {
                    Error::environment(
                        format!("failed to open a packet socket on {interface}: {error}"),
                        "use a kernel with packet sockets and memory-mapped rings (CONFIG_PACKET)",
                    )
                })
            };
            let near: Result<Vec<_>> = ports
                .iter()
                .map(|port| Ok((open(&port.interface)?, port.host)))
                .collect();
            Ok((near?, open(&far)?))
        })?;
        Ok(Self {
            near,
            far,
            up: Lane::new(plan.up, seed, number * 2, now),
            down: Lane::new(plan.down, seed, number * 2 + 1, now),
            inner_frames: 0,
        })
    }
}

struct Worker {
    links: Vec<Link>,
    pool: Vec<Frame>,
    batch: Vec<Frame>,
    started: Nanos,
    lateness: Histogram,
    socket_drops: u64,
    send_failures: u64,
    oversize: u64,
    real_time: bool,
}

impl Worker {
    fn new(links: Vec<Link>, started: Nanos) -> Self {
        Self {
            links,
            pool: Vec::new(),
            batch: Vec::with_capacity(SEND_BATCH),
            started,
            lateness: Histogram::new(),
            socket_drops: 0,
            send_failures: 0,
            oversize: 0,
            real_time: false,
        }
    }

    fn work(mut self, inbox: &Receiver<Command>) {
        self.real_time = real_time(EMULATOR_PRIORITY);
        let mut quiet = 0_u32;
        loop {
            match inbox.try_recv() {
                Ok(Command::Change { link, way, change }) => self.change(link, way, change),
                Ok(Command::Begin) => self.begin(),
                Ok(Command::Delivered(answer)) => drop(answer.send(self.delivered())),
                // The other side may have given up waiting.
                Ok(Command::Report(answer)) => drop(answer.send(self.report())),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            quiet = if self.receive() { 0 } else { quiet + 1 };
            self.deliver();
            self.sleep(quiet <= QUIET_TICKS);
        }
    }

    /// Takes all frames that came; true if there were any.
    fn receive(&mut self) -> bool {
        let (now, offset, started) = (clock::now(), clock::wall_offset(), self.started);
        let (pool, oversize) = (&mut self.pool, &mut self.oversize);
        let mut any = false;
        for Link {
            near,
            far,
            up,
            down,
            inner_frames,
        } in &mut self.links
        {
            let mut take = |socket: &mut PacketSocket, lane: &mut Lane, watched: bool| {
                while socket.receive(|frame| {
                    *oversize += u64::from(frame.length > MAX_FRAME);
                    *inner_frames += u64::from(watched && is_inner(frame.bytes));
                    let at = Nanos(frame.wall_time.saturating_sub(offset)).min(now);
                    lane.arrive(at, frame.bytes, pool, at.since(started));
                }) {
                    any = true;
                }
            };
            for (number, (socket, _)) in near.iter_mut().enumerate() {
                take(socket, up, number == 0);
            }
            take(far, down, false);
        }
        any
    }

    /// Hands over all frames that are due.
    fn deliver(&mut self) {
        let started = self.started;
        for link in &mut self.links {
            for way in [Way::Up, Way::Down] {
                loop {
                    let now = clock::now() + AHEAD;
                    let lane = if way == Way::Up {
                        &mut link.up
                    } else {
                        &mut link.down
                    };
                    lane.direction.advance(now);
                    let delay = lane.direction.shape().delay;
                    let mut bytes = 0;
                    while self.batch.len() < SEND_BATCH {
                        let Some(delivery) = lane.direction.deliver(now) else {
                            break;
                        };
                        self.lateness.record(clock::now().since(delivery.due));
                        lane.added_delay
                            .record(delivery.due.since(delivery.arrived + delay));
                        bytes += contents(&delivery.frame).len() as u32;
                        self.batch.push(delivery.frame);
                    }
                    if self.batch.is_empty() {
                        break;
                    }
                    lane.bin(now.since(started)).bytes += bytes;
                    let failures = match way {
                        Way::Up => send(&link.far, self.batch.iter().map(contents)),
                        Way::Down => link
                            .near
                            .iter()
                            .map(|(socket, host)| {
                                let others: Vec<[u8; 6]> = link.near.iter().map(|(_, host)| *host).collect();
                                let meant = |frame: &&[u8]| is_for(frame, *host, &others);
                                send(socket, self.batch.iter().map(contents).filter(meant))
                            })
                            .sum(),
                    };
                    self.send_failures += failures;
                    self.pool.append(&mut self.batch);
                }
            }
        }
    }

    fn sleep(&self, busy: bool) {
        let now = clock::now();
        if busy {
            // Waiting for the sockets would wake up once a frame.
            clock::sleep_until(now + TICK);
            return;
        }
        let lanes = self.links.iter().flat_map(|link| [&link.up, &link.down]);
        let next = lanes
            .filter_map(|lane| lane.direction.next_delivery())
            .min()
            .unwrap_or(Nanos::NEVER);
        let wait = next.since(now).min(IDLE).max(TICK);
        let sockets = self
            .links
            .iter()
            .flat_map(|link| link.near.iter().map(|(socket, _)| socket).chain([&link.far]));
        let mut files: Vec<PollFd<'_>> = sockets
            .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: wait.0 as i64,
        };
        // Whatever ends the wait, the sockets are looked at next. An interface that is down reports an error at
        // once and for ever: it must not make this a busy loop.
        let polled = poll(&mut files, Some(&timeout));
        let broken = files
            .iter()
            .any(|file| file.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        if polled.is_err() || broken {
            clock::sleep_until(now + TICK);
        }
    }

    fn change(&mut self, link: usize, way: Way, change: Change) {
        let now = clock::now();
        if let Some(link) = self.links.get_mut(link) {
            let lane = if way == Way::Up {
                &mut link.up
            } else {
                &mut link.down
            };
            lane.direction.change(now.max(lane.last_arrival), change);
        }
    }

    fn delivered(&self) -> Vec<u64> {
        let bytes = |lane: &Lane| lane.direction.counters().bytes_out;
        self.links
            .iter()
            .map(|link| bytes(&link.up) + bytes(&link.down))
            .collect()
    }

    fn begin(&mut self) {
        self.started = clock::now();
        self.lateness = Histogram::new();
        self.links.iter_mut().for_each(|link| link.inner_frames = 0);
        for lane in self
            .links
            .iter_mut()
            .flat_map(|link| [&mut link.up, &mut link.down])
        {
            lane.direction.begin(self.started.max(lane.last_arrival));
            lane.bins.clear();
            lane.added_delay = Histogram::new();
        }
    }

    fn report(&mut self) -> Report {
        let sockets = self
            .links
            .iter()
            .flat_map(|link| link.near.iter().map(|(socket, _)| socket).chain([&link.far]));
        self.socket_drops += sockets.map(PacketSocket::dropped).sum::<u64>();
        Report {
            started: self.started,
            until: clock::now(),
            links: self
                .links
                .iter()
                .map(|link| LinkReport {
                    up: link.up.report(),
                    down: link.down.report(),
                    inner_frames: link.inner_frames,
                })
                .collect(),
            lateness: self.lateness.clone(),
            socket_drops: self.socket_drops,
            send_failures: self.send_failures,
            oversize: self.oversize,
            real_time: self.real_time,
            cpu: clock::thread_cpu(),
        }
    }
}

/// Sends all frames; how many the interface refused.
fn send<'a>(socket: &PacketSocket, frames: impl Iterator<Item = &'a [u8]>) -> u64 {
    let frames: Vec<&[u8]> = frames.collect();
    let mut rest = frames.as_slice();
    let mut failures = 0;
    while !rest.is_empty() {
        // A frame that cannot be sent (the interface is down) must not hold up those behind it.
        let sent = socket.send(rest).unwrap_or(0);
        if sent == 0 {
            failures += 1;
            rest = &rest[1..];
        } else {
            rest = &rest[sent..];
        }
    }
    failures
}
