//! Parses arguments and calls the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sennit_lab::cli::main() as u8)
}
