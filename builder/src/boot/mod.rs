//! Boots an image in QEMU, by its own boot loader, and asks it over its console whether it does what it is for.
//!
//! The image file is never written to, and the router reaches no network.
//!
//! | file | does |
//! | --- | --- |
//! | `disk` | looks for the boot loader in an image, refuses what cannot boot here |
//! | `unpack` | `.gz` into a sparse copy |
//! | `machine` | QEMU's name, firmware and arguments |
//! | `console` | the conversation, without I/O |
//! | `probe` | what is asked, and how answers read |
//! | `bond` | two WANs to a server outside, one of which is cut during a transfer |
//! | `terminal` | the user's own terminal as the console |

mod bond;
mod console;
mod disk;
mod machine;
mod probe;
mod terminal;
mod unpack;

use std::fs::File;
use std::io::Write;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use self::bond::Outside;
pub use self::bond::{Bonded, allowed as may_bond};
use self::console::{Console, Step};
pub use self::disk::BootLoader;
pub use self::machine::Machine;
use self::probe::Answer;
pub use self::probe::Findings;
use self::terminal::RawTerminal;
use crate::error::Exit;
use crate::report::Report;
use crate::{Error, Result};

/// Console lines shown when a router does not come up.
const SHOWN_LINES: usize = 15;

/// What to boot, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image: a raw disk, or one that was compressed by gzip.
    pub image: Utf8PathBuf,
    /// The machine it is for.
    pub machine: Machine,
    /// How long the router may take.
    pub timeout: Duration,
    /// Hardware virtualisation instead of emulation.
    pub kvm: bool,
    /// After success, connect this terminal to the router's console until Ctrl-].
    pub keep: bool,
    /// Try the bond, with this machine's own `sennit` as the server outside.
    pub bond: Option<Utf8PathBuf>,
    /// Where the console log and temporary files go.
    pub work: Utf8PathBuf,
}

/// A router that came up.
#[derive(Clone, Debug)]
pub struct Booted {
    /// How it started.
    pub loader: BootLoader,
    /// What it said about itself.
    pub findings: Findings,
    /// How its bond did, if it was tried.
    pub bonded: Option<Bonded>,
    /// From the start of QEMU to the last finding.
    pub took: Duration,
    /// All that its console said.
    pub console_log: Utf8PathBuf,
}

