//! Listening over TCP: on this machine's own addresses 127.0.0.1 and ::1, or on the one that was asked for.

use super::listener::{BACKLOG, FLAGS};
use crate::cli::{Arguments, Listen};
use crate::error::BrokerError;
use memcr_policy::Policy;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use tracing::info;

/// TCP sockets that clients connect to, and their addresses.
#[derive(Debug)]
pub(crate) struct Ports {
    sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Ports {
    /// Those that the command line asks for, bound; `None` if it asks for none. Nobody can connect before
    /// [`Ports::listen`].
    ///
    /// # Errors
    /// [`BrokerError`] when an address is taken or can't be bound, or is for clients that may do nothing.
    pub(crate) fn bind(arguments: &Arguments, policy: &Policy) -> Result<Option<Self>, BrokerError> {
        let Some(Listen::Port(port)) = arguments.listen else { return Ok(None) };
        let (sockets, addresses) = match arguments.listen_address {
            Some(ip) => {
                require_rule(ip, policy)?;
                let address = SocketAddr::new(ip, port);
                (vec![bound(address).map_err(|cause| failed(address, cause))?], vec![address])
            }
            None => both_loopbacks(port)?,
        };
        Ok(Some(Self { sockets: sockets.into_iter().map(TcpListener::from).collect(), addresses }))
    }

    /// Listens, as whoever this process is now.
    ///
    /// # Errors
    /// [`BrokerError`] when the kernel refuses: another program may have come first.
    pub(crate) fn listen(&self) -> Result<(), BrokerError> {
        let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
        let mut all = self.sockets.iter().zip(&self.addresses);
        all.try_for_each(|(socket, address)| listen(socket, backlog).map_err(|cause| failed(*address, cause)))
    }

    /// The next client that waits at the socket with this number, and its address.
    ///
    /// # Errors
    /// What accept(2) says, `WouldBlock` among it.
    pub(crate) fn accept(&self, number: usize) -> io::Result<(TcpStream, SocketAddr)> {
        let socket = self.sockets.get(number).ok_or(io::ErrorKind::WouldBlock)?;
        socket.accept()
    }

    /// All sockets, by number.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Who connects from another machine can't be named: an address for those is no use, and perhaps a mistake,
/// unless a rule says what they may.
fn require_rule(ip: IpAddr, policy: &Policy) -> Result<(), BrokerError> {
    if ip.to_canonical().is_loopback() || policy.grants_anonymous() {
        return Ok(());
    }
    Err(BrokerError::Unsuitable {
        path: format!("address {ip} (--listen-address)"),
        reason:
            "nobody can say who a client from another machine is, and no rule allows anything to anonymous \
                 clients: add one with client = { anonymous = true } to the policy file (--policy), or leave \
                 --listen-address out"
                .into(),
    })
}

fn both_loopbacks(port: u16) -> Result<(Vec<OwnedFd>, Vec<SocketAddr>), BrokerError> {
    let [first, second] = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
        .map(|ip| SocketAddr::new(ip, port));
    let mut sockets = vec![bound(first).map_err(|cause| failed(first, cause))?];
    let mut addresses = vec![first];
    match bound(second) {
        Ok(socket) => {
            sockets.push(socket);
            addresses.push(second);
        }
        // whoever has it would be taken for us by clients that try it first
        Err(cause) if !is_missing(cause) => return Err(failed(second, cause)),
        Err(cause) => info!("not listening on {second}: this machine has no IPv6 ({cause})"),
    }
    Ok((sockets, addresses))
}

/// Whether IPv6 is not there, or not in use.
fn is_missing(cause: Errno) -> bool {
    matches!(cause, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT)
}

fn bound(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, FLAGS, None)?;
    // connections of an earlier daemon may linger; one that listens still keeps the port
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

fn failed(address: SocketAddr, cause: Errno) -> BrokerError {
    BrokerError::Port { address, cause, advice: advice(cause) }
}

fn advice(cause: Errno) -> &'static str {
    match cause {
        Errno::EADDRINUSE => "another program has this port: name another, or end that program",
        Errno::EACCES => "the user who starts memcr may not use this port: name one above 1023",
        Errno::EADDRNOTAVAIL => "this machine has no such address: name another",
        _ => "name another port or address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse_line;
    use memcr_policy::Names;

    struct Nobody;

    impl Names for Nobody {
        fn user(&self, _: &str) -> Option<u32> {
            None
        }

        fn group(&self, _: &str) -> Option<u32> {
            None
        }
    }

    fn policy(client: &str) -> Policy {
        let rule = "version = 1\n[[rule]]\nname = 'a'\neffect = 'allow'\nactions = 'list'\n";
        Policy::parse(&format!("{rule}{client}\n"), &Nobody).unwrap()
    }

    /// A port that is free on both addresses; reserved for those who may share it (SO_REUSEADDR) as long as
    /// what comes with it lives.
    fn free_port() -> (u16, Vec<OwnedFd>) {
        loop {
            let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
            let port = TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
            match bound(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
                Ok(second) => return (port, vec![socket, second]),
                Err(cause) => assert_eq!(cause, Errno::EADDRINUSE),
            }
        }
    }

    fn ports(line: &str, policy: &Policy) -> Result<Ports, BrokerError> {
        Ports::bind(&parse_line(line).unwrap(), policy).map(|ports| ports.expect("a port"))
    }

    #[test]
    fn a_port_is_opened_on_both_loopback_addresses_and_nobody_can_connect_before_it_listens() {
        let (port, _reserved) = free_port();
        let ports = ports(&format!("memcr -l {port}"), &Policy::builtin(None)).unwrap();
        assert_eq!(
            ports.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
        );
        for address in ports.addresses() {
            assert!(TcpStream::connect(address).is_err());
        }
        ports.listen().unwrap();
        for (number, address) in ports.addresses().iter().enumerate() {
            let client = TcpStream::connect(address).unwrap();
            let (_, peer) = ports.accept(number).unwrap();
            assert_eq!(client.local_addr().unwrap(), peer);
            assert_eq!(ports.accept(number).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        assert_eq!(ports.sockets().count(), 2);
    }

    #[test]
    fn a_port_that_another_program_has_is_an_error_that_names_it_on_either_address() {
        for (number, ip) in ["127.0.0.1", "[::1]"].into_iter().enumerate() {
            let (port, reserved) = free_port();
            listen(&reserved[number], Backlog::new(1).unwrap()).unwrap();
            let address = format!("{ip}:{port}");
            let refused = ports(&format!("memcr -l {port}"), &Policy::builtin(None)).unwrap_err();
            assert!(refused.to_string().contains(&format!("listen on {address} (-l)")), "{refused}");
            assert!(refused.to_string().contains("another program has this port"), "{refused}");
            assert_eq!(refused.exit_status(), 4);
        }
    }

    #[test]
    fn an_address_of_other_machines_needs_a_rule_for_anonymous_clients() {
        let (port, _reserved) = free_port();
        for (address, client, is_refused) in [
            ("0.0.0.0", "", true),
            ("::", "client = { uid = 0 }", true),
            ("127.0.0.1", "", false),
            ("::1", "", false),
            ("0.0.0.0", "client = { anonymous = true }", false),
        ] {
            let line = format!("memcr -l {port} --listen-address {address}");
            match ports(&line, &policy(client)) {
                Err(refused) if is_refused => {
                    assert!(refused.to_string().contains("anonymous = true"), "{refused}");
                    assert_eq!(refused.exit_status(), 1);
                }
                bound => assert_eq!(bound.unwrap().addresses().len(), 1, "{address} {client}"),
            }
        }
        let refused = ports(&format!("memcr -l {port} --listen-address 0.0.0.0"), &Policy::builtin(Some(5)));
        assert!(refused.is_err());
    }

    #[test]
    fn an_address_that_this_machine_does_not_have_is_an_error_with_advice() {
        let policy = policy("client = { anonymous = true }");
        let refused = ports("memcr -l 9000 --listen-address 192.0.2.7", &policy).unwrap_err();
        assert!(refused.to_string().contains("this machine has no such address"), "{refused}");
        assert_eq!(refused.exit_status(), 1);
    }
}
