//! A wire between the command and its server that counts the statements which change something, and lets
//! something happen at one of them: the command is killed or told to stop, the server or the repository is gone.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Requests for encryption that come before the startup packet, and the request to cancel.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What only reads, or pins a session's settings.
const READING: [&str; 5] = ["set", "select", "show", "with", "rollback"];

/// At which statement something happens.
#[derive(Debug, Clone)]
pub enum At {
    /// The one of this number, counted from zero.
    Number(usize),
    /// The first whose text begins so, in lower case.
    Text(&'static str),
}

/// Whether the server was given the statement before it happens, and has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

type Event = Box<dyn FnOnce(u32) + Send>;

#[derive(Default)]
struct State {
    statements: Vec<String>,
    laid: Option<(At, When, Event)>,
    happened: bool,
    /// The process whose statements are counted.
    process: Option<u32>,
}

struct Shared {
    server: u16,
    state: Mutex<State>,
    started: Condvar,
}

/// Listens on 127.0.0.1 and hands everything on.
pub struct Wire {
    port: u16,
    shared: Arc<Shared>,
}

impl Wire {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("the port that was bound").port();
        let shared = Arc::new(Shared { server, state: Mutex::default(), started: Condvar::new() });
        let accepting = Arc::clone(&shared);
        // It ends with the test's process: whoever is accepted goes on for as long as its connection.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || Line::carry(client, &shared));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Begins to count anew. `event` is told the number of the process.
    pub fn lay(&self, at: At, when: When, event: impl FnOnce(u32) + Send + 'static) {
        *self.shared.state() = State { laid: Some((at, when, Box::new(event))), ..State::default() };
    }

    /// Counts and lets nothing happen.
    pub fn only_count(&self) {
        *self.shared.state() = State { process: Some(0), ..State::default() };
    }

    /// Says whose statements are to come. Until it is said, nothing happens.
    pub fn is_of(&self, run: &Child) {
        self.shared.state().process = Some(run.id());
        self.shared.started.notify_all();
    }

    /// What was counted.
    pub fn statements(&self) -> Vec<String> {
        self.shared.state().statements.clone()
    }

    /// What has not happened does not happen any more.
    pub fn rest(&self) {
        self.shared.state().laid = None;
    }

    /// Whether what was laid has happened.
    pub fn has_happened(&self) -> bool {
        self.shared.state().happened
    }
}

/// Sends a signal to a process of the test's own.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().expect("kill");
    assert!(sent.success(), "{name} cannot be sent");
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a statement, and takes out what is to happen at it.
    fn count(&self, text: &str) -> Option<(When, Event, u32)> {
        let mut state = self.state();
        let number = state.statements.len();
        state.statements.push(text.to_owned());
        let here = match &state.laid {
            Some((At::Number(at), ..)) => *at == number,
            Some((At::Text(begin), ..)) => text.to_lowercase().starts_with(begin),
            None => false,
        };
        let (_, when, event) = if here { state.laid.take()? } else { return None };
        state.happened = true;
        while state.process.is_none() {
            state = self.started.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.process.map(|process| (when, event, process))
    }
}

/// One connection.
struct Line {
    client: TcpStream,
    server: TcpStream,
    /// Whether the client is the command itself, and none of the tools it runs.
    counted: bool,
    /// The text of the statement that was last prepared.
    prepared: String,
    /// What happens once the server answers.
    later: Arc<Mutex<Option<(Event, u32)>>>,
}

impl Line {
    /// Carries until one side is gone; then both are.
    fn carry(client: TcpStream, shared: &Arc<Shared>) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server)) else { return };
        // Small messages one after another: held back until the one before is acknowledged, each costs 40 ms.
        let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let later = Arc::new(Mutex::new(None));
        let (Ok(answers), Ok(back)) = (server.try_clone(), client.try_clone()) else { return };
        let on_answer = Arc::clone(&later);
        let answering = thread::spawn(move || answer(answers, back, &on_answer));
        let mut line = Self { client, server, counted: false, prepared: String::new(), later };
        // Who hangs up is no failure of the wire.
        let _ = line.begin().and_then(|()| line.go_on(shared));
        let _ = line.server.shutdown(Shutdown::Both);
        let _ = line.client.shutdown(Shutdown::Both);
        let _ = answering.join();
    }

    fn begin(&mut self) -> std::io::Result<()> {
        loop {
            let packet = body(&mut self.client)?;
            let code = packet.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            self.counted = String::from_utf8_lossy(&packet).contains("application_name\0backstay ");
            let length = u32::try_from(packet.len() + 4).unwrap_or_default();
            self.server.write_all(&length.to_be_bytes())?;
            self.server.write_all(&packet)?;
            if !matches!(code, SSL_REQUEST | GSS_REQUEST) {
                return Ok(());
            }
        }
    }

    fn go_on(&mut self, shared: &Shared) -> std::io::Result<()> {
        loop {
            let mut kind = [0];
            self.client.read_exact(&mut kind)?;
            let message = body(&mut self.client)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches('\0').trim().to_owned();
            let statement = match kind[0] {
                b'Q' => Some(text(&message)),
                b'P' => {
                    let mut fields = message.split(|byte| *byte == 0).skip(1);
                    self.prepared = text(fields.next().unwrap_or_default());
                    None
                }
                b'E' => Some(self.prepared.clone()),
                b'c' => Some("end of copy".to_owned()),
                _ => None,
            };
            let happens = match statement.filter(|text| self.counted && changes(text)) {
                Some(text) => shared.count(&text),
                None => None,
            };
            match happens {
                Some((When::Before, event, process)) => event(process),
                Some((When::After, event, process)) => {
                    *self.later.lock().unwrap_or_else(PoisonError::into_inner) = Some((event, process));
                }
                None => {}
            }
            let length = u32::try_from(message.len() + 4).unwrap_or_default();
            let mut whole = vec![kind[0]];
            whole.extend(length.to_be_bytes());
            whole.extend(message);
            self.server.write_all(&whole)?;
        }
    }
}

fn answer(mut server: TcpStream, mut client: TcpStream, later: &Mutex<Option<(Event, u32)>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        let happens = later.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((event, process)) = happens {
            event(process);
        }
        if client.write_all(buffer.get(..count).unwrap_or_default()).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// The rest of a message, after its length.
fn body(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX).saturating_sub(4);
    if length > MESSAGE_BYTES_MAX {
        return Err(std::io::Error::other("a message too long to be one"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn changes(statement: &str) -> bool {
    let first = statement.split_whitespace().next().unwrap_or_default().to_lowercase();
    !first.is_empty() && !READING.contains(&first.as_str())
}
