//! Somebody who connects to a socket of others: `sample-intruder PATH|@NAME COUNT`.
//!
//! It connects COUNT times, as long as nobody makes it wait, and says `ready`. Some of its connections say nothing,
//! some say too little, what might be a token, or too much. It holds them until its input ends.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use std::io::Read;
use std::os::fd::AsRawFd;

fn main() {
    let mut words = std::env::args().skip(1);
    let place = words.next().expect("a path or a name is needed");
    let count: usize = words.next().and_then(|word| word.parse().ok()).expect("a number is needed");
    let address = match place.strip_prefix('@') {
        Some(name) => UnixAddr::new_abstract(name.as_bytes()),
        None => UnixAddr::new(place.as_str()),
    };
    let address = address.expect("an address");
    let mut connected = Vec::new();
    for number in 0..count {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let own = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket");
        if connect(own.as_raw_fd(), &address).is_err() {
            break;
        }
        let packet = vec![0; [0, 1, 32, 33, 1000][number % 5]];
        if !packet.is_empty() {
            send(own.as_raw_fd(), &packet, MsgFlags::MSG_DONTWAIT).expect("there is room for it");
        }
        connected.push(own);
    }
    println!("ready connected={}", connected.len());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
