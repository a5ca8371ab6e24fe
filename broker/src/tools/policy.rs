//! `memcr policy`: what a policy file says.

use super::subjects::{client, target};
use crate::startup::paths::{Place, Purpose};
use crate::startup::policy;
use crate::sys::status;
use clap::Subcommand;
use memcr_policy::{Explanation, Limits, Permits, Policy, SIZE_LIMIT};
use memcr_protocol::subject::{Action, Peer, TargetFacts};
use nix::unistd::geteuid;
use std::fs::File;
use std::io::{Read, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status of a request that would be denied.
const DENIED: u8 = 2;

/// What to do with a policy file.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum Command {
    /// Check a policy file: the first mistake with its line and column, and whether others could change it
    ///
    /// Exit status: 0 good, 1 not.
    Check {
        /// The policy file
        file: PathBuf,
    },
    /// Tell which rule decides about a request, and why those before it don't
    ///
    /// A client or a target is a running process, pid:NUMBER, or facts, KEY=VALUE,KEY=VALUE...: uid, user, gid, group (of a client as
    /// often as you like: all of its groups), executable, cgroup, and of a target sha256. What is not given is unknown, which a rule that denies takes for a
    /// match and a rule that allows does not. Exit status: 0 allowed, 2 denied, 1 the question is wrong.
    Test {
        /// The policy file
        file: PathBuf,
        /// Who asks: pid:NUMBER, facts, or `anonymous`
        #[arg(long, value_name = "CLIENT", value_parser = client)]
        client: Peer,
        /// For which process: pid:NUMBER or facts
        #[arg(long, value_name = "TARGET", value_parser = target)]
        target: TargetFacts,
        /// For what: checkpoint, restore, list or status
        #[arg(long, value_name = "ACTION", default_value = "checkpoint", value_parser = action)]
        action: Action,
        /// Say it as one JSON object
        #[arg(long)]
        json: bool,
    },
}

fn action(name: &str) -> Result<Action, String> {
    let all = [Action::Checkpoint, Action::Restore, Action::List, Action::Status];
    let found = all.into_iter().find(|action| action.name() == name);
    found.ok_or_else(|| "the actions are checkpoint, restore, list and status".into())
}

/// The exit status.
pub(super) fn run(command: &Command) -> ExitCode {
    let told = match command {
        Command::Check { file } => check(file),
        Command::Test { file, client, target, action, json } => {
            read(file).map(|policy| test(&policy, client, *action, target, *json))
        }
    };
    told.unwrap_or_else(|reason| {
        // nothing can be done when even this can't be written
        let _ = writeln!(stderr(), "{reason}");
        ExitCode::FAILURE
    })
}

fn check(path: &Path) -> Result<ExitCode, String> {
    let policy = read(path)?;
    let file = File::open(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
    let status = status::of(&file).map_err(|cause| format!("{}: {cause}", path.display()))?;
    let place = Place { purpose: Purpose::PolicyFile, path };
    policy::require_trusted(&status, geteuid().as_raw(), place).map_err(|error| error.to_string())?;
    let _ = writeln!(stdout(), "{}: good, {} rules", path.display(), policy.rules());
    Ok(ExitCode::SUCCESS)
}

/// What it says, whoever may change it.
fn read(path: &Path) -> Result<Policy, String> {
    let wrong = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
    let mut text = Vec::new();
    let file = File::open(path).map_err(|cause| wrong(&cause))?;
    file.take(SIZE_LIMIT as u64 + 1).read_to_end(&mut text).map_err(|cause| wrong(&cause))?;
    policy::parse(&text).map_err(|cause| wrong(&cause))
}

fn test(policy: &Policy, client: &Peer, action: Action, target: &TargetFacts, json: bool) -> ExitCode {
    let explanation = policy.explain(client, action, target);
    let _ = if json { tell_json(&explanation, action) } else { tell(&explanation, action) };
    if explanation.decision.allowed { ExitCode::SUCCESS } else { ExitCode::from(DENIED) }
}

fn tell_json(explanation: &Explanation, action: Action) -> std::io::Result<()> {
    let Explanation { decision, passed_over } = explanation;
    let passed_over: Vec<_> = passed_over
        .iter()
        .map(|(rule, mismatch)| serde_json::json!({"rule": rule, "key": mismatch.key, "found": mismatch.found}))
        .collect();
    let said = serde_json::json!({
        "action": action.name(),
        "allowed": decision.allowed,
        "rule": decision.rule,
        "limits": {"asleep": decision.limits.asleep, "size": decision.limits.size},
        "permits": permitted(decision.permits),
        "passed_over": passed_over,
    });
    writeln!(stdout(), "{said}")
}

/// Which processes it permits that are refused otherwise, as a policy file says it.
fn permitted(permits: Permits) -> Vec<&'static str> {
    let Permits { non_dumpable, seccomp } = permits;
    let all = [("non-dumpable", non_dumpable), ("seccomp", seccomp)];
    all.into_iter().filter(|(_, is_permitted)| *is_permitted).map(|(name, _)| name).collect()
}

fn tell(explanation: &Explanation, action: Action) -> std::io::Result<()> {
    let Explanation { decision, passed_over } = explanation;
    for (rule, mismatch) in passed_over {
        writeln!(stdout(), "rule \"{rule}\" is passed over: {mismatch}")?;
    }
    let word = if decision.allowed { "allowed" } else { "denied" };
    write!(stdout(), "{} is {word} by \"{}\"", action.name(), decision.rule)?;
    let Limits { asleep, size } = decision.limits;
    if let Some(asleep) = asleep {
        write!(stdout(), ", for {asleep} processes at once")?;
    }
    if let Some(size) = size {
        write!(stdout(), ", up to {size} bytes")?;
    }
    let permitted = permitted(decision.permits);
    if !permitted.is_empty() {
        write!(stdout(), ", {} too", permitted.join(" and "))?;
    }
    writeln!(stdout())
}
