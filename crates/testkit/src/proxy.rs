use std::collections::BTreeMap;
use std::future::pending;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What a [`Proxy`] does to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// It is answered with this status, and does not reach the server.
    Answers(u16),
    /// The connection is cut, and nothing reaches the server.
    Cuts,
    /// The server does what it is asked, and the answer is cut.
    LosesReply,
    /// Half of the answer comes, and then the connection is cut.
    CutsReply,
    /// Half of the answer comes, and then nothing more.
    Stalls,
}

/// Stands between an HTTP client and a server, adds latency and does harm where it is told to. It
/// forwards one request for each connection.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
    running: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    latency: Duration,
    requests: u64,
    planned: BTreeMap<u64, Meddling>,
    /// From this request on the server is gone.
    gone_from: Option<u64>,
    at_once: u64,
    most_at_once: u64,
    /// So many have to be under way at the same time before any write below this path goes on.
    gathered: Option<(u64, &'static str)>,
    lines: Vec<String>,
}

impl Proxy {
    /// In front of the server at `upstream`, an address with a port.
    pub async fn before(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let state = Arc::new(Mutex::new(State::default()));
        let running = tokio::spawn(accept(listener, upstream, Arc::clone(&state)));
        Self { port, state, running }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Holds every request back for so long.
    pub fn delay(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Counts requests from zero again, and lets request number `request` go wrong.
    pub fn meddle(&self, request: u64, meddling: Meddling) {
        self.behave();
        self.state().planned = BTreeMap::from([(request, meddling)]);
    }

    /// Counts requests from zero again, and cuts every one from number `request` on.
    pub fn die_at(&self, request: u64) {
        self.behave();
        self.state().gone_from = Some(request);
    }

    /// Counts requests from zero again, and lets all go right.
    pub fn behave(&self) {
        let mut state = self.state();
        *state = State { latency: state.latency, ..State::default() };
    }

    /// Holds back what is written below `path` until so many requests are under way at the same time.
    pub fn gather(&self, at_once: u64, path: &'static str) {
        self.state().gathered = Some((at_once, path));
    }

    /// Requests since the count began.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// The most requests that were under way at the same time since the count began.
    pub fn most_at_once(&self) -> u64 {
        self.state().most_at_once
    }

    /// The first line of each request since the count began.
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, upstream: String, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (upstream, state) = (upstream.clone(), Arc::clone(&state));
        connections.spawn(async move { drop(forward(client, &upstream, &state).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut client: TcpStream, upstream: &str, state: &Mutex<State>) -> Result<()> {
    let request = read_request(&mut client).await?;
    let (latency, meddling) = {
        let mut state = locked(state);
        let number = state.requests;
        state.requests += 1;
        let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        state.lines.push(line);
        state.at_once += 1;
        state.most_at_once = state.most_at_once.max(state.at_once);
        let gone = state.gone_from.is_some_and(|from| number >= from);
        (state.latency, if gone { Some(Meddling::Cuts) } else { state.planned.get(&number).copied() })
    };
    let _under_way = UnderWay(state);
    tokio::time::sleep(latency).await;
    while must_wait(&request, state) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    match meddling {
        Some(Meddling::Cuts) => return Ok(()),
        Some(Meddling::Answers(status)) => {
            let answer = format!("HTTP/1.1 {status} Meddled\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return client.write_all(answer.as_bytes()).await;
        }
        _ => {}
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    match meddling {
        Some(Meddling::LosesReply) => Ok(()),
        Some(Meddling::CutsReply) => client.write_all(&answer[..answer.len() / 2]).await,
        Some(Meddling::Stalls) => {
            client.write_all(&answer[..answer.len() / 2]).await?;
            pending().await
        }
        _ => {
            client.write_all(&answer).await?;
            client.shutdown().await
        }
    }
}

fn must_wait(request: &[u8], state: &Mutex<State>) -> bool {
    let state = locked(state);
    state.gathered.is_some_and(|(at_once, path)| {
        let line = String::from_utf8_lossy(request);
        state.most_at_once < at_once
            && line.lines().next().is_some_and(|line| line.starts_with("PUT") && line.contains(path))
    })
}

struct UnderWay<'a>(&'a Mutex<State>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = locked(self.0);
        state.at_once = state.at_once.saturating_sub(1);
    }
}

/// One whole request, changed so that the server closes the connection after its answer.
async fn read_request(client: &mut TcpStream) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    let head = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut request).await? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
    };
    let body = request.split_off(head + 4);
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let named = |line: &str, name: &str| line.to_ascii_lowercase().starts_with(name);
    let length = text.lines().find(|line| named(line, "content-length:"));
    let length: usize = length.and_then(|line| line.split_once(':')?.1.trim().parse().ok()).unwrap_or(0);
    if text.lines().any(|line| named(line, "expect:")) {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let mut whole = Vec::new();
    for line in text.lines().filter(|line| !named(line, "expect:") && !named(line, "connection:")) {
        whole.extend_from_slice(line.as_bytes());
        whole.extend_from_slice(b"\r\n");
    }
    whole.extend_from_slice(b"connection: close\r\n\r\n");
    let start = whole.len();
    whole.extend_from_slice(&body);
    while whole.len() < start + length {
        if client.read_buf(&mut whole).await? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
    }
    Ok(whole)
}
