//! Where a daemon listens: the path of a UNIX socket, or a TCP port of some machine.

use crate::Error;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

/// The machine that is meant by a port alone.
const THIS_MACHINE: &str = "127.0.0.1";

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The path of its UNIX socket.
    Path(PathBuf),
    /// A TCP port, where the original's protocol is spoken: see [`crate::LegacyClient`].
    Tcp {
        /// Name or address of the machine, an IPv6 address without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Location {
    /// What `-l` means: `9000`, `127.0.0.1:9000`, `[::1]:9000` and `localhost:9000` are TCP (the first on this
    /// machine), all else is a path; `./9000` for a file of such a name.
    ///
    /// # Errors
    /// [`Error::Location`] for nothing at all, and for a port or an address that can't be one.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        let wrong = |why| Err(Error::Location { text: text.to_string_lossy().into_owned(), why });
        if text.is_empty() {
            return wrong("it is empty");
        }
        let Some((host, port)) = text.to_str().and_then(tcp) else {
            return Ok(Self::Path(PathBuf::from(text)));
        };
        let Some(port) = port.parse().ok().filter(|port| *port > 0) else {
            return wrong("a port is a number from 1 to 65535");
        };
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let Some(host) = inside.or_else(|| Some(host).filter(|host| !host.contains([':', '[', ']']))) else {
            return wrong("an IPv6 address with a port is written [ADDRESS]:PORT");
        };
        if host.is_empty() {
            return wrong("there is no address before the port");
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// Whether it is a TCP port.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }
}

/// Host and port of a location that is no path, whatever they are.
fn tcp(location: &str) -> Option<(&str, &str)> {
    let (host, port) = location.rsplit_once(':').unwrap_or((THIS_MACHINE, location));
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && !location.contains('/')).then_some((host, port))
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(formatter),
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_port_or_an_address_with_one_is_tcp() {
        for (text, host, port) in [
            ("9000", "127.0.0.1", 9000),
            ("127.0.0.1:12345", "127.0.0.1", 12345),
            ("[::1]:9000", "::1", 9000),
            ("localhost:65535", "localhost", 65535),
        ] {
            let location = Location::parse(text.as_ref()).unwrap();
            assert_eq!(location, Location::Tcp { host: host.to_owned(), port });
            assert!(location.to_string().ends_with(text), "{location}");
        }
    }

    #[test]
    fn all_else_is_a_path() {
        for text in ["/tmp/memcrcom", "./9000", "memcr.sock", "/run/memcr:9000", "a:b", "a:"] {
            assert_eq!(Location::parse(text.as_ref()).unwrap(), Location::Path(text.into()));
        }
        let bytes = OsStr::from_bytes(b"/tmp/\xff:1");
        assert_eq!(Location::parse(bytes).unwrap(), Location::Path(bytes.into()));
    }

    #[test]
    fn what_can_be_no_location_is_refused_with_a_sentence() {
        for text in
            ["", "0", "65536", "99999999999", "localhost:0", ":9000", "[]:9000", "::1:9000", "[::1:9000"]
        {
            let refusal = Location::parse(text.as_ref()).unwrap_err();
            assert!(matches!(refusal, Error::Location { .. }), "{text}: {refusal}");
        }
    }
}
