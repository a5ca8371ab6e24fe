//! Clients that try to use up what the daemon has, as the user that runs this.
//!
//! `MODE SOCKET NUMBER`; says `ready` once all is done, with `answered=N` and `refused=N`, and stays until its input ends. To each line of
//! input it says `held=N`: how many of its connections the daemon has not hung up.
//! - `descriptors`: so many messages with 253 descriptors each, on connections of their own;
//! - `connections`: so many connections, one after the other, all of them kept;
//! - `silent`, `halves`, `slow`: the same, which say nothing; the longest frame but for its last byte; a hello byte by byte, a byte on
//!   each connection before the next;
//! - `unread`: the same, which ask for lists for as long as the kernel takes requests, and read no answers;
//! - `requests`: so many requests for the list, on a few connections, as fast as they are taken;
//! - `forged`: so many connections with a request of the original's protocol, version 2, whose length is forged, and frames whose
//!   length is.

use memcr_protocol::client::{Answer, ClientFrame, Request, ServerFrame, VERSION};
use memcr_protocol::frame::{self, Assembler, Message as _};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::thread;

/// As many as the kernel lets pass with one message (SCM_MAX_FD).
const MOST_DESCRIPTORS: usize = 253;
/// Connections on which requests are made at once.
const AT_ONCE: usize = 8;

#[derive(Default)]
struct Told {
    answered: usize,
    refused: usize,
}

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [mode, socket, number] = &words[..] else { panic!("give a mode, a socket and a number") };
    let number: usize = number.parse().expect("a number");
    let mut kept = Vec::new();
    let told = match mode.as_str() {
        "descriptors" => descriptors(socket, number),
        "connections" => connections(socket, number, &mut kept, &hello()),
        "silent" => connections(socket, number, &mut kept, &[]),
        "halves" => connections(socket, number, &mut kept, &half_a_frame()),
        "slow" => slow(socket, number, &mut kept),
        "unread" => unread(socket, number, &mut kept),
        "requests" => requests(socket, number),
        "forged" => forged(socket, number),
        mode => panic!("there is no mode {mode}"),
    };
    println!("ready answered={} refused={}", told.answered, told.refused);
    for _ in std::io::stdin().lines() {
        println!("held={}", kept.iter().filter(|connection| !is_over(connection)).count());
    }
}

fn hello() -> Vec<u8> {
    frame::encode(&ClientFrame::Hello { version: VERSION }).expect("it fits")
}

/// The longest frame that there may be, without its last byte.
fn half_a_frame() -> Vec<u8> {
    let length = ClientFrame::LIMIT;
    let mut bytes = (length as u32).to_le_bytes().to_vec();
    bytes.resize(frame::PREFIX_LENGTH + length - 1, 0);
    bytes
}

fn connect(socket: &str) -> Option<UnixStream> {
    UnixStream::connect(socket).ok()
}