/// Boots an image and waits until the `sennit` service runs in it. Dropping the future kills QEMU.
pub async fn run(request: &Request, report: &Report) -> Result<Booted> {
    let create =
        |dir: &Utf8Path| std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error));
    create(&request.work)?;
    let temporary = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(&request.work)
        .map_err(|error| Error::io("create a folder in", &request.work, error))?;
    let temporary_path = Utf8Path::from_path(temporary.path())
        .ok_or_else(|| Error::environment(format!("{} is not UTF-8", temporary.path().display())))?;

    let spinner = report.spinner("Unpacking the image");
    let (disk, loader) = tokio::task::spawn_blocking({
        let (request, dir) = (request.clone(), temporary_path.to_owned());
        move || look_into(&request, &dir)
    })
    .await
    .map_err(|error| Error::bug("the thread that unpacks the image died").because(error))??;
    drop(spinner);

    let setup = machine::find(
        request.machine,
        loader,
        &std::env::var("PATH").unwrap_or_default(),
        Utf8Path::new("/"),
    )?;
    let variables = temporary_path.join("efi-variables.fd");
    if let Some((_, template)) = &setup.firmware {
        std::fs::copy(template, &variables).map_err(|error| Error::io("copy", template, error))?;
    }
    let mut outside = match &request.bond {
        Some(sennit) => Some(Outside::new(sennit, &request.work.join("server.log")).await?),
        None => None,
    };
    let control = outside.as_ref().map(Outside::control);
    let console_log = request.work.join("console.log");
    let error_log = temporary_path.join("qemu.log");
    let arguments = machine::arguments(
        request.machine,
        request.kvm,
        &machine::Files {
            disk: &disk,
            firmware: setup
                .firmware
                .as_ref()
                .map(|(code, _)| (code.as_path(), variables.as_path())),
            console_log: &console_log,
            control: control.as_deref(),
        },
    );
    let errors = File::create(&error_log).map_err(|error| Error::io("create", &error_log, error))?;
    let mut command = match &outside {
        Some(outside) => outside.command(&setup.program),
        None => Command::new(&setup.program),
    };
    let mut child = command
        .args(arguments)
        .env("TMPDIR", temporary_path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::io("start", &setup.program, error))?;
    let mut virtual_router = Router::of(&mut child)?;

    let start = Instant::now();
    let spinner = report.spinner(format!("Booting {} by {loader}", file_name(&request.image)));
    let outcome = tokio::select! {
        outcome = virtual_router.converse(start, request.timeout) => outcome?,
        status = child.wait() => Outcome::QemuEnded(status.map_err(|error| Error::io("wait for", &setup.program, error))?),
    };
    drop(spinner);
    let findings = match outcome {
        Outcome::Up(findings) => findings,
        failure => {
            let said = std::fs::read_to_string(&error_log).unwrap_or_default();
            return Err(explain(
                failure,
                &virtual_router.console,
                request,
                &console_log,
                said.trim(),
            ));
        }
    };
    let took = start.elapsed();
    let bonded = match (&mut outside, &control) {
        (Some(outside), Some(control)) => {
            let attempt = bond::attempt(&mut virtual_router, outside, control, report).await;
            Some(attempt.map_err(|error| {
                error
                    .hint(format!("the router's console: {console_log}"))
                    .hint(format!("the server's log: {}", outside.log()))
            })?)
        }
        _ => None,
    };
    let booted = Booted {
        loader,
        findings,
        bonded,
        took,
        console_log,
    };
    if request.keep {
        report.done("The router is up: its console follows; Ctrl-] ends it");
        virtual_router.attach(&mut child).await?;
    }
    Ok(booted)
}

fn look_into(request: &Request, dir: &Utf8Path) -> Result<(Utf8PathBuf, BootLoader)> {
    let disk = unpack::raw_disk(&request.image, dir)?;
    let mut file = File::open(&disk).map_err(|error| Error::io("open", &disk, error))?;
    let loader = disk::boot_loader(&mut file, request.machine).map_err(|refusal| {
        Error::user(format!("{} cannot boot in QEMU: {refusal}", request.image))
            .hint("disk images for pc and qemu-arm64 boot here, and those of the miniature for every board with a disk")
    })?;
    Ok((disk, loader))
}

