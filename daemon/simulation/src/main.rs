//! `sennit-simulation`: parses arguments, calls the library, prints.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Args, Parser, Subcommand};
use sennit_engine::settings::Mode;
use sennit_simulation::report::Report;
use sennit_simulation::scenario::{self, Scenario};
use sennit_simulation::simulate::{Options, simulate};

#[derive(Parser)]
#[command(about = "The bonding engine under simulated network weather", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All scenarios, one a line
    List,
    /// Runs scenarios and shows their reports; exit code 3 if an invariant does not hold
    Run {
        /// Names, or their beginnings followed by `*`
        #[arg(required = true)]
        scenarios: Vec<String>,
        #[command(flatten)]
        run: RunArguments,
    },
    /// Runs one scenario with one seed again, as a failed test prints it
    Replay {
        /// Its name
        #[arg(long)]
        scenario: String,
        #[command(flatten)]
        run: RunArguments,
    },
    /// Looks for seeds with which an invariant does not hold
    Search {
        /// First and last seed
        #[arg(long, value_parser = range, default_value = "1..1000")]
        seeds: (u64, u64),
        /// Which scenario
        #[arg(long, default_value = "weather")]
        scenario: String,
        /// Threads
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
}

#[derive(Args)]
struct RunArguments {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Another length, in seconds of virtual time (no targets are judged then)
    #[arg(long)]
    seconds: Option<f64>,
    /// Another mode: speed or redundant
    #[arg(long, value_parser = mode)]
    mode: Option<Mode>,
    /// No bond: flows go over this WAN
    #[arg(long)]
    direct: Option<usize>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
    /// Only one line a scenario
    #[arg(long)]
    brief: bool,
    /// Writes the state of every 10 ms to this file, a line of JSON each
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Shows what the ends told
    #[arg(long)]
    log: bool,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "speed" => Ok(Mode::Speed),
        "redundant" => Ok(Mode::Redundant),
        _ => Err("speed or redundant".to_owned()),
    }
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("write FIRST..LAST")?;
    let number = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    Ok((number(from)?, number(to.trim_start_matches('='))?))
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let wrong = error.use_stderr();
            let _ = error.print();
            return ExitCode::from(u8::from(wrong));
        }
    };
    let done = match arguments.command {
        Command::List => list(),
        Command::Run { scenarios, run } => run_all(&scenarios, &run),
        Command::Replay { scenario, run } => run_all(&[scenario], &run),
        Command::Search {
            seeds,
            scenario,
            jobs,
        } => search(&scenario, seeds, jobs),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(Failure::Usage(what)) => {
            let _ = writeln!(std::io::stderr(), "error: {what}\nhint: sennit-simulation list");
            ExitCode::from(1)
        }
        Err(Failure::Machine(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Machine(error)) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

enum Failure {
    Usage(String),
    Machine(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Machine(error)
    }
}

fn list() -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    for scenario in scenario::all() {
        writeln!(out, "{:<28} {}", scenario.name, scenario.about)?;
    }
    Ok(true)
}

fn chosen(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    let mut found = Vec::new();
    for name in names {
        let before = found.len();
        let matches = |scenario: &Scenario| match name.strip_suffix('*') {
            Some(beginning) => scenario.name.starts_with(beginning),
            None => scenario.name == *name,
        };
        found.extend(scenario::all().into_iter().filter(matches));
        if found.len() == before {
            return Err(Failure::Usage(format!("no scenario is called {name}")));
        }
    }
    Ok(found)
}

fn run_all(names: &[String], run: &RunArguments) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    let mut holds = true;
    for scenario in chosen(names)? {
        let mut trace = run
            .trace
            .as_ref()
            .map(File::create)
            .transpose()?
            .map(BufWriter::new);
        let started = std::time::Instant::now();
        let options = Options {
            seconds: run.seconds,
            mode: run.mode,
            direct: run.direct,
            trace: trace.as_mut().map(|file| file as &mut dyn Write),
        };
        let report = simulate(&scenario, run.seed, options)?;
        if let Some(mut trace) = trace {
            trace.flush()?;
        }
        holds &= report.violations.is_empty();
        if run.json {
            writeln!(
                out,
                "{}",
                serde_json::to_string(&report).map_err(std::io::Error::from)?
            )?;
        } else if run.brief {
            writeln!(out, "{}", brief(&report))?;
        } else {
            write!(out, "{}", report.text())?;
            if run.log {
                for (at, side, event) in &report.log {
                    writeln!(out, "  {at:>10.4} {side}: {event}")?;
                }
            }
            writeln!(out, "  took {:.2} s\n", started.elapsed().as_secs_f64())?;
        }
    }
    Ok(holds)
}

fn brief(report: &Report) -> String {
    let missed: Vec<String> = (report.targets.iter())
        .filter(|target| !target.is_met())
        .map(|target| {
            format!(
                "{} {:.3} (wanted {:.3})",
                target.name, target.found, target.wanted
            )
        })
        .collect();
    let share = report.share() * 100.0;
    let verdict = match (report.violations.first(), missed.is_empty()) {
        (Some(violation), _) => format!("{} VIOLATIONS: {violation}", report.violations.len()),
        (None, true) => "ok".to_owned(),
        (None, false) => format!("missed: {}", missed.join("; ")),
    };
    format!("{:<28} {share:>5.1} %  {verdict}", report.scenario)
}

fn search(name: &str, (from, to): (u64, u64), jobs: usize) -> Result<bool, Failure> {
    let scenario =
        scenario::find(name).ok_or_else(|| Failure::Usage(format!("no scenario is called {name}")))?;
    let next = AtomicU64::new(from);
    let found = Mutex::new(0u64);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > to {
                        return;
                    }
                    let Ok(report) = simulate(&scenario, seed, Options::default()) else {
                        return;
                    };
                    if report.violations.is_empty() {
                        continue;
                    }
                    let mut out = std::io::stdout().lock();
                    let _ = writeln!(
                        out,
                        "--scenario {name} --seed {seed}: {}",
                        report.violations.join("; ")
                    );
                    if let Ok(mut found) = found.lock() {
                        *found += 1;
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or(u64::MAX);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} seeds, {found} with violations", to + 1 - from)?;
    Ok(found == 0)
}
