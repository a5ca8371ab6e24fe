//! Where the parasite and its worker meet, agreed before either is there, and by what each knows the other.

use crate::error::{Error, Result};
use crate::sys::{pidfd, socket};
use crate::target::namespaces;
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::Status;
use memcr_protocol::launcher::Transport;
use memcr_protocol::parasite::{ADDRESS_LENGTH, NO_GROUP, Name, TOKEN_LENGTH};
use nix::errno::Errno;
use nix::sys::socket::UnixAddr;
use nix::unistd::Pid;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Connections that may wait for the parasite: ours comes at once, others only to get in its way.
const BACKLOG: u32 = 128;
/// Random bytes of a name.
const NAME_BYTES: usize = 8;
/// Mode of the socket's file: everybody's, since peer and token tell who may talk; with a group that one's.
const MODE_OF_ALL: u32 = 0o666;
const MODE_OF_GROUP: u32 = 0o660;

/// How all workers meet their parasites.
pub(crate) enum Way {
    /// An end of a socketpair is taken out of the target.
    Taken,
    /// By a socket with an abstract name: pidfd_getfd(2) is missing.
    Abstract,
    /// By a socket in a directory.
    Named {
        /// As the target finds it.
        directory: PathBuf,
        /// Its group.
        group: Option<u32>,
    },
}

impl Way {
    /// What the daemon was started with, on this kernel and in this sandbox.
    pub(crate) fn choose(transport: Transport) -> Result<Self> {
        match transport {
            Transport::Taken if pidfd::can_duplicate_descriptors() => Ok(Self::Taken),
            Transport::Taken => Ok(Self::Abstract),
            Transport::Named { mut directory, group } => {
                while directory.len() > 1 && directory.ends_with(b"/") {
                    directory.pop();
                }
                let is_good = directory.starts_with(b"/")
                    && !directory.contains(&0)
                    && directory.len() <= Transport::MAX_DIRECTORY;
                if !is_good {
                    return Err(Error::Unsupported(format!(
                        "-S {}: a path from the root on (/...) of at most {} bytes is needed, so that the address of \
                         a socket has room for it",
                        directory.escape_ascii(),
                        Transport::MAX_DIRECTORY
                    )));
                }
                Ok(Self::Named { directory: OsStr::from_bytes(&directory).into(), group })
            }
        }
    }
}

/// How one worker meets its parasite.
pub(crate) enum Rendezvous<'a> {
    /// It takes an end of a socketpair out of the process, or thread, of this pidfd.
    Pair(BorrowedFd<'a>),
    /// It connects to a name.
    Name(Box<Appointment>),
}

impl<'a> Rendezvous<'a> {
    /// Agrees on it for one target, of which `thread` will run the parasite.
    pub(crate) fn arrange(
        way: &Way,
        pid: Pid,
        thread: &ProcDirectory,
        pidfd: BorrowedFd<'a>,
    ) -> Result<Self> {
        match way {
            Way::Taken => Ok(Self::Pair(pidfd)),
            Way::Abstract => Appointment::without_file(pid, thread).map(|it| Self::Name(Box::new(it))),
            Way::Named { directory, group } => {
                Appointment::in_directory(pid, thread, directory, *group).map(|it| Self::Name(Box::new(it)))
            }
        }
    }

    /// Inode of the file behind a descriptor of the target, by a copy: for kernels that don't tell (before Linux 5.14).
    pub(crate) fn inode_of(&self, number: RawFd) -> Option<u64> {
        match self {
            Self::Pair(target) => pidfd::inode_of_descriptor(*target, number),
            Self::Name(_) => None,
        }
    }

    /// What the parasite must know.
    pub(crate) fn name(&self) -> Name {
        match self {
            Self::Pair(_) => Name::NONE,
            Self::Name(appointment) => appointment.name,
        }
    }
}

/// A socket of the parasite with a name that nobody can foresee.
pub(crate) struct Appointment {
    /// For the parasite.
    name: Name,
    /// For us.
    address: UnixAddr,
    /// The directory of its file; the address leads through it.
    _directory: Option<OwnedFd>,
    /// Who has to listen there.
    listener: (Pid, u32),
    /// Where it is, in words.
    pub(crate) spot: Spot,
}

