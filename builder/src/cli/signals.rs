//! Ctrl-C and the like as an error that ends a command.

use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::error::Exit;

/// Ends with the first SIGINT or SIGTERM. Whoever selects on it drops its work, which kills its child processes.
pub(super) async fn interrupted() -> Error {
    let wait = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok::<_, std::io::Error>(())
    };
    match wait.await {
        Ok(()) => Error::new(Exit::Interrupted, "interrupted")
            .hint("nothing half-made has its final name; run the same command again to go on"),
        Err(error) => Error::environment("failed to listen for signals").because(error),
    }
}
