//! Which user an application runs as, and whether this host allows it.

use nix::unistd::{Uid, User};
use windlass_proto::id::AppName;

use super::RuntimeError;
use crate::config::HostPolicy;
use crate::shim::order::UserIds;

/// Who an application will run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// Set where the agent must become somebody else.
    pub ids: Option<UserIds>,
    /// The user's home directory.
    pub home: String,
}

/// Checks the spec's user against the host's policy and looks it up.
pub fn resolve(user: Option<&str>, policy: &HostPolicy, app: &AppName) -> Result<RunAs, RuntimeError> {
    let own = Uid::effective();
    let found = match user {
        Some(name) => User::from_name(name)
            .map_err(|e| RuntimeError::UserLookup(name.to_owned(), e.into()))?
            .ok_or_else(|| RuntimeError::NoUser(name.to_owned()))?,
        // An agent whose own uid has no entry still may run applications as itself.
        None => match User::from_uid(own) {
            Ok(Some(user)) => user,
            _ if own.is_root() => return Err(refused_root()),
            _ => return Ok(RunAs { ids: None, home: "/".into() }),
        },
    };
    if found.uid.is_root() && !policy.allow_root {
        return Err(refused_root());
    }
    if !policy.users.is_empty() && !policy.users.contains(&found.name) {
        return Err(RuntimeError::UserRefused {
            user: format!("{} (application {app})", found.name),
            hint: "name one of policy.users in agent.toml as release.runtime.user",
        });
    }
    let ids = UserIds { uid: found.uid.as_raw(), gid: found.gid.as_raw() };
    let ids = match (found.uid == own, own.is_root()) {
        (true, _) => None,
        (false, true) => Some(ids),
        (false, false) => return Err(RuntimeError::CannotSwitch(found.name)),
    };
    Ok(RunAs { ids, home: found.dir.to_string_lossy().into_owned() })
}

fn refused_root() -> RuntimeError {
    RuntimeError::UserRefused {
        user: "root".into(),
        hint: "set release.runtime.user, or policy.allow_root = true in agent.toml",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow_root: bool, users: &[&str]) -> HostPolicy {
        HostPolicy {
            author_keys: vec![],
            threshold: 1,
            apps: vec![],
            allow_root,
            users: users.iter().map(|u| (*u).to_owned()).collect(),
        }
    }

    #[test]
    fn root_and_strangers_are_refused() {
        let app = "shop".parse().unwrap();
        let error = resolve(Some("root"), &policy(false, &[]), &app).unwrap_err();
        assert!(error.to_string().contains("policy.allow_root = true"), "{error}");
        let error = resolve(Some("no-such-user"), &policy(true, &[]), &app).unwrap_err();
        assert!(error.to_string().contains("no user \"no-such-user\""), "{error}");
        let error = resolve(Some("nobody"), &policy(true, &["shop"]), &app).unwrap_err();
        assert!(error.to_string().contains("policy.users"), "{error}");
    }

    #[test]
    fn own_user_needs_no_switch() {
        let own = User::from_uid(Uid::effective()).unwrap().unwrap();
        let app = "shop".parse().unwrap();
        assert_eq!(resolve(Some(&own.name), &policy(true, &[]), &app).unwrap().ids, None);
        assert_eq!(resolve(None, &policy(true, &[]), &app).unwrap().ids, None);
    }
}
