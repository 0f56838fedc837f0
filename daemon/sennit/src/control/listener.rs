//! The daemon's side of the control socket: takes connections, reads requests, hands them to the role, writes answers.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tracing::debug;

use super::events::LoggedEvent;
use super::request::{Answer, Request, answer_line};
use crate::{Error, Result};

/// The longest request, bytes.
const LONGEST: u64 = 4096;

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
    /// For [`Request::Events`]: where the listening end for events to come goes, before the answer.
    pub events: oneshot::Sender<Receiver<LoggedEvent>>,
}

/// The listening socket; its file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    path: PathBuf,
    questions: UnboundedReceiver<Question>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    /// Listens at `path`, for root only. A socket that a killed daemon left is replaced.
    pub fn bind(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::environment(
                format!(
                    "failed to listen on the control socket {}: {error}",
                    path.display()
                ),
                "run sennit as root, or set control to a path that it may write to",
            )
        };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Error::environment(
                format!("another sennit answers on {}", path.display()),
                "stop that one, or give this one a control socket of its own by the key control",
            ));
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let (ask, questions) = unbounded_channel();
        let task = tokio::spawn(accept(listener, ask));
        Ok(Self {
            path: path.to_owned(),
            questions,
            task,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next request. Cancelling loses none.
    pub async fn next(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            // The task ends only with this value.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, ask: UnboundedSender<Question>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, ask.clone()));
            }
            Err(error) => {
                debug!(%error, "control connection not accepted");
                // Out of descriptors: one may be free again soon.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one connection until it ends or sends what is no request.
async fn serve(stream: UnixStream, ask: UnboundedSender<Question>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        match (&mut reader).take(LONGEST).read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let request = match Request::parse(&line) {
            Ok(request) => request,
            Err(error) => {
                let _ = writer.write_all(answer_line(&Err(error)).as_bytes()).await;
                return;
            }
        };
        let follow = request == Request::Events { follow: true };
        let (answer, answered) = oneshot::channel();
        let (events, listening) = oneshot::channel();
        if ask
            .send(Question {
                request,
                answer,
                events,
            })
            .is_err()
        {
            return;
        }
        let Ok(answer) = answered.await else { return };
        let lines = match &answer {
            // The events so far: each a line of its own, as those to come.
            Ok(serde_json::Value::Array(events)) if follow => {
                events.iter().map(|event| format!("{event}\n")).collect()
            }
            _ => answer_line(&answer),
        };
        if writer.write_all(lines.as_bytes()).await.is_err() {
            return;
        }
        if follow && let Ok(mut listening) = listening.await {
            loop {
                let line = match listening.recv().await {
                    Ok(event) => format!("{event}\n"),
                    Err(RecvError::Lagged(missed)) => {
                        format!("{{\"event\":\"missed\",\"count\":{missed}}}\n")
                    }
                    Err(RecvError::Closed) => return,
                };
                if writer.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}
