//! The wire between agents and a coordinator: a TCP proxy that can be cut, held, thinned out and made deaf, in each
//! direction by itself. Needs no root.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a connection looks at what it is told to be.
const LOOK: Duration = Duration::from_millis(20);

/// What becomes of bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    Pass,
    /// They are taken and lost, and the sender is told nothing: a half-open connection.
    Lose,
    /// They arrive at so many bytes a second.
    Slow(usize),
}

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    up: Flow,
    down: Flow,
    /// Connections of an earlier count are closed.
    cuts: u64,
    /// New ones are closed at once.
    refuses: bool,
    ends: bool,
}

/// A proxy before one coordinator.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Wire {
    /// A wire to `target`, as `host:port`.
    pub fn to(target: &str) -> Self {
        Self::at("127.0.0.1", target)
    }

    /// The same, reached at this address of the machine.
    pub fn at(address: &str, target: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let whole = State { up: Flow::Pass, down: Flow::Pass, cuts: 0, refuses: false, ends: false };
        let state = Arc::new(Mutex::new(whole));
        let (target, shared) = (target.to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let now = read(&shared);
                if now.ends {
                    return;
                }
                if !now.refuses {
                    carry(near, &target, &shared);
                }
            }
        });
        Self { address, state }
    }

    /// A wire that takes connections and never says anything on them.
    pub fn deaf() -> Self {
        // Port 9 is nobody's: nothing is ever asked of it, for nothing arrives.
        let wire = Self::to("127.0.0.1:9");
        wire.lose_all();
        wire
    }

    /// `host:port` to dial.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What agents send.
    pub fn up(&self, flow: Flow) {
        self.change(|state| state.up = flow);
    }

    /// What the coordinator sends.
    pub fn down(&self, flow: Flow) {
        self.change(|state| state.down = flow);
    }

    /// Closes all connections and takes no new ones.
    pub fn cut(&self) {
        self.change(|state| {
            state.cuts += 1;
            state.refuses = true;
        });
    }

    /// Closes all connections, and takes new ones.
    pub fn reset(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Nothing gets through and nobody is told.
    pub fn lose_all(&self) {
        self.change(|state| (state.up, state.down) = (Flow::Lose, Flow::Lose));
    }

    /// A whole wire again. Connections that have lost bytes are closed.
    pub fn mend(&self) {
        self.change(|state| {
            let cuts = state.cuts + u64::from(state.up != Flow::Pass || state.down != Flow::Pass);
            *state = State { up: Flow::Pass, down: Flow::Pass, cuts, refuses: false, ends: false };
        });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.change(|state| {
            state.cuts += 1;
            state.ends = true;
        });
        // Wakes the listener, which sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

fn read(state: &Mutex<State>) -> State {
    *state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry(near: TcpStream, target: &str, state: &Arc<Mutex<State>>) {
    let born = read(state).cuts;
    let far = TcpStream::connect(target).ok();
    for way in [Way::Up, Way::Down] {
        let (from, to) = match way {
            Way::Up => (near.try_clone().ok(), far.as_ref().and_then(|far| far.try_clone().ok())),
            Way::Down => (far.as_ref().and_then(|far| far.try_clone().ok()), near.try_clone().ok()),
        };
        let state = Arc::clone(state);
        std::thread::spawn(move || pump(from, to, way, born, &state));
    }
}

/// Carries one direction until a side ends or the wire is cut.
fn pump(from: Option<TcpStream>, to: Option<TcpStream>, way: Way, born: u64, state: &Mutex<State>) {
    if let Some(from) = &from {
        let _ = from.set_read_timeout(Some(LOOK));
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let now = read(state);
        if now.cuts != born {
            break;
        }
        let flow = match way {
            Way::Up => now.up,
            Way::Down => now.down,
        };
        let Some(mut source) = from.as_ref() else {
            std::thread::park_timeout(LOOK);
            continue;
        };
        let most = match flow {
            Flow::Slow(rate) => (rate / 50).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let got = match source.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                continue;
            }
            Err(_) => break,
        };
        if flow == Flow::Lose {
            continue;
        }
        if to.as_ref().is_some_and(|mut to| to.write_all(&buffer[..got]).is_err()) {
            break;
        }
        if matches!(flow, Flow::Slow(_)) {
            std::thread::park_timeout(LOOK);
        }
    }
    for stream in [from, to].into_iter().flatten() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