/// How a conversation ended.
enum Outcome {
    Up(Findings),
    Dead(&'static str),
    TimedOut,
    QemuEnded(ExitStatus),
}

/// The two ends of the console, and what was said.
struct Router {
    input: ChildStdin,
    output: ChildStdout,
    console: Console,
}

impl Router {
    fn of(child: &mut Child) -> Result<Self> {
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self {
                input,
                output,
                console: Console::default(),
            }),
            _ => Err(Error::bug("QEMU was started without pipes")),
        }
    }

    async fn converse(&mut self, start: Instant, timeout: Duration) -> Result<Outcome> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let now = start.elapsed();
            let wake = match self.console.poll(now) {
                Step::Send(text) => {
                    // A closed pipe means that QEMU ended, which its exit status tells better.
                    if self.input.write_all(text.as_bytes()).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    continue;
                }
                Step::Up(findings) => return Ok(Outcome::Up(findings)),
                Step::Dead(reason) => return Ok(Outcome::Dead(reason)),
                Step::Wait(until) => until.min(timeout),
            };
            if now >= timeout {
                return Ok(Outcome::TimedOut);
            }
            match tokio::time::timeout(wake.saturating_sub(now), self.output.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => std::future::pending::<()>().await,
                Ok(Ok(read)) => self.console.handle_output(&buffer[..read]),
                Err(_elapsed) => {}
            }
        }
    }

    /// Lets a router that is up run commands, and waits for its answer.
    async fn ask(&mut self, commands: &str, patience: Duration) -> Result<Answer> {
        let typed = self.console.ask(commands);
        let answer = async {
            self.input.write_all(typed.as_bytes()).await?;
            loop {
                if let Some(answer) = self.console.answer() {
                    return Ok(answer);
                }
                self.listen().await?;
            }
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(lost(error)),
            Err(_) => Err(Error::new(
                Exit::BootFailed,
                format!("the router's console did not answer for {} s", patience.as_secs()),
            )),
        }
    }

    /// Waits for something else, while the console's output is taken: the router stops when its pipe is full.
    async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return done,
                heard = self.listen() => if heard.is_err() {
                    // QEMU ended: what the router was needed for fails by itself.
                    return other.await;
                },
            }
        }
    }

    /// Takes the next output.
    async fn listen(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        match self.output.read(&mut buffer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.console.handle_output(&buffer[..read]);
                Ok(())
            }
        }
    }

    /// Passes keys typed here to the router, and its output back, until Ctrl-] or until QEMU ends.
    async fn attach(&mut self, child: &mut Child) -> Result<()> {
        let terminal = RawTerminal::enter()
            .map_err(|error| Error::environment("failed to set up this terminal").because(error))?;
        let mut keys = terminal::keys();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            tokio::select! {
                typed = keys.recv() => match typed {
                    Some(typed) if self.input.write_all(&typed).await.is_ok() => {}
                    Some(_) | None => break,
                },
                read = self.output.read(&mut buffer) => match read {
                    Ok(read) if read > 0 => {
                        let mut screen = std::io::stderr();
                        if screen.write_all(&buffer[..read]).and_then(|()| screen.flush()).is_err() {
                            break;
                        }
                    }
                    Ok(_) | Err(_) => break,
                },
                _ = child.wait() => break,
            }
        }
        drop(terminal);
        Ok(())
    }
}

fn explain(outcome: Outcome, console: &Console, request: &Request, log: &Utf8Path, qemu_said: &str) -> Error {
    let image = file_name(&request.image);
    let failed = |reason: String| {
        let lines = console.last_lines(SHOWN_LINES);
        let lines = if lines.is_empty() {
            "    (nothing)".to_owned()
        } else {
            format!("    {}", lines.join("\n    "))
        };
        Error::new(Exit::BootFailed, format!("{image} did not come up: {reason}"))
            .excerpt(format!("last lines of its console:\n{lines}"))
            .hint(format!("the whole console: {log}"))
    };
    match outcome {
        Outcome::Up(_) => Error::bug("a router that is up was taken for a failure"),
        Outcome::Dead(reason) => failed(reason.to_owned()),
        Outcome::TimedOut => {
            let seconds = request.timeout.as_secs();
            let state = match console.findings() {
                Some(found) if !found.service_running => "its `sennit` service does not run".to_owned(),
                Some(found) if !found.interface => {
                    "`sennit` runs, but its interface sennit0 is not there".to_owned()
                }
                Some(_) => "its `sennit` service does not keep running".to_owned(),
                None if console.has_shell() => "its console does not answer".to_owned(),
                None => "its console did not ask for Enter".to_owned(),
            };
            failed(format!("after {seconds} s {state}")).hint("a slow machine may need a longer --timeout")
        }
        Outcome::QemuEnded(status) if status.success() => {
            failed("it switched itself off or restarted".into())
        }
        Outcome::QemuEnded(status) => {
            let error = Error::environment(format!("QEMU ended with {status} while {image} booted"));
            match (qemu_said, request.kvm) {
                ("", _) => error,
                (said, true) => error
                    .excerpt(said)
                    .hint("without --kvm the processor is emulated, which works everywhere"),
                (said, false) => error.excerpt(said),
            }
        }
    }
}

fn lost(error: std::io::Error) -> Error {
    Error::new(Exit::BootFailed, "the router's console is gone: QEMU ended").because(error)
}

fn file_name(path: &Utf8Path) -> &str {
    path.file_name().unwrap_or(path.as_str())
}
