//! A small HTTP server that answers as a script says, for tests of clients.
//!
//! Not a server to copy: one thread a connection, one request a connection, no limits. A reply may
//! pause, come in pieces, break off or never end.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod engines;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What a reply does, one after the other.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends this, as one chunk.
    Send(String),
    /// Waits.
    Pause(Duration),
    /// Sends this again and again until the client has enough.
    Endless(String),
    /// Ends the connection without ending the reply.
    BreakOff,
}

/// What goes out.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
    /// Whether these bytes go out in place of everything else.
    pub(crate) raw: Option<Vec<u8>>,
}

impl Reply {
    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        Self::steps(status, vec![Step::Send(text.into())])
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::text(200, value.to_string())
    }

    pub(crate) fn steps(status: u16, steps: Vec<Step>) -> Self {
        Self { status, headers: Vec::new(), steps, raw: None }
    }

    /// Bytes that need not be HTTP.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { status: 0, headers: Vec::new(), steps: Vec::new(), raw: Some(bytes.to_vec()) }
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn not_found() -> Self {
        Self::text(404, r#"{"error":{"message":"File Not Found","code":404}}"#)
    }
}

/// A server that answers until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Answers every request with what `answer` makes of it.
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answer)
    }

    /// The same at an address, such as that of one that was stopped.
    pub(crate) fn start_at(
        address: &str,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let answer = Arc::new(answer);
        let (seen_there, stop_there) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if stop_there.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen_there));
                // A client that goes away in the middle is what some tests do.
                thread::spawn(move || connection.and_then(|c| serve(c, &*answer, &seen)).ok());
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    /// Where it listens, without a scheme.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection; then nothing listens there any more.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(
    mut connection: TcpStream,
    answer: &(impl Fn(&Request) -> Reply + ?Sized),
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let request = read_request(&connection)?;
    seen.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    if let Some(raw) = reply.raw {
        return connection.write_all(&raw);
    }
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
    }
    head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    connection.write_all(head.as_bytes())?;
    for step in reply.steps {
        match step {
            Step::Send(text) => chunk(&mut connection, &text)?,
            Step::Pause(time) => thread::sleep(time),
            Step::Endless(text) => loop {
                chunk(&mut connection, &text)?;
            },
            Step::BreakOff => return Ok(()),
        }
    }
    connection.write_all(b"0\r\n\r\n")
}

fn chunk(connection: &mut TcpStream, text: &str) -> std::io::Result<()> {
    if text.is_empty() {
        return Ok(()); // an empty chunk would end the reply
    }
    connection.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

fn read_request(connection: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_string);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
