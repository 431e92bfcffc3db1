//! Join tokens: used once, by one key.

use std::collections::BTreeMap;

use windlass_proto::digest::Digest;
use windlass_proto::id::{HostId, HostName};
use windlass_proto::rpc::ErrorKind;
use windlass_proto::time::{Span, Timestamp};

use super::enrolment::Enrolment;
use super::hosts::check_labels;
use super::log::event;
use super::record::{TokenRecord, TokenUse};
use super::{Fleet, Refusal, persist};

/// How long a token is good when nobody says otherwise.
const DEFAULT_TTL: Span = Span::secs(15 * 60);
/// The longest that a token may be good.
const MAX_TTL: Span = Span::secs(24 * 60 * 60);
/// Tokens kept for the list after they ended.
const KEPT: Span = Span::secs(7 * 24 * 60 * 60);
/// Open tokens at once.
const OPEN: usize = 10_000;

/// Whether a token can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// Yes.
    Open,
    /// It was.
    Used,
    /// Its time has passed.
    Expired,
    /// An operator took it back.
    Revoked,
}

impl TokenState {
    /// The word shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl TokenRecord {
    /// Its state at a time.
    pub fn state(&self, now: Timestamp) -> TokenState {
        if self.used.is_some() {
            TokenState::Used
        } else if self.revoked {
            TokenState::Revoked
        } else if now > self.expires_at {
            TokenState::Expired
        } else {
            TokenState::Open
        }
    }
}

impl Fleet {
    /// All tokens, newest first.
    pub fn tokens(&self) -> Vec<TokenRecord> {
        let mut tokens: Vec<_> = self.tokens.values().cloned().collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.created_at));
        tokens
    }

    /// Records a token made by the caller.
    pub fn create_token(
        &mut self,
        who: &str,
        (id, secret): (String, Digest),
        labels: BTreeMap<String, String>,
        host: Option<HostName>,
        ttl: Option<Span>,
    ) -> Result<TokenRecord, Refusal> {
        check_labels(&labels)?;
        let ttl = ttl.unwrap_or(DEFAULT_TTL);
        if ttl > MAX_TTL {
            return Err(Refusal::invalid(format!("a token may be good for at most {MAX_TTL}, not {ttl}")));
        }
        self.forget_tokens();
        if self.tokens.len() >= OPEN {
            return Err(Refusal::new(
                ErrorKind::TooMuch,
                format!("there are {OPEN} tokens already; revoke some with `windlass token revoke`"),
            ));
        }
        let record = TokenRecord {
            id,
            secret,
            labels,
            host,
            expires_at: self.now.after(ttl),
            created_by: who.to_owned(),
            created_at: self.now,
            used: None,
            revoked: false,
        };
        self.keep_token(record.clone());
        let mut entry = event("token.created", who, format!("token {} for {ttl}", record.id));
        entry.host = record.host.as_ref().map(ToString::to_string).unwrap_or_default();
        self.log(entry);
        Ok(record)
    }

    /// Takes a token back.
    pub fn revoke_token(&mut self, who: &str, id: &str) -> Result<TokenRecord, Refusal> {
        let known = self.tokens.keys().map(String::as_str);
        let token = self.tokens.get(id).ok_or_else(|| Refusal::unknown("token", id, known))?;
        if let Some(used) = &token.used {
            return Err(Refusal::wrong_state(format!(
                "token {id} was used by host {}; to keep that host out, run `windlass host rm {}`",
                used.name, used.name
            )));
        }
        let record = TokenRecord { revoked: true, ..token.clone() };
        self.keep_token(record.clone());
        self.log(event("token.revoked", who, format!("token {id}")));
        Ok(record)
    }

    /// The labels that an enrolment's token gives, if it is good for this enrolment.
    pub(super) fn check_token(&self, enrolment: &Enrolment) -> Result<BTreeMap<String, String>, Refusal> {
        let Some((id, secret)) = &enrolment.token else { return Ok(BTreeMap::new()) };
        let refused = |why: &str| {
            let message = format!("join token {id} {why}; get a new one with `windlass token create`");
            Refusal::new(ErrorKind::NotSignedIn, message)
        };
        // A wrong secret and an unknown id get one answer: nobody learns which ids exist.
        let token = self.tokens.get(id).filter(|token| token.secret == *secret);
        let token = token.ok_or_else(|| refused("is not known here"))?;
        if let Some(name) = token.host.as_ref().filter(|name| **name != enrolment.name) {
            return Err(refused(&format!("is for host {name}, not for {}", enrolment.name)));
        }
        // A host that was removed does not come back by the token that it has used.
        let again = token.used.as_ref().is_some_and(|used| {
            let same = used.key == enrolment.key && used.name == enrolment.name;
            same && self.hosts.contains_key(&used.host)
        });
        match token.state(self.now) {
            TokenState::Open => Ok(token.labels.clone()),
            TokenState::Used if again && self.now <= token.expires_at => Ok(token.labels.clone()),
            TokenState::Used => Err(refused("was used already")),
            TokenState::Expired => Err(refused("has expired")),
            TokenState::Revoked => Err(refused("was revoked")),
        }
    }

    /// Marks a token as used, in the same commit as the host.
    pub(super) fn use_token(&mut self, id: &str, host: &HostId, enrolment: &Enrolment) {
        let Some(token) = self.tokens.get(id).filter(|token| token.used.is_none()) else { return };
        let used = TokenUse { host: host.clone(), name: enrolment.name.clone(), key: enrolment.key };
        self.keep_token(TokenRecord { used: Some(used), ..token.clone() });
    }

    fn keep_token(&mut self, record: TokenRecord) {
        self.changes.put(persist::token_key(&record.id), &record);
        self.tokens.insert(record.id.clone(), record);
    }

    /// Tokens that ended long ago are not shown any more.
    fn forget_tokens(&mut self) {
        let now = self.now;
        let old: Vec<_> = self
            .tokens
            .values()
            .filter(|t| now > t.expires_at.after(KEPT))
            .map(|t| t.id.clone())
            .take(50)
            .collect();
        for id in old {
            self.changes.delete(persist::token_key(&id));
            self.tokens.remove(&id);
        }
    }
}
