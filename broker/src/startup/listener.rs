//! Where clients come in. The UNIX socket is made without a moment in which a stranger could use it, and never
//! in the place of anything that isn't a dead socket of ours.

use super::identity::Identity;
use super::paths::{Place, Purpose, open_parent};
use super::ports::Ports;
use crate::error::{Attempt, BrokerError};
use crate::sys::status::{self, FileType, Stat, is};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, UnlinkatFlags, fchownat, geteuid, unlinkat};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tracing::{debug, info};

/// Connections that may wait to be accepted; 300 idle clients at once must not crowd out one more.
pub(super) const BACKLOG: i32 = 1024;

/// What all listening sockets are.
pub(super) const FLAGS: SockFlag = SockFlag::SOCK_NONBLOCK.union(SockFlag::SOCK_CLOEXEC);

/// Where clients come in.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A UNIX socket.
    Path(PathListener),
    /// TCP sockets, one for each address.
    Ports(Ports),
}

/// A client that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Its socket.
    pub(crate) socket: OwnedFd,
    /// Where it comes from, over TCP.
    pub(crate) address: Option<SocketAddr>,
}

impl Listener {
    /// Listens; see [`PathListener::listen`].
    ///
    /// # Errors
    /// [`BrokerError`] when the kernel refuses.
    pub(crate) fn listen(&self) -> Result<(), BrokerError> {
        match self {
            Self::Path(listener) => listener.listen(),
            Self::Ports(ports) => ports.listen(),
        }
    }

    /// All sockets, by number.
    pub(crate) fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Path(listener) => vec![listener.socket.as_fd()],
            Self::Ports(ports) => ports.sockets().collect(),
        }
    }

    /// The next client that waits at the socket with this number.
    ///
    /// # Errors
    /// What accept(2) says, `WouldBlock` among it.
    pub(crate) fn accept(&self, number: usize) -> io::Result<Accepted> {
        match self {
            Self::Path(listener) => {
                listener.accept().map(|socket| Accepted { socket: socket.into(), address: None })
            }
            Self::Ports(ports) => ports
                .accept(number)
                .map(|(socket, address)| Accepted { socket: socket.into(), address: Some(address) }),
        }
    }

    /// The path where clients connect.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(listener) => Some(&listener.path),
            Self::Ports(_) => None,
        }
    }

    /// The TCP addresses where clients connect.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Path(_) => &[],
            Self::Ports(ports) => ports.addresses(),
        }
    }

    /// The directory of the socket; removing the socket needs it.
    pub(crate) fn parent(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Path(listener) => listener.own.as_ref().map(|own| own.parent.as_fd()),
            Self::Ports(_) => None,
        }
    }

    /// Closes all sockets, and removes the name of the UNIX socket, if it is still ours.
    pub(crate) fn remove(self) {
        match self {
            Self::Path(listener) => listener.remove(),
            Self::Ports(_) => {}
        }
    }
}

/// A listening UNIX socket and the name it has.
#[derive(Debug)]
pub(crate) struct PathListener {
    socket: UnixListener,
    path: PathBuf,
    /// Unless a service manager made it, and keeps it.
    own: Option<OwnName>,
}

/// The name of a socket that was made here, to be removed at the end.
#[derive(Debug)]
struct OwnName {
    parent: OwnedFd,
    name: OsString,
    inode: (u64, u64),
}

impl PathListener {
    /// Binds `path`. Mode 0660 and group `group`, or mode 0666 without a group: then
    /// anybody may connect, be named by the kernel, and be told what the policy says. Nobody can connect
    /// before [`PathListener::listen`].
    ///
    /// # Errors
    /// [`BrokerError`] when `path` is taken, or can't be bound.
    pub(crate) fn bind(path: &Path, group: Option<u32>, identity: &Identity) -> Result<Self, BrokerError> {
        let place = place(path);
        let (parent, name) = open_parent(place)?;
        let address = UnixAddr::new(path).attempt_at("name", place)?;
        make_room(place, &address, &parent, &name, identity)?;
        let socket =
            socket(AddressFamily::Unix, SockType::Stream, FLAGS, None).attempt("make", "a socket")?;
        let others =
            if group.is_some() { Mode::from_bits_truncate(0o117) } else { Mode::from_bits_truncate(0o111) };
        let before = umask(others);
        let bound = bind(socket.as_raw_fd(), &address);
        umask(before);
        bound.attempt_at("bind", place)?;
        let status = give(&parent, &name, group, identity).attempt_at("give away", place)?;
        let inode = (status.st_dev, status.st_ino);
        let own = Some(OwnName { parent, name, inode });
        Ok(Self { socket: socket.into(), path: path.to_owned(), own })
    }

