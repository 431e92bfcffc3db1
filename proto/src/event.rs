//! The kinds of events, for machines that follow them: what each means, and which fields it has.
//!
//! `seq`, `at`, `kind`, `who` and `message` are always there. A kind never changes its meaning and never loses a field; new kinds
//! and further fields may come.

/// A field that says what an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Always there.
    Has(&'static str),
    /// There where the event is about such.
    May(&'static str),
}

use Field::{Has, May};

/// One kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// `rollout.started`, …
    pub name: &'static str,
    /// What has happened.
    pub meaning: &'static str,
    /// What it is about.
    pub fields: &'static [Field],
}

const fn kind(name: &'static str, fields: &'static [Field], meaning: &'static str) -> Kind {
    Kind { name, meaning, fields }
}

/// Of a rollout.
const ROLLOUT: &[Field] = &[Has("app"), Has("rollout")];
/// Of a host in a rollout.
const PART: &[Field] = &[Has("app"), Has("rollout"), Has("host")];
/// Of a host by itself, or in a rollout.
const HOST: &[Field] = &[Has("host"), May("app"), May("rollout")];

/// All kinds, by name.
pub const KINDS: &[Kind] = &[
    kind("audit.damaged", &[], "the audit log is damaged; `windlass audit --check` says where"),
    kind(
        "audit.unread",
        &[],
        "a file about a certificate that was issued beside the coordinator cannot be read, and stays",
    ),
    kind("bundle.pushed", &[Has("app")], "a bundle was stored"),
    kind("coordinator.deposed", &[], "another coordinator leads this fleet; this one has stopped"),
    kind(
        "coordinator.restored",
        &[],
        "the coordinator leads again after its state was restored from a backup",
    ),
    kind("grant.pushed", &[Has("app")], "a grant was stored: leave to use an earlier release"),
    kind("host.again", PART, "the host's part failed on the way and is tried again"),
    kind("host.back", PART, "the host is back on its former release"),
    kind("host.confirmed", PART, "the release is permanent on the host"),
    kind("host.cordoned", &[Has("host")], "an operator keeps the host out of rollouts"),
    kind("host.enrolled", &[Has("host")], "a new host joined the fleet"),
    kind(
        "host.evidence_lost",
        &[Has("host"), Has("rollout")],
        "what the host froze before it reverted could not be kept",
    ),
    kind("host.failed", PART, "the host's part failed before anything was stopped"),
    kind(
        "host.foreign",
        &[Has("host")],
        "the host has obeyed a coordinator whom this one does not know, and is not led",
    ),
    kind("host.forgot", &[Has("host"), Has("app")], "the host no longer knows of an app that it had"),
    kind("host.gone", PART, "the host is silent for longer than the rollout waits, and is no longer counted"),
    kind("host.hook", PART, "a hook ended as it should"),
    kind("host.hook_failed", PART, "a hook failed"),
    kind("host.labelled", &[Has("host")], "an operator changed the host's labels"),
    kind("host.led", &[Has("host")], "the host obeys this coordinator again"),
    kind("host.lost", PART, "the host was not heard of in time and counts as failed"),
    kind("host.moved", PART, "the host was taken from another environment of the app"),
    kind("host.overdue", PART, "the host was not healthy by its deadline"),
    kind("host.permitted", PART, "the host may leave service"),
    kind("host.quarantined", PART, "neither the new release nor the former one comes up on the host"),
    kind("host.reenrolled", &[Has("host")], "a host of the fleet joined it again"),
    kind("host.refused", HOST, "the host does not do what it was told, and says why"),
    kind("host.released", &[Has("host")], "an operator released the host from quarantine"),
    kind("host.removed", &[Has("host")], "an operator removed the host from the fleet"),
    kind("host.returned", HOST, "a silent host is heard of again"),
    kind("host.reverted", PART, "the host went back to its former release by itself"),
    kind("host.silent", HOST, "the host is not heard of any more"),
    kind("host.skipped", PART, "the rollout goes on without the host"),
    kind("host.taken_in", &[Has("host")], "the host is led again after a restore"),
    kind("host.uncordoned", &[Has("host")], "an operator lets the host take part in rollouts again"),
    kind("release.paroled", &[Has("app")], "an operator lets a poisoned release be tried once more"),
    kind("rollout.aborting", ROLLOUT, "the rollout goes back"),
    kind("rollout.baking", ROLLOUT, "a batch is through, and the rest before the next one runs"),
    kind("rollout.batch", ROLLOUT, "the next batch is changed"),
    kind("rollout.blocked", ROLLOUT, "the rollout waits, and the message says what for"),
    kind("rollout.cancelled", ROLLOUT, "the rollout was aborted before anything was changed"),
    kind("rollout.failed", ROLLOUT, "the rollout ended badly"),
    kind("rollout.paused", ROLLOUT, "the rollout is paused and needs a person"),
    kind("rollout.recovered", ROLLOUT, "the coordinator started again in the middle of the rollout"),
    kind("rollout.resumed", ROLLOUT, "an operator lets the rollout go on"),
    kind("rollout.rollback_failed", ROLLOUT, "a changed host did not come back; a person is needed"),
    kind("rollout.rolled_back", ROLLOUT, "every changed host is back on its former release"),
    kind("rollout.staged", ROLLOUT, "the release is staged on every host"),
    kind("rollout.started", ROLLOUT, "a rollout began"),
    kind("rollout.succeeded", ROLLOUT, "every targeted host has the release"),
    kind("token.created", &[May("host")], "a join token was made"),
    kind("token.revoked", &[], "a join token was revoked"),
];

/// A kind by its name.
pub fn by_name(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

impl Kind {
    /// What is wrong with an event of this kind, of which these fields are not empty.
    pub fn check(&self, present: &[&str]) -> Result<(), String> {
        let name = self.name;
        for field in self.fields {
            if let Has(field) = field
                && !present.contains(field)
            {
                return Err(format!("{name} has no {field}"));
            }
        }
        let known =
            |wanted: &str| self.fields.iter().any(|field| matches!(field, Has(f) | May(f) if *f == wanted));
        match present.iter().find(|field| !known(field)) {
            Some(field) => Err(format!("{name} has a {field}, which is not documented")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_order_and_each_is_there_once() {
        assert!(KINDS.is_sorted_by(|a, b| a.name < b.name));
        assert!(KINDS.iter().all(|kind| by_name(kind.name) == Some(kind) && !kind.meaning.ends_with('.')));
    }

    #[test]
    fn an_event_has_the_fields_of_its_kind_and_no_others() {
        let kind = by_name("host.silent").unwrap();
        assert_eq!(kind.check(&["host"]), Ok(()));
        assert_eq!(kind.check(&["app", "host", "rollout"]), Ok(()));
        assert!(kind.check(&["app"]).unwrap_err().contains("no host"));
        let kind = by_name("token.created").unwrap();
        assert_eq!(kind.check(&[]), Ok(()));
        assert!(kind.check(&["app"]).unwrap_err().contains("not documented"));
        assert_eq!(by_name("rollout.won"), None);
    }
}
