//! The policy file, read anew: by the launcher, which decides; this process follows.

use super::Server;
use crate::audit::record::{Event, PolicyKept, PolicyReloaded};
use memcr_policy::Policy;
use memcr_protocol::launcher::{Job, PolicyText};
use tracing::{error, info};

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    /// Nobody asks for it.
    Idle,
    /// The launcher is asked.
    Asked,
    /// It is asked, and must be asked again: the file may have been changed after it was read.
    AskedAgain,
}

impl Server {
    /// SIGHUP.
    pub(super) fn reload_policy(&mut self) {
        if !self.has_policy_file {
            info!("there is no policy file (--policy) to be read anew");
            return;
        }
        if self.reload != Reload::Idle {
            self.reload = Reload::AskedAgain;
            return;
        }
        let Some(launcher) = &mut self.launcher else { return };
        let sent = launcher.send(&Job::Reload, Vec::new());
        self.reload = Reload::Asked;
        self.launcher_sent(sent);
    }

    /// The launcher has a new policy, and its workers have: this process decides by it, too.
    pub(super) fn policy_reloaded(&mut self, text: &PolicyText) {
        match Policy::parse(&text.text, &text.accounts) {
            Ok(policy) => {
                info!("the policy file was read anew: {} rules are in force", policy.rules());
                self.audit.record(Event::PolicyReloaded(PolicyReloaded { rules: policy.rules() }));
                self.policy = policy;
            }
            Err(cause) => error!("the launcher's policy is not understood here: {cause}"),
        }
        self.reloaded();
    }

    /// The old policy stays in force.
    pub(super) fn policy_kept(&mut self, reason: &str) {
        error!("the policy file was not read anew, and the old policy stays in force: {reason}");
        self.audit.record(Event::PolicyKept(PolicyKept { reason }));
        self.reloaded();
    }

    fn reloaded(&mut self) {
        let again = self.reload == Reload::AskedAgain;
        self.reload = Reload::Idle;
        if again {
            self.reload_policy();
        }
    }
}
