//! `sennit status`: the state as a table or as JSON.

use super::printer::show;
use super::{Daemon, table};
use crate::Result;
use crate::control::Request;

pub(super) fn run(daemon: &Daemon, json: bool) -> Result<()> {
    let status = daemon.call()?.ask(&Request::Status {})?;
    if json {
        show(&status.to_string());
    } else {
        show(table::status(&status)?.trim_end());
    }
    Ok(())
}
