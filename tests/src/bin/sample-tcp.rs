//! A client over TCP, as the user that runs this: `sample-tcp ADDRESS:PORT [COUNT]` connects, says `ready`, and
//! answers lines:
//!
//! - `list`: says hello on the first connection and asks for the list; `listed=PIDS` or `failed=CODE SENTENCE`
//! - `hello`: says hello on all connections; `greeted=N`, those that were answered
//! - `told`: how many connections were told that a limit is reached
//! - `close`: closes all connections; `closed`. `reset`: the same without a goodbye

use memcr_protocol::client::{Answer, ClientFrame, Request, ServerFrame, VERSION};
use memcr_protocol::frame::{self, Message, PREFIX_LENGTH};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::TcpStream;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let address = words.first().expect("give an address");
    let count = words.get(1).map_or(1, |count| count.parse().expect("a number"));
    let mut connections: Vec<_> =
        (0..count).map(|_| TcpStream::connect(address).expect("cannot connect")).collect();
    let local = connections.first().expect("a connection").local_addr().expect("an address");
    // what each connection was told, beside answers
    let mut said: Vec<Vec<u8>> = Vec::new();
    println!("ready local={local}");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "list" => println!("{}", list(&mut connections[0])),
            "hello" => println!("greeted={}", connections.iter_mut().filter_map(greet).count()),
            "told" => {
                said.resize(connections.len(), Vec::new());
                for (stream, said) in connections.iter().zip(&mut said) {
                    hear(stream, said);
                }
                println!("told={}", said.iter().filter(|said| is_limit(said)).count());
            }
            "close" => {
                connections.clear();
                println!("closed");
            }
            "reset" => {
                for stream in connections.drain(..) {
                    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                    setsockopt(&stream, sockopt::Linger, &linger).expect("SO_LINGER");
                }
                println!("closed");
            }
            other => println!("there is no {other}"),
        }
    }
}

fn send(stream: &mut TcpStream, frame: &ClientFrame) -> Option<()> {
    stream.write_all(&frame::encode(frame).expect("it fits")).ok()
}

fn receive(stream: &mut TcpStream) -> Option<ServerFrame> {
    let mut prefix = [0; PREFIX_LENGTH];
    stream.read_exact(&mut prefix).ok()?;
    let length = u32::from_le_bytes(prefix) as usize;
    assert!(length <= ServerFrame::LIMIT, "the daemon sends {length} bytes");
    let mut whole = prefix.to_vec();
    whole.resize(PREFIX_LENGTH + length, 0);
    stream.read_exact(&mut whole[PREFIX_LENGTH..]).ok()?;
    Some(frame::decode(&whole).expect("a frame"))
}

/// Says hello, and hears the answer.
fn greet(stream: &mut TcpStream) -> Option<()> {
    send(stream, &ClientFrame::Hello { version: VERSION })?;
    matches!(receive(stream)?, ServerFrame::Hello { .. }).then_some(())
}

fn list(stream: &mut TcpStream) -> String {
    let asked =
        greet(stream).and_then(|()| send(stream, &ClientFrame::Request { id: 1, request: Request::List }));
    let mut pids = Vec::new();
    while asked.is_some() {
        match receive(stream) {
            Some(ServerFrame::Answer { answer: Answer::Entry(entry), .. }) => {
                pids.push(entry.pid.to_string());
            }
            Some(ServerFrame::Answer { answer: Answer::Done(_), .. }) => {
                return format!("listed={}", pids.join(","));
            }
            Some(ServerFrame::Answer { answer: Answer::Failed(failure), .. }) => {
                return format!("failed={} {}", failure.code.name(), failure.message);
            }
            Some(ServerFrame::Answer { answer: Answer::Progress { .. }, .. } | ServerFrame::Hello { .. }) => {
            }
            None => break,
        }
    }
    "failed=closed".to_owned()
}

/// Adds what has come.
fn hear(mut stream: &TcpStream, said: &mut Vec<u8>) {
    stream.set_nonblocking(true).expect("a flag");
    let mut chunk = [0; 512];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        said.extend_from_slice(&chunk[..length]);
    }
    stream.set_nonblocking(false).expect("a flag");
}

fn is_limit(said: &[u8]) -> bool {
    let said = String::from_utf8_lossy(said);
    said.contains("makes room") || said.contains("none is idle")
}
