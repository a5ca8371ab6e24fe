//! Networks of a test's own, and ports that nobody else takes meanwhile.

use crate::users::required;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, getsockname, setsockopt, socket,
    sockopt,
};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Address of the first of two networks that are connected.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(10, 213, 7, 1);
/// Address of the second.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(10, 213, 7, 2);

/// A network namespace with a loopback interface; gone when dropped.
#[derive(Debug)]
pub struct Network {
    holder: Child,
}

impl Network {
    /// A new one, connected to nothing.
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "setpriv", "--pdeathsig", "KILL", "sleep", "infinity"]);
        let holder = command.stdin(Stdio::null()).spawn().expect("cannot make a network");
        let network = Self { holder };
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        crate::wait::until("there is a network of its own", || {
            std::fs::read_link(network.path()).is_ok_and(|path| path != own)
        });
        network.ip(&["link", "set", "lo", "up"]);
        network
    }

    /// Two of them, with the addresses [`FIRST`] and [`SECOND`] in each other's reach.
    pub fn connected() -> (Self, Self) {
        let (first, second) = (Self::new(), Self::new());
        let pid = second.holder.id().to_string();
        first.ip(&["link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &pid]);
        first.ip(&["address", "add", &format!("{FIRST}/30"), "dev", "near"]);
        second.ip(&["address", "add", &format!("{SECOND}/30"), "dev", "far"]);
        first.ip(&["link", "set", "near", "up"]);
        second.ip(&["link", "set", "far", "up"]);
        (first, second)
    }

    /// Has the machine of `other` reach the loopback address here, as it does where route_localnet is set.
    pub fn opens_loopback_to(&self, other: &Self) {
        for (network, name) in [(self, "near"), (other, "far")] {
            network.set(&format!("ipv4/conf/{name}/route_localnet"), "1");
        }
        other.ip(&["address", "delete", "127.0.0.1/8", "dev", "lo"]);
        other.ip(&["route", "add", "127.0.0.1/32", "via", &FIRST.to_string()]);
    }

    /// Sets something of /proc/sys/net.
    fn set(&self, name: &str, value: &str) {
        // what is there is of the namespace of the thread that opens it
        self.inside(|| std::fs::write(format!("/proc/sys/net/{name}"), value).expect("cannot set it"));
    }

    /// One in which there is no IPv6.
    pub fn without_ipv6() -> Self {
        let network = Self::new();
        network.set("ipv6/conf/all/disable_ipv6", "1");
        network
    }

    /// The same command, run in this network; its process keeps its number.
    pub fn command(&self, command: &Command) -> Command {
        let nsenter = required("/usr/bin/nsenter", "util-linux");
        let mut inside = Command::new(nsenter);
        inside.arg(format!("--net={}", self.path().display())).arg("--").arg(command.get_program());
        inside.args(command.get_args()).env_clear().current_dir("/").stdin(Stdio::null());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    /// Does something in this network: sockets that are made then are in it.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("a network");
        let acting = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter");
            act()
        };
        std::thread::scope(|scope| scope.spawn(acting).join()).expect("what is done there does not fail")
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    fn ip(&self, words: &[&str]) {
        let mut command = Command::new(required("/usr/sbin/ip", "iproute2"));
        let status = self.command(command.args(words)).status();
        assert!(status.is_ok_and(|status| status.success()), "ip {} fails", words.join(" "));
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A TCP port of this machine's loopback addresses that nobody else gets. A program that shares ports
/// (SO_REUSEADDR), as daemons do, can listen on it all the same.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reserved: [OwnedFd; 2],
}

impl Port {
    /// A free one.
    pub fn reserve() -> Self {
        loop {
            let first = reserve(loopbacks(0)[0]).expect("a port");
            let number = getsockname::<SockaddrIn>(first.as_raw_fd()).expect("an address").port();
            // else somebody has it there
            if let Ok(second) = reserve(loopbacks(number)[1]) {
                return Self { number, _reserved: [first, second] };
            }
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn reserve(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// The loopback addresses with this port.
pub fn loopbacks(port: u16) -> [SocketAddr; 2] {
    [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].map(|ip| SocketAddr::new(ip, port))
}
