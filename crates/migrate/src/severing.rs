//! A proxy that cuts the connection of a run at its n-th message, before the server gets it or after
//! the server has answered it: what a lost network or a killed process looks like, at a known place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server never gets the message.
    Before,
    /// The server answers it, and the client never hears.
    After,
}

pub(crate) struct Severing {
    pub(crate) address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Severing {
    /// Cuts the first session of a run where `chosen`, given the number and text of each query, says so.
    pub(crate) async fn start(
        port: u16,
        moment: Moment,
        chosen: impl Fn(usize, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let chosen = Arc::new(chosen);
        let shared = cut.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
                tokio::spawn(pass(client, server, moment, chosen.clone(), shared.clone()));
            }
        });
        Self { address, cut }
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    moment: Moment,
    chosen: Arc<impl Fn(usize, &str) -> bool>,
    cut: Arc<AtomicBool>,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mute, muted) = watch::channel(false);
    let answers = tokio::spawn(answer(from_server, to_client, muted));
    forward(from_client, to_server, moment, chosen, cut, mute).await;
    // Both directions end together: the server sees its client go.
    answers.abort();
}

/// Passes the server's words on, until it is told to keep them; ends when the muted answer is whole.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, muted: watch::Receiver<bool>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || (!*muted.borrow() && to.write_all(&buffer[..length]).await.is_err()) {
            return;
        }
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    moment: Moment,
    chosen: Arc<impl Fn(usize, &str) -> bool>,
    cut: Arc<AtomicBool>,
    mute: watch::Sender<bool>,
) {
    let Some(startup) = message(&mut from, false).await else { return };
    let of_a_run = String::from_utf8_lossy(&startup).contains(crate::session::PURPOSE);
    if to.write_all(&startup).await.is_err() {
        return;
    }
    let mut number = 0;
    while let Some(bytes) = message(&mut from, true).await {
        let is_query = matches!(bytes[0], b'Q' | b'P');
        if of_a_run && is_query && !cut.load(Ordering::SeqCst) {
            number += 1;
            let text = String::from_utf8_lossy(&bytes[5..]).into_owned();
            if chosen(number, text.trim_matches('\0')) {
                cut.store(true, Ordering::SeqCst);
                if moment == Moment::After {
                    mute.send_replace(true);
                    let _ = to.write_all(&bytes).await;
                    // The server reads a goodbye only when it is done with what came before.
                    let _ = to.write_all(&[b'X', 0, 0, 0, 4]).await;
                    mute.closed().await;
                }
                return;
            }
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn message(from: &mut OwnedReadHalf, typed: bool) -> Option<Vec<u8>> {
    let head = if typed { 5 } else { 4 };
    let mut bytes = vec![0; head];
    from.read_exact(&mut bytes).await.ok()?;
    let length = u32::from_be_bytes(bytes[head - 4..].try_into().unwrap()) as usize;
    bytes.resize(head - 4 + length, 0);
    from.read_exact(&mut bytes[head..]).await.ok()?;
    Some(bytes)
}
