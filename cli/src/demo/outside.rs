//! The story's witnesses: the apps themselves over HTTP, and the CLI run as a user would.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::narrator::Narrator;
use crate::error::{ExpectedError, Result};

/// Longest that one command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// Longest that an app may take to answer.
const REQUEST: Duration = Duration::from_secs(2);

/// What an app says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u64,
}

/// Asks an app which version it is; `None` while it does not answer.
pub async fn ask(address: &str, port: u16) -> Option<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect((address, port)).await.ok()?;
        let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).await.ok()?;
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
        Some(Answer { version: body["version"].as_str()?.to_owned(), pid: body["pid"].as_u64()? })
    };
    tokio::time::timeout(REQUEST, exchange).await.ok()?
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its data.
    pub stdout: String,
}

/// The command line, in the demo's context.
#[derive(Debug, Clone)]
pub struct Windlass {
    /// The program.
    pub program: PathBuf,
    /// The demo fleet's configuration.
    pub config: PathBuf,
    /// Says what it says.
    pub narrator: Narrator,
}

impl Windlass {
    /// Runs a verb, quoting what it says as it says it.
    pub async fn run(&self, args: &[&str]) -> Result<Ended> {
        self.narrator.say(&format!("$ windlass {}", args.join(" ")));
        self.spawn(args, true).await
    }

    /// Runs a verb and quotes the beginning of its data.
    pub async fn run_briefly(&self, args: &[&str], lines: usize) -> Result<Ended> {
        self.narrator.say(&format!("$ windlass {}", args.join(" ")));
        let ended = self.spawn(args, false).await?;
        let all: Vec<&str> = ended.stdout.lines().collect();
        all.iter().take(lines).for_each(|line| self.narrator.quote(line));
        if all.len() > lines {
            self.narrator.quote(&format!("... and {} lines more", all.len() - lines));
        }
        Ok(ended)
    }

    /// Runs a verb that prints JSON, silently.
    pub async fn json(&self, args: &[&str]) -> Result<Value> {
        let ended = self.spawn(args, false).await?;
        serde_json::from_str(&ended.stdout).map_err(|error| {
            ExpectedError::failed(format!("windlass {} printed no JSON", args.join(" "))).because(error)
        })
    }

    async fn spawn(&self, args: &[&str], aloud: bool) -> Result<Ended> {
        let failed = |cause: &dyn std::fmt::Display| {
            ExpectedError::failed(format!("windlass {} did not run", args.join(" "))).cause(cause.to_string())
        };
        let mut child = tokio::process::Command::new(&self.program)
            .args(args)
            .env("WINDLASS_CONFIG", &self.config)
            .env_remove("WINDLASS_CONTEXT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(&"no pipes"));
        };
        let talk = async {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if aloud {
                    self.narrator.quote(&line);
                }
            }
        };
        let data = async {
            let mut text = String::new();
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if aloud {
                    self.narrator.quote(&line);
                }
                text.push_str(&line);
                text.push('\n');
            }
            text
        };
        let run = async { tokio::join!(talk, data, child.wait()) };
        let ((), stdout, status) = tokio::time::timeout(COMMAND, run)
            .await
            .map_err(|_| failed(&format!("no end within {} s", COMMAND.as_secs())))?;
        let status = status.map_err(|error| failed(&error))?;
        Ok(Ended { code: status.code().unwrap_or(-1), stdout })
    }
}

/// Puts this program into the release's directory: a hard link where that is possible, else a copy.
pub fn install_program(program: &Path, into: &Path) -> Result<()> {
    let failed = |error| ExpectedError::failed(format!("cannot write {}", into.display())).because(error);
    if let Some(parent) = into.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::hard_link(program, into).or_else(|_| std::fs::copy(program, into).map(drop)).map_err(failed)
}
