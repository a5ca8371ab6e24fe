//! `memcr -l PATH` and `memcr -l PORT`: the daemon, from its start to its end.

use crate::cli::Arguments;
use crate::confine::{self, Enforcement, Mode};
use crate::error::BrokerError;
use crate::serve::closer::Closer;
use crate::serve::{Announcement, Server, Turn};
use crate::startup::activation::Passed;
use crate::startup::listener::Listener;
use crate::startup::{self, Foundation};
use memcr_protocol::code::Code;
use std::process::ExitCode;
use tracing::{info, warn};

/// Serves until a signal ends it.
///
/// # Errors
/// [`BrokerError`] when it can't start, or can't go on; every sleeper is woken by its worker then.
pub(crate) fn run(arguments: &Arguments, passed: Passed) -> Result<ExitCode, BrokerError> {
    let foundation = startup::lay(arguments, passed, None)?;
    let mut server = confined(foundation, Mode::Serve)?;
    server.run(|server| {
        while !server.has_ended() {
            if server.turn()?.contains(&Turn::Signal) {
                server.stop("a signal asks for it");
            }
        }
        Ok(())
    })?;
    Ok(if server.has_lost_its_launcher() {
        ExitCode::from(Code::Internal.exit_status())
    } else {
        ExitCode::SUCCESS
    })
}

/// Gives up all privileges and sets about serving. The order counts: nothing is read from a client before
/// the last line of it.
///
/// # Errors
/// [`BrokerError`] for the first step that failed.
pub(crate) fn confined(foundation: Foundation, mode: Mode) -> Result<Server, BrokerError> {
    let listener = foundation.listener.as_ref();
    let announcement = |landlock: Enforcement| Announcement {
        uid: foundation.identity.uid.as_raw(),
        gid: foundation.identity.gid.as_raw(),
        listen: listener.and_then(Listener::path).map(|path| path.display().to_string()),
        addresses: listener.map(Listener::addresses).unwrap_or_default().to_vec(),
        listen_group: foundation.listen_group,
        policy: foundation.policy_path.clone(),
        image: foundation.image,
        guard: if foundation.full_guard { "full" } else { "exit-kill" },
        landlock: landlock.name(),
        sandbox: foundation.sandbox,
        missing: foundation.missing.clone(),
        features: foundation.features.clone(),
    };
    let restricted = confine::restrict(
        &foundation.identity,
        (foundation.sandbox, &foundation.missing),
        listener.and_then(Listener::parent),
        foundation.audit.directory(),
    )?;
    let announcement = announcement(restricted.landlock);
    if let Some(listener) = listener {
        listener.listen()?;
    }
    // a thread takes over what this one has given up, and can't be started once the filter is there
    let closer = Closer::start()?;
    let mut server = Server::new(foundation, closer)?;
    restricted.seal(mode, server.reopens_its_audit_log(), &announcement.missing)?;
    report(&announcement);
    server.announce(&announcement)?;
    Ok(server)
}

fn report(announcement: &Announcement) {
    let Announcement { uid, gid, sandbox, missing, .. } = announcement;
    info!("running as user {uid}, group {gid}, without capabilities; sandbox: {}", sandbox.name());
    for lack in missing {
        warn!("the sandbox is not complete: {}", lack.sentence());
    }
    if let Some(path) = &announcement.listen {
        info!("listening on {path}");
    }
    for address in &announcement.addresses {
        info!("listening on {address}");
    }
}
