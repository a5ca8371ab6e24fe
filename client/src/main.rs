//! `memcr-client`: asks a memcr daemon to put a process to sleep or to wake it.

#![forbid(unsafe_code)]

mod arguments;
mod render;

use arguments::{Act, Arguments};
use memcrclient::{Connection, Error, LegacyClient, Location, open_target};
use render::{Output, ProgressLine};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(message) => return render::usage(&message),
    };
    let output = Output { json: arguments.json };
    match run(&arguments, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => render::failure(&error),
    }
}

/// Does what was asked for, one act after the other.
fn run(arguments: &Arguments, output: Output) -> Result<(), Error> {
    match &arguments.location {
        Location::Path(path) => over_unix_socket(path, arguments, output),
        Location::Tcp { .. } => over_tcp(arguments, output),
    }
}

/// On one connection.
fn over_unix_socket(path: &Path, arguments: &Arguments, output: Output) -> Result<(), Error> {
    // first of all, so that the number can't become another process's while we connect
    let target = arguments.pid.map(open_target).transpose()?;
    let mut daemon = Connection::connect_within(path, arguments.patience)?;
    for act in &arguments.acts {
        match (act, &target) {
            (Act::Checkpoint, Some(target)) => {
                let mut line = ProgressLine::new();
                let options = arguments.options.clone();
                let report = daemon.checkpoint(target, options, |progress| line.show(progress));
                drop(line);
                output.asleep(arguments.pid, Some(&report?));
            }
            (Act::Restore, Some(target)) => {
                let mut line = ProgressLine::new();
                let report = daemon.restore(target, |progress| line.show(progress));
                drop(line);
                output.awake(arguments.pid, Some(&report?));
            }
            (Act::Status, Some(target)) => output.status(&daemon.status(target)?),
            // without a process there is only the list to ask for
            (Act::List | Act::Checkpoint | Act::Restore | Act::Status, _) => output.list(&daemon.list()?),
        }
    }
    Ok(())
}

/// In the original's protocol. The process may be one of another machine: its number is sent as it is.
fn over_tcp(arguments: &Arguments, output: Output) -> Result<(), Error> {
    let pid = arguments.pid.unwrap_or_default();
    let mut daemon = LegacyClient::connect(&arguments.location, arguments.patience)?;
    for act in &arguments.acts {
        match act {
            Act::Checkpoint => {
                daemon.checkpoint(pid, arguments.options.clone())?;
                output.asleep(arguments.pid, None);
            }
            Act::Restore => {
                daemon.restore(pid)?;
                output.awake(arguments.pid, None);
            }
            // the arguments were refused
            Act::List => return Err(Error::OnlyUnix { request: "--list" }),
            Act::Status => return Err(Error::OnlyUnix { request: "--status" }),
        }
    }
    Ok(())
}
