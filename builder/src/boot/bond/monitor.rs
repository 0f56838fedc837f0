//! QEMU's control socket (QMP): one JSON object a line.

use camino::Utf8Path;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::{Error, Result};

/// A connection that may give commands.
pub(super) struct Monitor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    commands: OwnedWriteHalf,
}

impl Monitor {
    pub(super) async fn connect(socket: &Utf8Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| Error::io("connect to", socket, error))?;
        let (answers, commands) = stream.into_split();
        let mut monitor = Self {
            lines: BufReader::new(answers).lines(),
            commands,
        };
        monitor.command("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    /// Plugs the cable of a network card in or out: the router sees its carrier come or go.
    pub(super) async fn set_link(&mut self, card: &str, up: bool) -> Result<()> {
        self.command("set_link", json!({ "name": card, "up": up })).await
    }

    async fn command(&mut self, name: &str, arguments: Value) -> Result<()> {
        let lost = |error: std::io::Error| {
            Error::environment(format!("failed to give QEMU the command {name}")).because(error)
        };
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        self.commands.write_all(line.as_bytes()).await.map_err(lost)?;
        // Its greeting and its events come between.
        while let Some(line) = self.lines.next_line().await.map_err(lost)? {
            let answer: Value = serde_json::from_str(&line).map_err(|error| lost(error.into()))?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                return Err(Error::environment(format!("QEMU refuses {name}: {error}")));
            }
        }
        Err(lost(std::io::ErrorKind::UnexpectedEof.into()))
    }
}
