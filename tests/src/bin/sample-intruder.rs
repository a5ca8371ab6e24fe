//! Somebody who connects to a socket of others: `sample-intruder PATH|@NAME COUNT [slow]`.
//!
//! It connects COUNT times, as long as nobody makes it wait, and says `ready`. Some of its connections say nothing,
//! some say too little, what might be a token, or too much; `slow` ones come with a descriptor that takes long to
//! close. It holds them until its input ends.

use memcr_tests::sockets::slow_to_close;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use std::io::{IoSlice, Read};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

fn main() {
    let mut words = std::env::args().skip(1);
    let place = words.next().expect("a path or a name is needed");
    let count: usize = words.next().and_then(|word| word.parse().ok()).expect("a number is needed");
    let is_slow = words.next().as_deref() == Some("slow");
    let address = match place.strip_prefix('@') {
        Some(name) => UnixAddr::new_abstract(name.as_bytes()),
        None => UnixAddr::new(place.as_str()),
    };
    let address = address.expect("an address");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut connected = Vec::new();
    for number in 0..count {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let own = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket");
        if connect(own.as_raw_fd(), &address).is_err() {
            break;
        }
        let length = [0, 1, 32, 33, 1000][number % 5];
        if is_slow {
            say(&own, length.max(1), Some(&slow_to_close(&listener)));
        } else if length > 0 {
            say(&own, length, None);
        }
        connected.push(own);
    }
    println!("ready connected={}", connected.len());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn say(own: &OwnedFd, length: usize, descriptor: Option<&OwnedFd>) {
    let packet = vec![0; length];
    let numbers: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[][..] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(own.as_raw_fd(), &[IoSlice::new(&packet)], rights, flags, None)
        .expect("there is room for it");
}
