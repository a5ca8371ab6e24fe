//! Daemons of the unit tests: a listener in a thread, which answers each connection as it was told to.

use crate::Location;
use memcr_protocol::client::{self, ClientFrame, Completion, ServerFrame};
use memcr_protocol::code::Failure;
use memcr_protocol::frame::{self, Assembler};
use memcr_protocol::legacy;
use memcr_protocol::report::WakeReport;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Long enough for anything that should happen.
const BOUND: Duration = Duration::from_secs(30);

/// What is done with one connection of a daemon that speaks the original's protocol.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// This number.
    Number(i32),
    /// These bytes.
    Bytes(Vec<u8>),
    /// None: it is closed after the request.
    Close,
    /// It is closed before anything is received.
    CloseAtOnce,
    /// None, for as long as the daemon lives.
    Silence,
}

/// What is done with one connection of a daemon that speaks in frames: the answer to each request, after
/// which it is closed.
pub(crate) type Frames = Vec<Result<Completion, Failure>>;

/// The daemon. It listens for as many connections as it has answers.
#[derive(Debug)]
pub(crate) struct FakeDaemon {
    location: Location,
    requests: Receiver<Vec<u8>>,
    /// Tells the thread by its end that this is gone.
    _alive: Sender<()>,
    _directory: Option<tempfile::TempDir>,
}

impl FakeDaemon {
    /// One that speaks the original's protocol on a port of this machine.
    pub(crate) fn tcp(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let location = Location::Tcp { host: "127.0.0.1".to_owned(), port };
        let (alive, gone) = channel();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                if matches!(answer, Answer::CloseAtOnce) {
                    continue;
                }
                let Some(request) = take_request(&mut stream) else { continue };
                let _ = sender.send(request);
                match answer {
                    Answer::Number(number) => drop(stream.write_all(&number.to_ne_bytes())),
                    Answer::Bytes(bytes) => drop(stream.write_all(&bytes)),
                    Answer::Silence => drop(gone.recv()),
                    Answer::Close | Answer::CloseAtOnce => {}
                }
            }
        });
        Self { location, requests, _alive: alive, _directory: None }
    }

    /// One that speaks in frames on a UNIX socket.
    pub(crate) fn framed(connections: Vec<Frames>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let (alive, _) = channel();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                serve_frames(&mut stream, answers, &sender);
            }
        });
        Self { location: Location::Path(path), requests, _alive: alive, _directory: Some(directory) }
    }

    /// Where it listens.
    pub(crate) fn location(&self) -> Location {
        self.location.clone()
    }

    /// The next request that it has received.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.requests.recv_timeout(BOUND).expect("the daemon has received no request")
    }

    /// The next request, if there was one already.
    pub(crate) fn received_so_far(&self) -> Option<Vec<u8>> {
        self.requests.try_recv().ok()
    }

    /// Waits until it has closed a connection.
    #[allow(clippy::unused_self, reason = "it is this daemon's doing")]
    pub(crate) fn wait_until_closed(&self, connection: BorrowedFd<'_>) {
        let limit = PollTimeout::try_from(BOUND).unwrap();
        let ready = poll(&mut [PollFd::new(connection, PollFlags::POLLIN)], limit).unwrap();
        assert_eq!(ready, 1, "the connection is not closed");
    }
}

/// Figures of a process woken, all zero.
pub(crate) fn woken() -> WakeReport {
    WakeReport { restored: 0, pages: 0, checksum: None, rss_after: 0, restore_micros: 0 }
}

/// The bytes of one request of the original's protocol; `None` if the client has gone before.
fn take_request(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if legacy::take(&bytes).expect("a request").is_some() {
            return Some(bytes);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.extend(byte);
    }
}

fn serve_frames(stream: &mut (impl Read + Write), answers: Frames, requests: &Sender<Vec<u8>>) {
    let mut assembler = Assembler::new();
    let mut answers = answers.into_iter();
    let hello = ServerFrame::Hello { version: client::VERSION, server: "fake".to_owned() };
    let Some(ClientFrame::Hello { .. }) = next_frame(stream, &mut assembler) else { return };
    if stream.write_all(&frame::encode(&hello).unwrap()).is_err() {
        return;
    }
    while answers.len() > 0 {
        let Some(ClientFrame::Request { id, request }) = next_frame(stream, &mut assembler) else { return };
        let _ = requests.send(format!("{request:?}").into_bytes());
        let answer = match answers.next() {
            Some(Ok(completion)) => client::Answer::Done(completion),
            Some(Err(failure)) => client::Answer::Failed(failure),
            None => return,
        };
        let answer = frame::encode(&ServerFrame::Answer { id, answer }).unwrap();
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn next_frame(stream: &mut impl Read, assembler: &mut Assembler) -> Option<ClientFrame> {
    loop {
        if let Some(frame) = assembler.next_message().expect("a frame") {
            return Some(frame);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        assembler.push(&byte);
    }
}
