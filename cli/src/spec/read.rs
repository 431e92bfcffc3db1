//! Reading: parse, look at the shape, lay environment and overrides upon it, check the rules; every problem at once.

use std::path::{Path, PathBuf};

use serde_json::Value;
use windlass_proto::id::{AppName, Environment};
use windlass_proto::spec::check::{self, Finding, Level};
use windlass_proto::spec::{ReleaseSpec, RolloutSpec};

use super::blame::blame;
use super::problem::{Problem, invalid};
use super::tree::{Member, Node, Place, Tree};
use super::{batching, files, near, schema, shape, tree};
use crate::args::SpecFile;
use crate::error::{ExpectedError, Result};

/// A spec that may be used.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The app.
    pub app: AppName,
    /// What is signed.
    pub release: ReleaseSpec,
    /// The order, after environment and overrides.
    pub rollout: RolloutSpec,
    /// The directory or file that goes into the bundle.
    pub files: PathBuf,
    /// Things that work but are probably not meant, ready to be shown.
    pub warnings: Vec<String>,
    /// Names of the environments.
    pub environments: Vec<String>,
    /// The one that was asked for, or the default one.
    pub environment: Environment,
}

/// How much is to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What will be used: the base, or the one environment asked for.
    Used,
    /// The same without the directory: the bundle exists already.
    WithoutFiles,
    /// Every environment of the file.
    Everything,
}

fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let error = ExpectedError::usage(format!("cannot read {}", path.display())).because(error);
        if missing { error.hint("windlass init    (writes a commented one)") } else { error }
    })
}

/// The names of a file's environments, as it has them; none of a file that is not even YAML, which [`read`] says.
pub fn environments(file: &Path) -> Result<Vec<String>> {
    Ok(tree::parse(&text_of(file)?).map(|(tree, _)| names_of(&tree)).unwrap_or_default())
}

fn names_of(tree: &Tree) -> Vec<String> {
    members_of(tree).map(|member| member.key.clone()).collect()
}

fn members_of(tree: &Tree) -> impl Iterator<Item = &Member> {
    let members = match tree.get("environments").map(|member| &member.value.node) {
        Some(Node::Map(members)) => members.as_slice(),
        _ => &[],
    };
    members.iter()
}

/// Reads a file; the error lists all its problems.
pub fn read(args: &SpecFile, scope: Scope) -> Result<Spec> {
    let path = &args.file;
    let file = path.display().to_string();
    let text = text_of(path)?;
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    match Reader::new(args, scope).read(&text, dir) {
        (Some(spec), problems) if problems.iter().all(|p| p.level == Level::Warn) => {
            let warnings = problems.iter().map(|p| p.render_bare(&file, &args.set)).collect();
            Ok(Spec { warnings, ..spec })
        }
        (_, problems) => Err(invalid(&file, &problems, &args.set)),
    }
}

