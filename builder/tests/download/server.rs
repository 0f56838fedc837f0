//! A loopback HTTP server that misbehaves as told, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How one request is answered. All but `Other`, `Garbage`, `Redirect` and `Status` send the server's content.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// As a good server does, ranges included.
    Good,
    /// Announces everything, then closes the connection after so many bytes.
    CutAfter(usize),
    /// As before, but keeps the connection open and silent until the client goes.
    StallAfter(usize),
    /// Announces so many bytes more than there are, then closes.
    LieAboutLength(usize),
    /// Answers a request for a range with a part that begins elsewhere, and says so.
    WrongRange(usize),
    /// Answers a request for a range with the file's beginning, and says that it is the range.
    LyingRange,
    /// Sends the whole file, whatever range was asked for.
    IgnoreRange,
    /// No length, and no end.
    Endless,
    Redirect(String),
    /// Not HTTP.
    Garbage,
    /// A status line with headers, without a body.
    Status(&'static str),
    /// Other bytes, as a good server sends them.
    Other(Vec<u8>),
}

/// The head of a request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) target: String,
    pub(crate) range: Option<usize>,
    pub(crate) no_cache: bool,
}

/// What to send for a request, by its number: the content, and how.
type Behaviour = dyn Fn(usize, &Request) -> (Vec<u8>, Answer) + Send + Sync;

pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers the first requests by `answers`, all later ones well.
    pub(crate) fn start(content: Vec<u8>, answers: Vec<Answer>) -> Self {
        Self::with(move |number, _| {
            (
                content.clone(),
                answers.get(number).cloned().unwrap_or(Answer::Good),
            )
        })
    }

    /// Answers by number and request.
    pub(crate) fn with(
        answer: impl Fn(usize, &Request) -> (Vec<u8>, Answer) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, seen, answer) = (connection.unwrap(), seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    // A client that goes away in the middle is what some tests are about.
                    let _ = serve(connection, &seen, &*answer);
                });
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn ranges(&self) -> Vec<Option<usize>> {
        self.requests().into_iter().map(|request| request.range).collect()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &Behaviour) -> std::io::Result<()> {
    let request = parse(&read_head(&mut stream)?);
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let (content, answer) = answer(number, &request);
    let start = request.range.unwrap_or(0);
    let total = content.len();
    let partial = |first: usize, claimed: usize| {
        let length = total - first;
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {claimed}-{}/{total}\r\nContent-Length: {length}\r\n",
            claimed + length - 1
        )
    };
    let whole =
        |length: usize| format!("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: {length}\r\n");
    let good = || match request.range {
        Some(start) if start >= total => {
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n".to_owned()
        }
        Some(start) => partial(start, start),
        None => whole(total),
    };
    let body = content.get(start..).unwrap_or(&[]);
    match answer {
        Answer::Good => send(&mut stream, &good(), body)?,
        Answer::CutAfter(bytes) => send(&mut stream, &good(), &body[..bytes.min(body.len())])?,
        Answer::StallAfter(bytes) => {
            send(&mut stream, &good(), &body[..bytes.min(body.len())])?;
            let _ = stream.read(&mut [0]);
        }
        Answer::LieAboutLength(more) => send(&mut stream, &whole(total + more), &content)?,
        Answer::WrongRange(first) => send(&mut stream, &partial(first, first), &content[first..])?,
        Answer::LyingRange => {
            let length = total - start;
            send(&mut stream, &partial(start, start), &content[..length])?;
        }
        Answer::IgnoreRange => send(&mut stream, &whole(total), &content)?,
        Answer::Endless => {
            send(&mut stream, "HTTP/1.1 200 OK\r\n", &[])?;
            while stream.write_all(&[0; 4096]).is_ok() {}
        }
        Answer::Redirect(to) => {
            send(
                &mut stream,
                &format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n"),
                &[],
            )?;
        }
        Answer::Garbage => stream.write_all(b"\x00\x01 this is not HTTP at all\r\n\r\n")?,
        Answer::Status(status) => send(
            &mut stream,
            &format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n"),
            &[],
        )?,
        Answer::Other(bytes) => send(&mut stream, &whole(bytes.len()), &bytes)?,
    }
    stream.shutdown(Shutdown::Write)
}

fn send(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    stream.write_all(body)
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn parse(head: &str) -> Request {
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let range =
        header("range").and_then(|value| value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    Request {
        target: head.split(' ').nth(1).unwrap_or_default().to_owned(),
        range,
        no_cache: header("cache-control").is_some_and(|value| value == "no-cache"),
    }
}
