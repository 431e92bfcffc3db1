//! Which environment is meant: the named one, the only one, or the one that a person chooses.

use windlass_proto::rpc::EnvironmentsRequest;

use crate::args::SpecFile;
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::Output;
use crate::spec::{self, near};

/// The environment of a spec that is to be planned or deployed; `None` where the spec has none.
pub fn of_spec(invocation: &Invocation, args: &SpecFile) -> Result<Option<String>> {
    if args.env.is_some() {
        return Ok(args.env.clone());
    }
    let file = args.file.display().to_string();
    let names = spec::environments(&args.file)?;
    if let [one] = names.as_slice() {
        invocation.out.talk(&format!("environment {one}, the only one of {file}"));
    }
    choose(&invocation.out, &file, names)
}

/// The environment of an app in which something is done to it; empty where it has none yet.
pub async fn acting(client: &Client, out: &Output, app: &str, given: Option<&str>) -> Result<String> {
    let names = names(client, app).await?;
    match given {
        Some(given) => check(app, given, names),
        None => Ok(choose(out, app, names)?.unwrap_or_default()),
    }
}

/// The environment whose things are shown; empty for those of all. `app` is empty where those of all apps are shown.
pub async fn showing(client: &Client, app: &str, given: Option<&str>) -> Result<String> {
    match given {
        Some(given) => check(app, given, names(client, app).await?),
        None => Ok(String::new()),
    }
}

/// Whether there is more than one among these, so that a table has to tell them apart.
pub fn several<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.next().is_some_and(|first| names.any(|name| name != first))
}

async fn names(client: &Client, app: &str) -> Result<Vec<String>> {
    let subject = match app {
        "" => "cannot read the environments".to_owned(),
        app => format!("cannot read the environments of {app}"),
    };
    let request = EnvironmentsRequest { app: app.to_owned() };
    let known = client.ask(&subject, client.fleet.clone().environments(request)).await?.environments;
    let mut names: Vec<String> = known.into_iter().map(|environment| environment.name).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The named one, where there is such.
fn check(app: &str, given: &str, names: Vec<String>) -> Result<String> {
    if names.iter().any(|name| name == given) {
        return Ok(given.to_owned());
    }
    let meant = near(given, names.iter().map(String::as_str));
    let meant = meant.map(|meant| format!(", did you mean {meant:?}?")).unwrap_or_default();
    let error = ExpectedError::usage(match app {
        "" => format!("no app has an environment {given:?}{meant}"),
        app => format!("{app} has no environment {given:?}{meant}"),
    });
    Err(match names.is_empty() {
        true => error.line("there are none: nothing was deployed yet"),
        false => error.line(format!("there are: {}", names.join(", "))),
    })
}

/// One of these names; of several the one that a person chooses, and without a person none.
fn choose(out: &Output, whose: &str, mut names: Vec<String>) -> Result<Option<String>> {
    if names.len() < 2 {
        return Ok(names.pop());
    }
    if !out.can_ask() {
        let error = ExpectedError::usage(format!("which environment? {whose} has {}", names.join(", ")));
        return Err(names.iter().fold(error, |error, name| error.hint(format!("--env {name}"))));
    }
    for (n, name) in (1..).zip(&names) {
        out.talk(&format!("  {n}) {name}"));
    }
    let chosen = out.ask_number(&format!("Which environment of {whose}? (a number; anything else: none)"));
    let chosen = chosen.and_then(|n| n.checked_sub(1)).filter(|n| *n < names.len());
    match chosen {
        Some(n) => Ok(Some(names.swap_remove(n))),
        None => Err(ExpectedError::new(Exit::Usage, "nothing was changed: no environment was chosen")
            .hint("--env NAME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["production".into(), "staging".into()]
    }

    #[test]
    fn an_unknown_environment_is_told_with_what_may_be_meant_and_what_there_is() {
        assert_eq!(check("web", "staging", names()).unwrap(), "staging");
        for (app, given, says) in [
            ("web", "stagin", "web has no environment \"stagin\", did you mean \"staging\"?"),
            ("web", "x", "web has no environment \"x\""),
            ("", "x", "no app has an environment \"x\""),
        ] {
            let error = check(app, given, names()).unwrap_err();
            assert_eq!((error.exit(), error.message()), (Exit::Usage, says));
            assert!(error.render().contains("there are: production, staging"));
        }
        assert!(check("web", "x", vec![]).unwrap_err().render().contains("nothing was deployed yet"));
    }

    #[test]
    fn columns_tell_environments_apart_only_where_there_are_several() {
        for (names, told) in
            [(&[][..], false), (&["a"], false), (&["a", "a"], false), (&["a", "b", "a"], true)]
        {
            assert_eq!(several(names.iter().copied()), told, "{names:?}");
        }
    }
}