struct Reader<'a> {
    args: &'a SpecFile,
    scope: Scope,
    schema: Value,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(args: &'a SpecFile, scope: Scope) -> Self {
        Self { args, scope, schema: schema(), problems: Vec::new() }
    }

    fn read(mut self, text: &str, dir: &Path) -> (Option<Spec>, Vec<Problem>) {
        let tree = match tree::parse(text) {
            Ok((tree, duplicates)) => {
                self.problems.extend(duplicates);
                tree
            }
            Err(problem) => return (None, vec![problem]),
        };
        if tree.node == Node::Null {
            return (
                None,
                vec![Problem::error(
                    Place { line: 1, column: 1 },
                    "",
                    "the file is empty; windlass init writes one",
                )],
            );
        }
        let mut spec = None;
        let mut judged = Vec::new();
        for (environment, effective) in self.effective(&tree) {
            let before = std::mem::take(&mut self.problems);
            spec = spec.or(self.judge(&effective, dir));
            judged.push((environment, std::mem::replace(&mut self.problems, before)));
        }
        let mut seen = self.problems;
        seen.extend(blame(&judged));
        seen.sort_by_key(|problem| (problem.at.line == 0, problem.at));
        (spec.filter(|_| broken_free(&seen)), seen)
    }

    /// The file as it will be used: with the environment and the overrides laid upon it.
    fn effective<'t>(&mut self, tree: &'t Tree) -> Vec<(Option<&'t Member>, Tree)> {
        let environments: Vec<&Member> = members_of(tree).collect();
        for member in &environments {
            if let Err(error) = Environment::new(&*member.key) {
                let path = format!("environments.{}", member.key);
                self.problems.push(Problem::error(member.at, &path, error.to_string()));
            }
        }
        let names: Vec<&str> = environments.iter().map(|m| m.key.as_str()).collect();
        let chosen: Vec<Option<&Member>> = match &self.args.env {
            Some(name) if environments.is_empty() && *name == Environment::default().as_str() => vec![None],
            Some(name) => match environments.iter().find(|m| m.key == *name) {
                Some(member) => vec![Some(*member)],
                None => {
                    let at = tree.get("environments").map_or(tree.at, |m| m.at);
                    let message = match near(name, names.iter().copied()) {
                        None if names.is_empty() => format!("--env {name}: the file has no environments"),
                        meant => {
                            let meant = meant.map(|meant| format!(", did you mean {meant:?}?"));
                            let meant = meant.unwrap_or_default();
                            format!("no environment {name:?}{meant}; there are: {}", names.join(", "))
                        }
                    };
                    self.problems.push(Problem::error(at, "environments", message));
                    vec![None]
                }
            },
            // Without a selector of its own the base is not meant to be used; its environments are.
            None if self.scope == Scope::Everything && !has_selector(tree) && !environments.is_empty() => {
                environments.iter().copied().map(Some).collect()
            }
            None if self.scope == Scope::Everything => {
                std::iter::once(None).chain(environments.iter().copied().map(Some)).collect()
            }
            None => vec![None],
        };
        let mut trees = Vec::new();
        for environment in chosen {
            let mut effective = tree.clone();
            if let Some(over) = environment.and_then(|member| member.value.get("rollout")) {
                if let Some(rollout) = effective.get_mut("rollout") {
                    batching::make_room(rollout, &over.value);
                }
                lay(&mut effective, &["rollout"], over.value.clone());
            }
            self.apply_set(&mut effective);
            trees.push((environment, effective));
        }
        trees
    }

    fn apply_set(&mut self, tree: &mut Tree) {
        for (i, flag) in self.args.set.iter().enumerate() {
            let at = Place { line: 0, column: i as u64 };
            let Some((key, value)) = flag.split_once('=') else {
                self.problems.push(Problem::error(
                    at,
                    "",
                    "expected key=value, as in strategy.max_parallel=2",
                ));
                continue;
            };
            let key = key.trim();
            let key = key.strip_prefix("rollout.").unwrap_or(key);
            if key.split('.').any(str::is_empty) {
                self.problems.push(Problem::error(
                    at,
                    "",
                    "expected a field of rollout, as in strategy.max_parallel=2",
                ));
                continue;
            }
            match tree::parse_value(value, at) {
                // A poisoned release is let off by name, and not by a flag of the next order.
                Ok(value) if key == POISON || key == "failure" && value.get("poison_after").is_some() => {
                    let path = format!("rollout.{POISON}");
                    self.problems.push(Problem::error(at, &path, NOT_BY_FLAG));
                }
                Ok(value) => {
                    let path: Vec<&str> = std::iter::once("rollout").chain(key.split('.')).collect();
                    // A flag replaces what it names, whole: adding to a list or map is not what `=` says.
                    tree.remove(&path.join("."));
                    lay(tree, &path, value);
                }
                Err(problem) => self.problems.push(Problem { path: format!("rollout.{key}"), ..problem }),
            }
        }
    }

    fn judge(&mut self, tree: &Tree, dir: &Path) -> Option<Spec> {
        let mut broken = shape::check(tree, &self.schema, &self.schema, "");
        let (sound, mut unsure) = sound_part(tree, &broken);
        let release = part::<ReleaseSpec>(&sound, "release");
        let rollout = part::<RolloutSpec>(&sound, "rollout");
        let app = tree.get("app").and_then(|m| AppName::new(m.value.to_json().as_str()?).ok());
        let mut findings: Vec<Finding> = app.as_ref().and_then(check::app).into_iter().collect();
        if let Some(Ok(release)) = &release {
            findings.extend(check::release(release));
            if self.scope != Scope::WithoutFiles {
                findings.extend(files::check(release, dir));
            }
        }
        if let Some(Ok(rollout)) = &rollout {
            findings.extend(check::rollout(rollout));
        }
        if let (Some(Ok(release)), Some(Ok(rollout))) = (&release, &rollout) {
            findings.extend(check::together(release, rollout));
        }
        // A rule that fails because a broken member was left out says nothing new.
        unsure.extend(broken.iter().map(|p| p.path.clone()));
        let derived = |f: &Finding| unsure.iter().any(|path| related(path, &f.path));
        findings.retain(|f| !derived(f));
        for (name, error) in [
            ("release", release.as_ref().and_then(|r| r.as_ref().err())),
            ("rollout", rollout.as_ref().and_then(|r| r.as_ref().err())),
        ] {
            // The shape was right and the type still refuses: say so rather than pass.
            if let (Some(message), false) = (error, broken.iter().any(|p| p.path.starts_with(name))) {
                broken.push(Problem::error(tree.locate(name), name, message.clone()));
            }
        }
        self.problems.extend(broken);
        self.problems.extend(findings.into_iter().map(|f| Problem {
            at: tree.locate(&f.path),
            level: f.level,
            path: f.path,
            message: f.message,
        }));
        let app = app?;
        if !broken_free(&self.problems) {
            return None;
        }
        let release = release?.ok()?;
        let environments = names_of(tree);
        let files = files::place(dir, &release.files);
        let environment =
            self.args.env.as_deref().map(Environment::new).transpose().ok()?.unwrap_or_default();
        let rollout = rollout?.ok()?;
        Some(Spec { app, release, rollout, files, warnings: Vec::new(), environments, environment })
    }
}