    /// A socket that a service manager made, which decides on its mode and group, and keeps its name. Workers know clients
    /// by the address where they were accepted, so that must be `path`.
    ///
    /// # Errors
    /// [`BrokerError`] if it has another address.
    pub(crate) fn given(socket: UnixListener, path: &Path) -> Result<Self, BrokerError> {
        let address = socket.local_addr().attempt("look at", "the socket of the service manager")?;
        if address.as_pathname() != Some(path) {
            let found = address.as_pathname().map_or("no path".into(), |path| path.display().to_string());
            return Err(BrokerError::Activation(format!("it is at {found}, and -l says {}", path.display())));
        }
        socket.set_nonblocking(true).attempt("use", "the socket of the service manager")?;
        Ok(Self { socket, path: path.to_owned(), own: None })
    }

    /// Listens, as whoever this process is now: to clients, and on the sockets that they connected, the
    /// kernel names the one who called listen(2). It must never be root, since a captured broker could
    /// pass such a socket for a client of root's. A service manager has called it already: the last call counts.
    ///
    /// # Errors
    /// [`BrokerError`] when the kernel refuses.
    fn listen(&self) -> Result<(), BrokerError> {
        let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
        listen(&self.socket, backlog).attempt_at("listen on", place(&self.path))
    }

    fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().map(|(client, _)| client)
    }

    /// Closes the socket and removes its name, if it is still ours and the directory allows it.
    fn remove(self) {
        let Self { socket, path, own } = self;
        drop(socket);
        let Some(OwnName { parent, name, inode }) = own else { return };
        match status::at(&parent, name.as_os_str()) {
            Ok(status) if (status.st_dev, status.st_ino) == inode => {
                if let Err(cause) = unlinkat(&parent, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
                    // the next start replaces it
                    debug!("leave {}: {cause}", path.display());
                }
            }
            Ok(_) | Err(_) => debug!("{} is not ours any more", path.display()),
        }
    }
}

fn place(path: &Path) -> Place<'_> {
    Place { purpose: Purpose::Socket, path }
}

/// Makes the new socket the group's and the final user's, who may then remove it at the end even from
/// a sticky directory. By descriptor, after a look: in a directory that others may write to, the name
/// could stand for something else by now.
fn give(parent: &OwnedFd, name: &OsString, group: Option<u32>, identity: &Identity) -> Result<Stat, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let held = openat(parent, name.as_os_str(), flags, Mode::empty())?;
    let status = status::of(&held)?;
    if !is(&status, FileType::Socket) || status.st_nlink != 1 || status.st_uid != geteuid().as_raw() {
        return Err(Errno::EEXIST);
    }
    let owner = identity.changes.then_some(identity.uid);
    let group = group.map(Gid::from_raw).or(identity.changes.then_some(identity.gid));
    fchownat(&held, "", owner, group, AtFlags::AT_EMPTY_PATH)?;
    Ok(status)
}

/// Removes a socket that a daemon of ours left; refuses everything else.
fn make_room(
    place: Place<'_>,
    address: &UnixAddr,
    parent: &OwnedFd,
    name: &OsString,
    identity: &Identity,
) -> Result<(), BrokerError> {
    let status = match status::at(parent, name.as_os_str()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.attempt_at("look at", place)?,
    };
    let unsuitable =
        |reason: &str| BrokerError::Unsuitable { path: place.to_string(), reason: reason.into() };
    if !is(&status, FileType::Socket) {
        return Err(unsuitable("exists and is not a socket; memcr does not remove it: name another path"));
    }
    if !identity.may_have_left(status.st_uid) {
        return Err(unsuitable("is a socket of another user; memcr does not remove it: name another path"));
    }
    match probe(address)? {
        Probe::Dead => remove_same(parent, name, &status).attempt_at("remove", place),
        Probe::Alive => Err(BrokerError::InUse { path: place.to_string() }),
        Probe::Unknown(cause) => Err(cause).attempt_at("find out who listens on", place),
    }
}

