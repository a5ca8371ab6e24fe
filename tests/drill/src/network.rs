//! Sockets and connections.

use crate::orders::{fact, number};
use crate::sys::{address, call};
use crate::{Attempt, Outcome, Refused};

/// All of them.
pub(crate) const ALL: &[Attempt] = &[
    Attempt { name: "make-socket", run: || socket(libc::AF_INET, libc::SOCK_STREAM).map(drop) },
    Attempt { name: "make-packet-socket", run: || socket(libc::AF_PACKET, libc::SOCK_RAW).map(drop) },
    Attempt { name: "make-netlink-socket", run: || socket(libc::AF_NETLINK, libc::SOCK_RAW).map(drop) },
    Attempt { name: "make-unix-socket", run: || socket(libc::AF_UNIX, libc::SOCK_STREAM).map(drop) },
    Attempt { name: "connect-over-tcp", run: connect_over_tcp },
    Attempt { name: "send-over-udp", run: send_over_udp },
    Attempt { name: "listen-over-tcp", run: listen_over_tcp },
    Attempt { name: "connect-to-file", run: || connect_to(&[fact("socket").as_bytes(), &[0]].concat()) },
    Attempt {
        name: "connect-to-abstract-name",
        run: || connect_to(&[&[0], fact("abstract").as_bytes()].concat()),
    },
];

fn socket(family: libc::c_int, kind: libc::c_int) -> Result<u64, Refused> {
    call!(SYS_socket, family, kind | libc::SOCK_CLOEXEC, 0)
}

/// 127.0.0.1 and a port, as struct sockaddr_in.
fn loopback(port: u64) -> Vec<u8> {
    let family = (libc::AF_INET as u16).to_ne_bytes();
    let port = (port as u16).to_be_bytes();
    [&family[..], &port, &[127, 0, 0, 1], &[0; 8]].concat()
}

fn connect_over_tcp() -> Outcome {
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
    let name = loopback(number("port"));
    call!(SYS_connect, socket, address(&name), name.len()).map(drop)
}

fn send_over_udp() -> Outcome {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let name = loopback(number("port"));
    call!(SYS_sendto, socket, address(b"x"), 1, 0, address(&name), name.len()).map(drop)
}

fn listen_over_tcp() -> Outcome {
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
    let name = loopback(0);
    call!(SYS_bind, socket, address(&name), name.len())?;
    call!(SYS_listen, socket, 1).map(drop)
}

/// Connects to a UNIX socket; `name` is the rest of its address.
fn connect_to(name: &[u8]) -> Outcome {
    let socket = socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    let name = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], name].concat();
    call!(SYS_connect, socket, address(&name), name.len()).map(drop)
}