fn broken_free(problems: &[Problem]) -> bool {
    problems.iter().all(|p| p.level == Level::Warn)
}

/// The tree without its broken members, so that the rules can be checked on the rest. What had to go is replaced by
/// something harmless where the types demand it; the second value names what nothing can be said of any more.
fn sound_part(tree: &Tree, broken: &[Problem]) -> (Tree, Vec<String>) {
    let mut sound = tree.clone();
    let mut unsure = Vec::new();
    for problem in broken {
        let mut path = match problem.path.rsplit_once('.') {
            Some((parent, _)) if problem.is_missing() => parent,
            _ => problem.path.as_str(),
        };
        // A list without one of its entries is another list: it goes as a whole.
        let mut at = 0;
        for part in path.split('.') {
            if at > 0 && part.bytes().all(|b| b.is_ascii_digit()) {
                path = &path[..at - 1];
                break;
            }
            at += part.len() + 1;
        }
        if matches!(path, "release.runtime.kind" | "release.runtime.command") {
            path = "release.runtime";
        }
        if !matches!(path, "" | "release" | "rollout") {
            sound.remove(path);
            unsure.push(path.to_owned());
        }
    }
    let stand_ins = [
        ("release", "runtime", "{kind: static}", ["release.runtime", "release.probes"]),
        ("rollout", "targets", "{selector: a}", ["rollout.targets", "rollout.targets"]),
    ];
    for (part, key, value, doubtful) in stand_ins {
        let absent = sound.get(part).is_some_and(|m| m.value.get(key).is_none());
        if let (true, Ok(value)) = (absent, tree::parse_value(value, tree.at)) {
            lay(&mut sound, &[part, key], value);
            unsure.extend(doubtful.map(str::to_owned));
        }
    }
    (sound, unsure)
}

