//! Clients that do harm, as the user that runs this: many idle connections, endless requests, descriptors
//! whose closing takes long.
//!
//! `idle SOCKET COUNT`, `flood SOCKET PID` or `linger SOCKET COUNT`; says `ready` when all is done, and then
//! `told=N` for each line of input: how many connections were told that a limit is reached.

use memcr_protocol::client::{ClientFrame, Request, VERSION};
use memcr_protocol::frame;
use memcr_tests::sockets::slow_to_close;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{IoSlice, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [mode, socket, number] = &words[..] else { panic!("give a mode, a socket and a number") };
    let number: i32 = number.parse().expect("a number");
    let connections: Vec<_> = match mode.as_str() {
        "idle" => (0..number).map(|_| greet(connect(socket))).collect(),
        "flood" => vec![flood(greet(connect(socket)), number)],
        "linger" => (0..number).map(|_| leave_descriptors(connect(socket))).collect(),
        mode => panic!("there is no mode {mode}"),
    };
    println!("ready");
    for _ in std::io::stdin().lines() {
        println!("told={}", connections.iter().filter(|connection| was_told(connection)).count());
    }
}

fn connect(socket: &str) -> UnixStream {
    UnixStream::connect(socket).expect("cannot connect")
}

fn hello() -> Vec<u8> {
    frame::encode(&ClientFrame::Hello { version: VERSION }).expect("it fits")
}

/// Says hello and hears the answer.
fn greet(mut connection: UnixStream) -> UnixStream {
    connection.write_all(&hello()).expect("the daemon listens");
    let mut length = [0; 4];
    connection.read_exact(&mut length).expect("the daemon answers");
    let mut answer = vec![0; u32::from_le_bytes(length) as usize];
    connection.read_exact(&mut answer).expect("the daemon answers");
    connection
}

/// Asks for ever for the process to be put to sleep; returns when some answers are there.
fn flood(connection: UnixStream, pid: i32) -> UnixStream {
    let pid = Pid::from_raw(pid).expect("a process id");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("there is such a process");
    let mut answers = connection.try_clone().expect("a duplicate");
    let asking = connection.try_clone().expect("a duplicate");
    std::thread::spawn(move || {
        let request = |id| {
            let request = Request::Checkpoint(Default::default());
            frame::encode(&ClientFrame::Request { id, request }).expect("it fits")
        };
        (1..).all(|id| send(&asking, &request(id), &pidfd));
    });
    let mut bytes = [0; 4096];
    answers.read_exact(&mut bytes).expect("the daemon answers");
    std::thread::spawn(move || while answers.read(&mut bytes).is_ok_and(|length| length > 0) {});
    connection
}

/// Sends a descriptor that it may not send, and more of them, which the daemon, stopped meanwhile, will not
/// read. Closing one waits for a peer that never takes what was sent to it.
fn leave_descriptors(connection: UnixStream) -> UnixStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    for _ in 0..8 {
        // closed here at once, which does not wait as long as it is on its way
        assert!(send(&connection, &hello(), &slow_to_close(&listener)), "the daemon was not stopped");
    }
    // stays open, and its connections with it
    std::mem::forget(listener);
    connection
}

/// Sends bytes with a descriptor; whether the daemon has not hung up.
fn send(connection: &UnixStream, bytes: &[u8], descriptor: &OwnedFd) -> bool {
    let numbers = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    let slices = [IoSlice::new(bytes)];
    sendmsg::<()>(connection.as_raw_fd(), &slices, &rights, MsgFlags::MSG_NOSIGNAL, None).is_ok()
}

/// Whether the daemon has said that a limit is reached, and hung up.
fn was_told(mut connection: &UnixStream) -> bool {
    connection.set_nonblocking(true).expect("a flag");
    let (mut said, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = connection.read(&mut chunk) {
        said.extend_from_slice(&chunk[..length]);
    }
    let said = String::from_utf8_lossy(&said);
    ["makes room", "can't be closed", "none is idle"].into_iter().any(|why| said.contains(why))
}
