//! Asking an app over HTTP, with nothing but a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);

/// An answer: status and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A member of a JSON body, as text.
    pub fn member(&self, name: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        let member = body.get(name)?;
        Some(member.as_str().map_or_else(|| member.to_string(), str::to_owned))
    }
}

/// GET; `None` while nobody answers.
pub fn get(address: &str, port: u16, path: &str) -> Option<Answer> {
    let to: SocketAddr = format!("{address}:{port}").parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: text.split_once("\r\n\r\n")?.1.to_owned() })
}

/// A port that is free on all the addresses that hosts of a fleet have.
pub fn free_port(hosts: u32) -> u16 {
    let bind = |host: u32, port: u16| std::net::TcpListener::bind((format!("127.0.1.{host}"), port));
    crate::wait::until("a free port", Duration::from_secs(10), || {
        let port = bind(1, 0).ok()?.local_addr().ok()?.port();
        (1..=hosts).all(|host| bind(host, port).is_ok()).then_some(port)
    })
}
