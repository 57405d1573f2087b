//! Bridges between the streams of the repository and code that reads and writes files.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc::{Receiver, Sender};

const PIECE: usize = 256 << 10;

/// What is written goes to the other end in pieces. Not for use on the runtime's own threads.
pub(crate) struct Outlet {
    sender: Sender<Bytes>,
    piece: BytesMut,
}

impl Outlet {
    pub(crate) fn new(sender: Sender<Bytes>) -> Self {
        Self { sender, piece: BytesMut::with_capacity(PIECE) }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Outlet {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(buffer);
        if self.piece.len() >= PIECE {
            self.send()?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// What the other end sent, as a reader. An end without a word of how it went is an error.
pub(crate) struct Inlet {
    receiver: Receiver<Option<Bytes>>,
    piece: Bytes,
    is_whole: bool,
}

impl Inlet {
    pub(crate) fn new(receiver: Receiver<Option<Bytes>>) -> Self {
        Self { receiver, piece: Bytes::new(), is_whole: false }
    }
}

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_whole {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.is_whole = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
