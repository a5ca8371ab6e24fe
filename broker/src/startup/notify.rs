//! Telling the service manager (systemd's NOTIFY_SOCKET, see sd_notify(3)) what state we are in.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use tracing::warn;

/// Connected to the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
}

impl ServiceManager {
    /// Connects now, since confinement forbids it later.
    pub(crate) fn from_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(cause) => {
                warn!("connect to the service manager at {}: {cause}", Path::new(&name).display());
                None
            }
        });
        Self { socket }
    }

    /// Clients can connect.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Sleepers are being woken; then the daemon ends.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        let sent = self.socket.as_ref().map_or(Ok(0), |socket| socket.send(state.as_bytes()));
        if let Err(cause) = sent {
            warn!("tell the service manager {state}: {cause}");
        }
    }
}

fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // a manager that doesn't read must not stop us
    socket.set_nonblocking(true)?;
    match name.as_bytes() {
        [b'@', abstract_name @ ..] => {
            socket.connect_addr(&SocketAddr::from_abstract_name(abstract_name)?)?;
        }
        _ => socket.connect(name)?,
    }
    Ok(socket)
}
