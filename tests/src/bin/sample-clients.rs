//! Clients that do harm, as the user that runs this: many idle connections, endless requests, descriptors
//! whose closing takes long.
//!
//! `idle SOCKET COUNT`, `flood SOCKET PID` or `linger SOCKET COUNT`; says `ready` when all is done, and then
//! `told=N` for each line of input: how many connections were told that a limit is reached.

use memcr_protocol::client::{ClientFrame, Request, VERSION};
use memcr_protocol::frame;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
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
        for id in 1.. {
            let request = Request::Checkpoint(Default::default());
            let request = frame::encode(&ClientFrame::Request { id, request }).expect("it fits");
            send(&asking, &request, &pidfd);
        }
    });
    let mut bytes = [0; 4096];
    answers.read_exact(&mut bytes).expect("the daemon answers");
    std::thread::spawn(move || while answers.read(&mut bytes).is_ok_and(|length| length > 0) {});
    connection
}

/// Sends a hello with a descriptor that it may not have, and more of them that nobody will read. Closing one
/// waits for a peer that never takes what was sent to it.
fn leave_descriptors(connection: UnixStream) -> UnixStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    for _ in 0..3 {
        let address = listener.local_addr().expect("an address");
        let mut stream = TcpStream::connect(address).expect("a connection to ourselves");
        // the other end is never accepted, let alone read
        stream.set_nonblocking(true).expect("a flag");
        while stream.write(&[0; 65536]).is_ok() {}
        setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 60 }).expect("SO_LINGER");
        send(&connection, &hello(), &OwnedFd::from(stream));
    }
    std::mem::forget(listener);
    connection
}

/// Sends bytes with a descriptor; that the daemon has hung up is told later.
fn send(connection: &UnixStream, bytes: &[u8], descriptor: &OwnedFd) {
    let numbers = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    let slices = [IoSlice::new(bytes)];
    let _ = sendmsg::<()>(connection.as_raw_fd(), &slices, &rights, MsgFlags::MSG_NOSIGNAL, None);
}

/// Whether the daemon has said that a limit is reached, and hung up.
fn was_told(mut connection: &UnixStream) -> bool {
    connection.set_nonblocking(true).expect("a flag");
    let (mut said, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = connection.read(&mut chunk) {
        said.extend_from_slice(&chunk[..length]);
    }
    let said = String::from_utf8_lossy(&said);
    said.contains("makes room") || said.contains("can't be closed") || said.contains("too many connections")
}