/// Where a socket is, for sentences.
pub(crate) struct Spot {
    /// The target.
    pub(crate) pid: Pid,
    /// The directory, as the target finds it; none for an abstract name.
    pub(crate) directory: Option<PathBuf>,
    /// The name.
    pub(crate) word: String,
    /// The group of the socket.
    pub(crate) group: Option<u32>,
}

impl Appointment {
    fn without_file(pid: Pid, thread: &ProcDirectory) -> Result<Self> {
        let (word, token) = secrets(pid)?;
        let spot = Spot { pid, directory: None, word, group: None };
        if !namespaces::is_shared(thread, "net")? {
            return Err(spot.refused(
                "it is in another network namespace than memcr, and pidfd_getfd(2) is not to be had here (Linux 5.6, \
                 or a sandbox forbids it): start memcr with -S DIR, a directory that both can enter",
            ));
        }
        let word = spot.word.as_bytes();
        let address = UnixAddr::new_abstract(word).map_err(Error::system("naming", "a socket"))?;
        let name = Name { mode: 0, ..name(&[b"\0", word].concat(), token, thread)? };
        Ok(Self { name, address, _directory: None, listener: listener(pid, thread)?, spot })
    }

    fn in_directory(pid: Pid, thread: &ProcDirectory, directory: &Path, group: Option<u32>) -> Result<Self> {
        let (word, token) = secrets(pid)?;
        let spot = Spot { pid, directory: Some(directory.to_owned()), word, group };
        let group_there = match group {
            None => NO_GROUP,
            Some(group) => namespaces::group_there(thread, group)?.ok_or_else(|| {
                spot.refused(format!("group {group} (-G) has no number in its user namespace: give another"))
            })?,
        };
        let opened = thread.directory_of_its_own(directory).map_err(|cause| spot.not_entered(cause))?;
        // by its descriptor, so that the directory takes no room in the address
        let address = format!("/proc/self/fd/{}/{}", opened.as_fd().as_raw_fd(), spot.word);
        let address = UnixAddr::new(address.as_str()).map_err(Error::system("naming", "a socket"))?;
        let path = directory.join(&spot.word);
        let name = Name {
            mode: if group.is_some() { MODE_OF_GROUP } else { MODE_OF_ALL },
            group: group_there,
            ..name(&[path.as_os_str().as_bytes(), b"\0"].concat(), token, thread)?
        };
        Ok(Self { name, address, _directory: Some(opened), listener: listener(pid, thread)?, spot })
    }

    /// Connects to the parasite, which listens and is stopped, and shows it who we are. Nothing is said to
    /// anybody else who may be there in its place.
    pub(crate) fn connect(&self) -> Result<OwnedFd> {
        let socket = socket::connect(&self.address).map_err(|cause| self.spot.not_connected(cause))?;
        let peer =
            socket::peer_credentials(socket.as_fd()).map_err(Error::system("naming", "the parasite"))?;
        if (Pid::from_raw(peer.pid()), peer.uid()) != self.listener {
            return Err(self.spot.squatted());
        }
        socket::send(&socket, &self.name.token, &[])
            .map_err(Error::system("talking to the parasite in process", self.spot.pid))?;
        Ok(socket)
    }
}

/// A word that nobody can foresee, and a token.
fn secrets(pid: Pid) -> Result<(String, [u8; TOKEN_LENGTH])> {
    let (mut random, mut token) = ([0; NAME_BYTES], [0; TOKEN_LENGTH]);
    let source = SystemRandom::new();
    source
        .fill(&mut random)
        .and_then(|()| source.fill(&mut token))
        .map_err(|_| Error::Unsupported("the kernel gives no random numbers".into()))?;
    let mut word = format!("memcr-{pid}-");
    for byte in random {
        let _ = write!(word, "{byte:02x}");
    }
    Ok((word, token))
}