/// Whether the daemon hangs up, whatever it says before.
fn is_hung_up(mut connection: &UnixStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match connection.read(&mut bytes) {
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

/// Whether the daemon has hung up, as far as is known by now.
fn is_over(mut connection: &UnixStream) -> bool {
    connection.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 4096];
    loop {
        match connection.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(cause) => return cause.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

fn descriptors(socket: &str, number: usize) -> Told {
    let null = File::open("/dev/null").expect("/dev/null");
    let numbers = [null.as_raw_fd(); MOST_DESCRIPTORS];
    let mut told = Told::default();
    for _ in 0..number {
        let Some(connection) = connect(socket) else { continue };
        let rights = [ControlMessage::ScmRights(&numbers)];
        let hello = hello();
        let sent = sendmsg::<()>(
            connection.as_raw_fd(),
            &[IoSlice::new(&hello)],
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        told.refused += usize::from(sent.is_err() || is_hung_up(&connection));
    }
    told
}

fn connections(socket: &str, number: usize, kept: &mut Vec<UnixStream>, bytes: &[u8]) -> Told {
    let mut told = Told::default();
    for _ in 0..number {
        let connection = connect(socket).expect("it listens");
        match (&connection).write_all(bytes) {
            Ok(()) => told.answered += 1,
            Err(_) => told.refused += 1,
        }
        kept.push(connection);
    }
    told
}

fn slow(socket: &str, number: usize, kept: &mut Vec<UnixStream>) -> Told {
    kept.extend((0..number).map(|_| connect(socket).expect("it listens")));
    for byte in hello() {
        for mut connection in kept.iter() {
            let _ = connection.write_all(&[byte]);
        }
    }
    Told { answered: number, refused: 0 }
}

/// Requests whose answers no daemon should keep for one client.
const FAR_TOO_MANY: usize = 100_000;

/// Whether a request can be sent, now or soon.
fn takes_more(connection: &UnixStream) -> bool {
    let mut polled = [PollFd::new(connection.as_fd(), PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::from(300_u16)).is_ok_and(|ready| ready > 0)
}

fn unread(socket: &str, number: usize, kept: &mut Vec<UnixStream>) -> Told {
    let request = frame::encode(&ClientFrame::Request { id: 1, request: Request::List }).expect("it fits");
    let (requests, mut told) = (request.repeat(256), Told::default());
    for _ in 0..number {
        let mut connection = connect(socket).expect("it listens");
        connection.write_all(&hello()).expect("it listens");
        connection.set_nonblocking(true).expect("a socket");
        // until no more is taken there, or far too much was; no answer is ever read here
        let (mut at, mut asked) = (0, 0);
        while asked < FAR_TOO_MANY && takes_more(&connection) {
            let Ok(written) = connection.write(&requests[at..]) else { break };
            at = (at + written) % requests.len();
            asked += written / request.len();
        }
        told.refused += usize::from(asked >= FAR_TOO_MANY);
        told.answered += asked;
        kept.push(connection);
    }
    told
}

fn requests(socket: &str, number: usize) -> Told {
    let threads: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let socket = socket.to_owned();
            thread::spawn(move || ask(&socket, number / AT_ONCE))
        })
        .collect();
    let counts = threads.into_iter().map(|thread| thread.join().expect("a thread that asks"));
    Told { answered: counts.sum(), refused: 0 }
}

/// Asks so many times for the list; how many answers came.
fn ask(socket: &str, number: usize) -> usize {
    let mut connection = connect(socket).expect("it listens");
    connection.write_all(&hello()).expect("it listens");
    let mut asking = connection.try_clone().expect("a duplicate");
    thread::spawn(move || {
        let requests = |ids: std::ops::Range<usize>| -> Vec<u8> {
            let request = |id| ClientFrame::Request { id, request: Request::List };
            ids.flat_map(|id| frame::encode(&request(id as u32)).expect("it fits")).collect()
        };
        let mut begin = 0;
        while begin < number && asking.write_all(&requests(begin..(begin + 256).min(number))).is_ok() {
            begin += 256;
        }
    });
    let (mut assembler, mut bytes, mut answered) = (Assembler::new(), [0; 1 << 16], 0);
    while answered < number {
        let length = connection.read(&mut bytes).expect("it answers");
        assert!(length > 0, "the daemon hung up after {answered} answers");
        assembler.push(&bytes[..length]);
        while let Some(frame) = assembler.next_message::<ServerFrame>().expect("its frames are good") {
            if let ServerFrame::Answer { answer: Answer::Done(_), .. } = frame {
                answered += 1;
            }
        }
    }
    answered
}

fn forged(socket: &str, number: usize) -> Told {
    let word = |value: u32| value.to_ne_bytes();
    let lengths = [u32::MAX, i32::MAX as u32, 1 << 20, 70_000, 7, 0];
    let mut told = Told::default();
    for (attempt, length) in (0..number).zip(lengths.into_iter().cycle()) {
        let Some(mut connection) = connect(socket) else { continue };
        let bytes = match attempt % 2 {
            0 => [word(102), word(length), word(100), word(7)].concat(),
            _ => [&length.max(5000).to_le_bytes()[..], &[0; 64]].concat(),
        };
        let _ = connection.write_all(&bytes);
        // a length that could be true is waited for: half of a request, and no more comes
        let _ = connection.shutdown(std::net::Shutdown::Write);
        told.refused += usize::from(is_hung_up(&connection));
    }
    told
}
