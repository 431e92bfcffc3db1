//! `windlass token`: join tokens, with which agents enrol.

use std::collections::BTreeMap;

use windlass_proto::rpc::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Token as Made};
use windlass_proto::time::Span;

use super::host::labels;
use crate::args::Token;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, style, table, text};

/// Runs the verb.
pub async fn run(invocation: &Invocation, verb: Token) -> Result {
    match verb {
        Token::Create { label, host, ttl } => create(invocation, &label, host, ttl).await,
        Token::List => list(invocation).await,
        Token::Revoke { id } => revoke(invocation, id).await,
    }
}

async fn create(invocation: &Invocation, label: &[String], host: Option<String>, ttl: Span) -> Result {
    let mut labels = BTreeMap::new();
    for text in label {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(ExpectedError::usage(format!("--label {text:?} is not key=value"))
                .hint("windlass token create --label role=app"));
        };
        labels.insert(key.to_owned(), value.to_owned());
    }
    if ttl < Span::secs(1) || ttl > Span::secs(86_400) {
        return Err(ExpectedError::usage(format!("--ttl {ttl} is not between 1s and 24h")));
    }
    let client = invocation.connect().await?;
    let request = CreateTokenRequest { labels, host: host.unwrap_or_default(), ttl_seconds: ttl.ceil_secs() };
    let token = client.ask("cannot make a token", client.fleet.clone().create_token(request)).await?;
    let out = &invocation.out;
    if out.format.is_structured() {
        out.object(&json::wrap("Token", json::token(&token)))?;
    } else {
        // The secret alone on stdout: TOKEN=$(windlass token create).
        out.line(&token.join)?;
        out.talk(&format!(
            "token {}, good for one agent, until {}",
            token.id,
            text::clock(token.expires_at_ms)
        ));
    }
    Ok(Exit::Done)
}

async fn list(invocation: &Invocation) -> Result {
    let client = invocation.connect().await?;
    let tokens = client
        .ask("cannot list tokens", client.fleet.clone().list_tokens(ListTokensRequest {}))
        .await?
        .tokens;
    let out = &invocation.out;
    match out.format {
        Format::Name => tokens.iter().try_for_each(|token| out.line(&token.id))?,
        format if format.is_structured() => {
            let all: serde_json::Value = tokens.iter().map(json::token).collect();
            out.list(&json::wrap("TokenList", serde_json::json!({ "tokens": all })), "tokens", "Token")?;
        }
        _ if tokens.is_empty() => out.talk("no tokens; make one: windlass token create --label role=app"),
        _ => {
            let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
            out.data(&table::render(
                &["TOKEN", "STATE", "HOST", "LABELS", "EXPIRES", "BY", "USED BY"],
                &rows,
            ))?;
        }
    }
    Ok(Exit::Done)
}

fn row(token: &Made) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        token.id.clone(),
        style::word(&token.state),
        or_dash(&token.host),
        labels(&token.labels),
        text::rfc3339(token.expires_at_ms).unwrap_or_default(),
        or_dash(&token.created_by),
        or_dash(&token.used_by),
    ]
}

async fn revoke(invocation: &Invocation, id: String) -> Result {
    let client = invocation.connect().await?;
    let token = client
        .ask(
            &format!("cannot revoke token {id}"),
            client.fleet.clone().revoke_token(RevokeTokenRequest { id: id.clone() }),
        )
        .await?;
    if invocation.out.format.is_structured() {
        invocation.out.object(&json::wrap("Token", json::token(&token)))?;
    } else {
        invocation.out.step("Revoked", &token.id);
    }
    Ok(Exit::Done)
}