/// What the parasite must know of an address, given as what follows its family.
fn name(address: &[u8], token: [u8; TOKEN_LENGTH], thread: &ProcDirectory) -> Result<Name> {
    let (peer_pid, peer_uid) = namespaces::ids_of_us(thread)?;
    let family = (libc::AF_UNIX as u16).to_ne_bytes();
    let mut bytes = [0; ADDRESS_LENGTH];
    let all = [&family, address].concat();
    let failed = || Error::Protocol("the address of a socket is too long".into());
    bytes.get_mut(..all.len()).ok_or_else(failed)?.copy_from_slice(&all);
    let length = u32::try_from(all.len()).map_err(|_| failed())?;
    Ok(Name { length, backlog: BACKLOG, peer_pid, peer_uid, token, address: bytes, ..Name::NONE })
}

/// Whom the kernel must name at a socket of the parasite.
fn listener(pid: Pid, thread: &ProcDirectory) -> Result<(Pid, u32)> {
    let [_, effective, _] = Status::read(thread)?.uids;
    Ok((pid, effective))
}

impl Spot {
    /// What is wrong, said of the target.
    pub(crate) fn refused(&self, reason: impl Into<String>) -> Error {
        Error::Refused { pid: self.pid.as_raw(), reason: reason.into() }
    }

    fn not_entered(&self, cause: Errno) -> Error {
        let advice = match cause {
            Errno::ENOENT | Errno::ENOTDIR => "make that directory where the process finds it",
            Errno::EACCES => "let the daemon's user enter it",
            _ => "give another -S DIR",
        };
        self.refused(format!("its {self} can't be entered: {}; {advice}", cause.desc()))
    }

    fn not_connected(&self, cause: Errno) -> Error {
        let advice = match (cause, self.group) {
            (Errno::EACCES, Some(group)) => {
                format!("memcr must be started by root, or by a user in group {group} (-G)")
            }
            (Errno::EACCES, None) => "let the daemon's user enter that directory".into(),
            (Errno::EAGAIN, _) => format!("others keep connecting to it; {}", self.privacy("enter")),
            _ => format!("somebody may have taken it away; {}", self.privacy("write to")),
        };
        self.refused(format!("the socket in its {self} can't be connected to: {}; {advice}", cause.desc()))
    }

    fn squatted(&self) -> Error {
        self.refused(format!(
            "somebody else listens at the socket in its {self}; {}",
            self.privacy("write to")
        ))
    }

    /// How to keep others away.
    pub(super) fn privacy(&self, what: &str) -> String {
        match self.directory {
            Some(_) => format!("let nobody else {what} that directory"),
            None => format!("start memcr with -S DIR, a directory that nobody else may {what}"),
        }
    }
}

impl std::fmt::Display for Spot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.directory {
            Some(directory) => write!(formatter, "directory {} (-S)", directory.display()),
            None => formatter.write_str("network namespace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(directory: &[u8]) -> Result<Way> {
        Way::choose(Transport::Named { directory: directory.to_vec(), group: None })
    }

    #[test]
    fn a_directory_for_which_an_address_has_no_room_is_refused_with_its_limit() {
        let longest = [b"/", "d".repeat(Transport::MAX_DIRECTORY - 1).as_bytes()].concat();
        assert!(named(&longest).is_ok());
        // slashes at the end take no room
        assert!(named(&[longest.as_slice(), b"//"].concat()).is_ok());
        let refused = named(&[longest.as_slice(), b"d"].concat()).err().unwrap().to_string();
        assert!(refused.contains("at most 76 bytes"), "{refused}");
        for directory in [&b"relative"[..], b"", b"/with\0zero"] {
            assert!(named(directory).is_err());
        }
    }

    #[test]
    fn the_longest_name_in_the_longest_directory_fits_into_an_address() {
        let (word, _) = secrets(Pid::from_raw(4_194_304)).unwrap();
        let path = Path::new("/").join("d".repeat(Transport::MAX_DIRECTORY - 1)).join(word);
        assert_eq!(path.as_os_str().len(), memcr_protocol::parasite::MAX_PATH);
    }

    #[test]
    fn no_two_names_and_no_two_tokens_are_the_same() {
        let (one, other) = (secrets(Pid::from_raw(7)).unwrap(), secrets(Pid::from_raw(7)).unwrap());
        assert!(one.0.starts_with("memcr-7-") && one.0.len() == "memcr-7-".len() + 16, "{}", one.0);
        assert!(one.0 != other.0 && one.1 != other.1);
    }
}
