//! `memcr audit`: whether an audit log is whole.

use crate::audit::chain::Hash;
use crate::audit::verify::{Problem, Summary, Verifier};
use clap::Subcommand;
use std::fs::File;
use std::io::{BufReader, Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to do with an audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check that no record was changed, removed or put in between
    ///
    /// Records that were cut off at the end leave no trace in a log: keep the hash of the last record, which is shown, in
    /// another place, and give it with --expect. Exit status: 0 whole, 1 not.
    Verify {
        /// The files of the log, the oldest first
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The hash that the last record must have
        #[arg(long, value_name = "HASH", value_parser = hash)]
        expect: Option<Hash>,
        /// Pass over lines that don't begin with `{`: those of the operational log on standard error
        #[arg(long)]
        mixed: bool,
        /// Say it as one JSON object
        #[arg(long)]
        json: bool,
    },
}

fn hash(text: &str) -> Result<Hash, String> {
    Hash::parse(text).ok_or_else(|| "a hash has 64 hexadecimal digits in lower case".into())
}

/// Exit status: 0 whole, 1 not.
pub(super) fn run(command: &Command) -> ExitCode {
    let Command::Verify { files, expect, mixed, json } = command;
    let mut verifier = Verifier::new(*mixed);
    for path in files {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => verifier.read(&name, BufReader::new(file)),
            Err(cause) => verifier.problem(Problem { file: name, line: 0, reason: cause.to_string() }),
        }
    }
    let (summary, problems) = verifier.finish(*expect);
    let whole = problems.is_empty();
    // nothing can be done when even this can't be written
    let _ = if *json { tell_json(&summary, &problems) } else { tell(&summary, &problems) };
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell_json(summary: &Summary, problems: &[Problem]) -> std::io::Result<()> {
    let said = serde_json::json!({
        "whole": problems.is_empty(),
        "records": summary.records,
        "first": summary.first,
        "last": summary.last,
        "begins_after": summary.begins_after.map(|hash| hash.to_string()),
        "hash": summary.hash.map(|hash| hash.to_string()),
        "missed": summary.missed,
        "half_lines": summary.half_lines,
        "torn": summary.torn,
        "problems": problems,
    });
    writeln!(stdout(), "{said}")
}

fn tell(summary: &Summary, problems: &[Problem]) -> std::io::Result<()> {
    for Problem { file, line, reason } in problems {
        match line {
            0 => writeln!(stderr(), "{file}: {reason}")?,
            line => writeln!(stderr(), "{file}: line {line}: {reason}")?,
        }
    }
    let state = if problems.is_empty() { "whole" } else { "NOT whole" };
    let Summary { records, first, begins_after, last, hash, missed, half_lines, torn } = summary;
    write!(stdout(), "{state}: {records} records")?;
    if let (Some(first), Some(last), Some(hash)) = (first, last, hash) {
        write!(stdout(), ", number {first} to {last}; the last has the hash {hash}")?;
    }
    if let Some(before) = begins_after.filter(|before| *before != Hash::NONE) {
        write!(stdout(), "; the one before the first, in an older file, has the hash {before}")?;
    }
    if *half_lines > 0 {
        write!(stdout(), "; {half_lines} lines were half written, and the next record says so")?;
    }
    if *missed > 0 {
        write!(stdout(), "; {missed} more could not be written, and gap records say so")?;
    }
    if *torn {
        write!(stdout(), "; it ends in half a line")?;
    }
    writeln!(stdout())
}
