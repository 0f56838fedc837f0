//! Parses arguments and calls the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(builder::cli::main() as u8)
}