fn part<T: serde::de::DeserializeOwned>(tree: &Tree, name: &str) -> Option<Result<T, String>> {
    let member = tree.get(name)?;
    Some(serde_json::from_value(member.value.to_json()).map_err(|error| error.to_string()))
}

/// True when one path is the other, or lies inside it.
fn related(a: &str, b: &str) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    inside(a, b) || inside(b, a)
}

fn has_selector(tree: &Tree) -> bool {
    tree.get("rollout")
        .and_then(|m| m.value.get("targets"))
        .is_some_and(|m| m.value.get("selector").is_some())
}

/// Lays a value upon the tree at a path, making the maps on the way.
fn lay(tree: &mut Tree, path: &[&str], value: Tree) {
    let at = value.at;
    let over = path.iter().rev().fold(value, |value, key| Tree {
        at,
        node: Node::Map(vec![Member { key: (*key).to_owned(), at, value }]),
    });
    tree.overlay(over);
}

/// The field of the rollout that no flag sets.
const POISON: &str = "failure.poison_after";

const NOT_BY_FLAG: &str = "is the spec's alone; where a release was not to blame for its failure, let it be tried once more with \
    `windlass app parole APP VERSION --reason TEXT`";

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: &str = r#"apiVersion: windlass/v2
app: Shop
release:
  files: ./dist
  runtime:
    kind: proces
    command: [bin/shop]
  ports: { http: 80800 }
  probes:
    readines: { http: {path: /r, port: http} }
    liveness: { http: {path: /l, port: htp}, period: 5, timeout: 3x, period: 6s }
  hooks: { after_instal: [], before_install: [ { run: [bin/none], idempotent: maybe } ] }
  migrations: {}
  stop: { signal: SIGTREM, grace: 30 }
rollout:
  strategy:
    type: canary
    batches: [50%, 10%]
    max_parallel: 1
    max_unavailable: 0
  host: { confirm_timout: 180s }
  approval: {}
