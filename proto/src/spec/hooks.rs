//! Hooks: commands of a release that the agent runs on the way from one release to the next, by CodeDeploy's names and in
//! its order.
//!
//! | hook | when | of which release |
//! |---|---|---|
//! | `before_block_traffic`, `after_block_traffic` | around the drain | the new one |
//! | `application_stop` | before the old release is told to stop | the old one |
//! | `before_install` | before the link moves | the new one |
//! | `after_install`, `application_start` | around the start | the new one |
//! | `validate_service` | when it is ready and the smoke checks have passed | the new one |
//! | `before_allow_traffic`, `after_allow_traffic` | around its way into traffic, before the trial | the new one |
//!
//! A hook of the new release must pass: before anything was stopped its failure leaves the old release in service, after
//! that it is a revert. `application_stop` may fail: that is noted, and the signals of `stop` follow in any case. On the
//! way back only `application_stop` of what is stopped, and `application_start`, `before_allow_traffic` and
//! `after_allow_traffic` of what comes back are run; all of them may fail. A host without a release runs no hook about
//! traffic or stopping; a restart or reboot runs none at all.
//!
//! Exit code 0 passes; [`TRY_LATER`] asks to be run again within the time-out; any other is a failure. What a command
//! leaves running is ended with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::phase::HookName;
use crate::time::Span;

/// Exit code of a hook that wants to be run again, after a while.
pub const TRY_LATER: i32 = 21;

/// Most commands of one hook.
pub const HOOK_COMMANDS: usize = 8;

/// Longest time-out of one command, as CodeDeploy's.
pub const HOOK_LONGEST: Span = Span::secs(3600);

/// The commands of each hook, run one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before the host is taken out of traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_block_traffic: Vec<Hook>,
    /// When it is out of traffic and its requests have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_block_traffic: Vec<Hook>,
    /// Before this release is stopped for another one. May fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub application_stop: Vec<Hook>,
    /// Before the link moves to this release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_install: Vec<Hook>,
    /// After the link moved, before the app starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_install: Vec<Hook>,
    /// When the app's process is there, before it is probed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub application_start: Vec<Hook>,
    /// When the app is ready and its smoke checks have passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validate_service: Vec<Hook>,
    /// Before traffic is let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_allow_traffic: Vec<Hook>,
    /// With traffic let in, before the release counts as on trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_allow_traffic: Vec<Hook>,
}

/// One command of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Program and arguments, as in `runtime.command`.
    pub run: Vec<String>,
    /// Longest that it may take, with its repetitions after exit code 21; then all that came of it is ended.
    #[serde(default = "sixty_seconds")]
    pub timeout: Span,
    /// Whether it may be run again when it is not known how it ended, as when the agent was killed with it.
    #[serde(default)]
    pub idempotent: bool,
}

const fn sixty_seconds() -> Span {
    Span::secs(60)
}

impl Hooks {
    /// The commands of one hook.
    pub fn of(&self, name: HookName) -> &[Hook] {
        match name {
            HookName::BeforeBlockTraffic => &self.before_block_traffic,
            HookName::AfterBlockTraffic => &self.after_block_traffic,
            HookName::ApplicationStop => &self.application_stop,
            HookName::BeforeInstall => &self.before_install,
            HookName::AfterInstall => &self.after_install,
            HookName::ApplicationStart => &self.application_start,
            HookName::ValidateService => &self.validate_service,
            HookName::BeforeAllowTraffic => &self.before_allow_traffic,
            HookName::AfterAllowTraffic => &self.after_allow_traffic,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        HookName::ALL.iter().all(|name| self.of(*name).is_empty())
    }

    /// Longest that one hook may take: the time-outs of its commands.
    pub fn longest(&self, name: HookName) -> Span {
        self.of(name).iter().fold(Span(0), |sum, hook| sum + hook.timeout)
    }
}