enum Probe {
    Dead,
    Alive,
    Unknown(Errno),
}

fn probe(address: &UnixAddr) -> Result<Probe, BrokerError> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, FLAGS, None).attempt("make", "a socket")?;
    Ok(match connect(socket.as_raw_fd(), address) {
        // full: somebody listens and is slow
        Ok(()) | Err(Errno::EAGAIN) => Probe::Alive,
        Err(Errno::ECONNREFUSED) => Probe::Dead,
        Err(cause) => Probe::Unknown(cause),
    })
}

/// Removes the name if it is still what was looked at.
fn remove_same(parent: &OwnedFd, name: &OsString, seen: &Stat) -> Result<(), Errno> {
    let now = status::at(parent, name.as_os_str())?;
    if (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino) {
        return Err(Errno::EEXIST);
    }
    unlinkat(parent, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
    info!("removed the socket that an earlier daemon left at {}", Path::new(name).display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::getegid;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
    use std::os::unix::net::UnixListener;

    fn user() -> Identity {
        Identity { uid: geteuid(), gid: getegid(), changes: false }
    }

    #[test]
    fn with_a_group_only_owner_and_group_may_connect_and_without_everybody_may() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let group = getegid().as_raw();
        let listener = PathListener::bind(&path, Some(group), &user()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        listener.remove();
        assert!(!path.exists());
        let _listener = PathListener::bind(&path, None, &user()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
    }

    #[test]
    fn nobody_can_connect_before_it_listens() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let listener = PathListener::bind(&path, None, &user()).unwrap();
        assert!(UnixStream::connect(&path).is_err());
        listener.listen().unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_dead_socket_of_ours_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(PathListener::bind(&path, None, &user()).is_ok());
    }

    #[test]
    fn a_socket_that_answers_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let _alive = UnixListener::bind(&path).unwrap();
        let refused = PathListener::bind(&path, None, &user()).unwrap_err();
        assert!(matches!(refused, BrokerError::InUse { .. }), "{refused}");
    }

    #[test]
    fn files_links_and_sockets_of_strangers_are_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(PathListener::bind(&path, None, &user()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        symlink("elsewhere", &path).unwrap();
        assert!(PathListener::bind(&path, None, &user()).is_err());
        assert!(path.is_symlink());
        if geteuid().is_root() {
            fs::remove_file(&path).unwrap();
            drop(UnixListener::bind(&path).unwrap());
            chown(&path, Some(61_991), None).unwrap();
            let refused = PathListener::bind(&path, None, &user()).unwrap_err();
            assert!(refused.to_string().contains("another user"), "{refused}");
            lchown(&path, Some(0), None).unwrap();
        }
    }

    #[test]
    fn a_socket_of_a_service_manager_keeps_its_name_and_must_be_at_the_path_that_was_given() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let socket = || UnixListener::bind(&path).unwrap();
        let refused = PathListener::given(socket(), Path::new("/elsewhere")).unwrap_err();
        assert!(matches!(refused, BrokerError::Activation(_)), "{refused}");
        fs::remove_file(&path).unwrap();
        let listener = PathListener::given(socket(), &path).unwrap();
        assert!(Listener::Path(listener).parent().is_none());
        fs::remove_file(&path).unwrap();
        PathListener::given(socket(), &path).unwrap().remove();
        assert!(path.exists());
    }

    #[test]
    fn a_name_that_was_replaced_meanwhile_is_not_removed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let listener = PathListener::bind(&path, None, &user()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody's").unwrap();
        listener.remove();
        assert!(path.exists());
    }
}
