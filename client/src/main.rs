//! `memcr-client`: asks a memcr daemon to put a process to sleep or to wake it.

#![forbid(unsafe_code)]

mod arguments;
mod render;

use arguments::{Act, Arguments};
use memcr_client::{CheckpointOptions, Connection, Error, open_target};
use render::{Output, ProgressLine};
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

/// Does what was asked for, one act after the other, on one connection.
fn run(arguments: &Arguments, output: Output) -> Result<(), Error> {
    // first of all, so that the number can't become another process's while we connect
    let target = arguments.pid.map(open_target).transpose()?;
    let mut daemon = Connection::connect_within(&arguments.location, arguments.patience)?;
    for act in &arguments.acts {
        match (act, &target) {
            (Act::Checkpoint, Some(target)) => {
                let mut line = ProgressLine::new();
                let options = CheckpointOptions { directory: arguments.directory.clone(), compression: None };
                let report = daemon.checkpoint(target, options, |progress| line.show(progress));
                drop(line);
                output.asleep(arguments.pid, &report?);
            }
            (Act::Restore, Some(target)) => {
                let mut line = ProgressLine::new();
                let report = daemon.restore(target, |progress| line.show(progress));
                drop(line);
                output.awake(arguments.pid, &report?);
            }
            (Act::Status, Some(target)) => output.status(&daemon.status(target)?),
            // without a process there is only the list to ask for
            (Act::List | Act::Checkpoint | Act::Restore | Act::Status, _) => output.list(&daemon.list()?),
        }
    }
    Ok(())
}