enviroments: {}
"#;

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("dist/bin")).unwrap();
        let program = dir.path().join("dist/bin/shop");
        crate::files::write_new(&program, b"#!/bin/sh\n", 0o755).unwrap();
        dir
    }

    fn problems(text: &str, env: Option<&str>, set: &[&str]) -> (Option<Spec>, String) {
        let dir = dir();
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        let args = SpecFile { file: "windlass.yaml".into(), env: env.map(str::to_owned), set: set.clone() };
        let (spec, problems) = Reader::new(&args, Scope::Everything).read(text, dir.path());
        let lines: Vec<String> = problems.iter().map(|p| p.render("windlass.yaml", &set)).collect();
        (spec, lines.join("\n").replace(&dir.path().display().to_string(), "DIR"))
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_line() {
        insta::assert_snapshot!(problems(MANY, None, &[]).1);
    }

    const GOOD: &str = r#"apiVersion: windlass/v1
app: shop
release:
  files: ./dist
  runtime: { kind: process, command: [bin/shop, "{port.http}"], env: { A: "1" } }
  ports: { http: 8080 }
  probes: { readiness: { tcp: { port: http } } }
rollout:
  targets: { selector: "env=dev" }
  strategy: { batches: [1, 100%] }
environments:
  production:
    rollout: { targets: { selector: "env=production" }, strategy: { pause_between: 5s } }
"#;

    #[test]
    fn environments_and_overrides_are_laid_upon_the_base() {
        let (spec, problems) =
            problems(GOOD, Some("production"), &["host.confirm_timeout=60s", "strategy.batches=[2, 100%]"]);
        assert_eq!(problems, "");
        let rollout = spec.unwrap().rollout;
        assert_eq!(rollout.targets.selector, "env=production");
        assert_eq!(rollout.strategy.pause_between.to_string(), "5s");
        assert_eq!(rollout.strategy.batches.unwrap().len(), 2);
        assert_eq!(rollout.host.confirm_timeout.to_string(), "1m");
    }

    #[test]
    fn bad_overrides_and_environments_are_named() {
        let (_, said) = problems(
            GOOD,
            Some("producton"),
            &["strategy.typ=rolling", "x", "strategy.max_unavailable=0", "host.permit_ttl=[1"],
        );
        insta::assert_snapshot!(said);
    }

    #[test]
    fn programs_must_be_in_the_directory() {
        let (_, said) = problems(&GOOD.replace("bin/shop", "bin/shap"), None, &[]);
        assert_eq!(said, "windlass.yaml:5:39: release.runtime.command.0: bin/shap is not in DIR/dist");
        let (_, said) = problems(&GOOD.replace("./dist", "./dost"), None, &[]);
        assert!(
            said.starts_with("windlass.yaml:4:10: release.files: cannot read DIR/dost: No such file"),
            "{said}"
        );
    }

    #[test]
    fn names_that_are_none_are_told_with_their_line() {
        let (_, said) = problems(&GOOD.replace("{ A: \"1\" }", "{ \"A=B\": \"1\" }"), None, &[]);
        assert!(said.starts_with("windlass.yaml:5:"), "{said}");
        assert!(said.contains("invalid name of an environment variable \"A=B\""), "{said}");
        let (_, said) = problems(&GOOD.replace("{ A: \"1\" }", "{ MAINPID: \"1\" }"), None, &[]);
        assert!(said.contains("release.runtime.env.MAINPID: is set by systemd"), "{said}");
        let (_, said) = problems(&GOOD.replace("app: shop", "app: x-"), None, &[]);
        assert!(said.starts_with("windlass.yaml:2:6: app: x- ends with a dash"), "{said}");
    }

    /// The example of design/SPEC.md without the lines marked (later).
    const EXAMPLE: &str = include_str!("examples/shop-api.yaml");

    fn example(env: Option<&str>, from: &str, to: &str) -> (Option<RolloutSpec>, Vec<String>) {
        let dir = dir();
        for program in ["shop-api", "prepare"] {
            crate::files::write_new(&dir.path().join("dist/bin").join(program), b"#!/bin/sh\n", 0o755)
                .unwrap();
        }
        let args = SpecFile { file: "windlass.yaml".into(), env: env.map(str::to_owned), set: Vec::new() };
        let text = EXAMPLE.replace(from, to);
        let (spec, problems) = Reader::new(&args, Scope::Everything).read(&text, dir.path());
        let errors = problems.iter().filter(|p| p.level == Level::Error);
        (spec.map(|spec| spec.rollout), errors.map(|p| p.render("windlass.yaml", &[])).collect())
    }

    #[test]
    fn all_at_once_in_an_environment_wins_over_the_batches_of_the_base() {
        let none: &[String] = &[];
        assert_eq!(example(None, "", "").1, none);
        let (staging, errors) = example(Some("staging"), "", "");
        assert_eq!(errors, none);
        let strategy = staging.unwrap().strategy;
        assert_eq!(strategy.batches, None);
        let (production, errors) = example(Some("production"), "", "");
        assert_eq!(errors, none);
        assert_eq!(production.unwrap().strategy.batches.map(|ramp| ramp.len()), Some(4));
    }

    #[test]
    fn an_environment_that_contradicts_itself_is_refused_at_its_own_line() {
        let both = "strategy: {type: all_at_once, batches: [1, 100%]}";
        let (_, errors) = example(Some("staging"), "strategy: {type: all_at_once}", both);
        let line = 1 + EXAMPLE.lines().position(|line| line.starts_with("  staging:")).unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(&format!("windlass.yaml:{line}:")), "{errors:?}");
        assert!(errors[0].contains("rollout.strategy.batches: all_at_once has one batch"), "{errors:?}");
    }

    #[test]
    fn problems_of_an_environment_name_it() {
        let lines = |text: &str| problems(text, None, &[]).1;
        // What it says itself, at its own line and column.
        let said = lines(&GOOD.replace("pause_between: 5s", "pause_betwen: 5s"));
        assert_eq!(
            said,
            "windlass.yaml:13:69: environments.production.rollout.strategy.pause_betwen: unknown key, did you mean \
             \"pause_between\"?"
        );
        let said = lines(&GOOD.replace("pause_between: 5s", "max_unavailable: 0"));
        assert!(
            said.starts_with(
                "windlass.yaml:13:86: environments.production.rollout.strategy.max_unavailable: "
            ),
            "{said}"
        );
        // What the base says, and does not go together with it.
        let base = GOOD.replace("batches: [1, 100%]", "batches: [1, 100%], progress_deadline: 11m");
        assert_eq!(lines(&base), "");
        let said = lines(&base.replace("pause_between: 5s", "healthy_deadline: 12m"));
        assert_eq!(
            said,
            "windlass.yaml:10:54: rollout.strategy.progress_deadline: must be longer than healthy_deadline (12m) (in environment \
             production)"
        );
        // Its name.
        let said = lines(&GOOD.replace("  production:", "  Pro duction:"));
        assert!(
            said.starts_with("windlass.yaml:12:3: environments.Pro duction: invalid environment name"),
            "{said}"
        );
    }

    #[test]
    fn a_file_without_environments_has_the_default_one() {
        let none = GOOD.split("environments:").next().unwrap();
        for (text, env, is) in [
            (none, None, "default"),
            (none, Some("default"), "default"),
            (GOOD, Some("production"), "production"),
        ] {
            let (spec, said) = problems(text, env, &[]);
            assert_eq!((said.as_str(), spec.unwrap().environment.as_str()), ("", is));
        }
        let (spec, said) = problems(none, Some("production"), &[]);
        assert!(spec.is_none() && said.ends_with("--env production: the file has no environments"), "{said}");
    }

    #[test]
    fn an_environment_may_bring_the_selector() {
        let base = GOOD.replace("  targets: { selector: \"env=dev\" }\n", "");
        let (spec, said) = problems(&base, None, &[]);
        assert_eq!((said.as_str(), spec.is_some()), ("", true));
    }

    #[test]
    fn odd_files_get_an_answer() {
        for (text, says) in [
            ("", "the file is empty"),
            ("- a\n- b\n", "expected a mapping, found a list"),
            ("a", "expected a mapping"),
            ("a: 1\n---\nb: 2\n", "not valid YAML"),
            ("a: &x [1]\nb: *y\n", "not valid YAML"),
            ("<<: {a: 1}\n", "not valid YAML"),
            ("app: !secret x\n", "rollout: is missing"),
            ("1: 2\n", "1: unknown key"),
            ("? [a]\n: b\n", "not valid YAML"),
        ] {
            let (spec, said) = problems(text, None, &[]);
            assert!(spec.is_none() && said.contains(says), "{text:?}: {said}");
        }
        let deep = format!("a: {}{}\n", "[".repeat(5000), "]".repeat(5000));
        assert!(problems(&deep, None, &[]).1.contains("not valid YAML"));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
        }
        assert!(problems(&bomb, None, &[]).1.contains("not valid YAML"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(300))]
        #[test]
        fn a_damaged_file_never_ends_the_program(at in 0usize..600, cut in 0usize..12, put in "[-a-z0-9:{}\\[\\],\" \n%&*!|>#']{0,6}") {
            let start = at.min(GOOD.len());
            let end = (start + cut).min(GOOD.len());
            let text = format!("{}{put}{}", &GOOD[..start], &GOOD[end..]);
            let (spec, said) = problems(&text, None, &[]);
            proptest::prop_assert!(spec.is_some() || !said.is_empty(), "{text}");
        }
    }
}
