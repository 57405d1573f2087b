//! Rows as they come from the server. sqlx hands on each by itself, which costs more than all that is then done with it.
//! So where a connection is plain TCP, a COPY is asked for and read here, on the connection's own socket, while sqlx
//! waits for nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use rustix::io::Errno;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Cause, Session, sockets};

/// What is read at once, if so much is there.
const READ_BYTES: usize = 256 << 10;
/// The server sends 8 KiB at a time. To be woken for each costs more than to read them, so of a long answer this much is
/// waited for.
const GULP_BYTES: usize = 128 << 10;
/// An answer is long from here on.
const LONG_BYTES: usize = 1 << 20;
/// The end of a long answer may be less than a gulp: what is there is read after this time.
const GULP_TIME: Duration = Duration::from_millis(2);

/// The two ends of this session, unless it is encrypted. Without TCP there are none.
const ENDS: &str = "
    select pg_catalog.host(pg_catalog.inet_client_addr()), pg_catalog.inet_client_port(),
           pg_catalog.host(pg_catalog.inet_server_addr()), pg_catalog.inet_server_port()
    from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid() and not ssl";

/// The rows of one `COPY … TO STDOUT`. Who does not read them to their end may use the session for nothing else.
pub(crate) enum Rows<'a> {
    Wire(&'a mut Wire),
    Sqlx(BoxStream<'a, Result<Bytes, sqlx::Error>>),
}

impl<'a> Rows<'a> {
    pub(crate) async fn begin(session: &'a mut Session, sql: &str) -> Result<Self, Cause> {
        let Session { connection, wire, .. } = session;
        let wire = match wire {
            Some(wire) => wire,
            None => wire.insert(Wire::of(connection).await),
        };
        let Some(wire) = wire else { return Ok(Self::Sqlx(connection.copy_out_raw(sql).await?)) };
        // Reads what sqlx still waits for, if there is anything: as it does itself before its own COPY.
        connection.flush().await?;
        wire.ask(sql).await?;
        Ok(Self::Wire(wire))
    }

    /// Waits for more rows, and appends them or parts of them. At the end there are no more.
    pub(crate) async fn read(&mut self, rows: &mut BytesMut) -> Result<bool, Cause> {
        match self {
            Self::Wire(wire) => wire.read(rows).await,
            Self::Sqlx(stream) => {
                let row = stream.try_next().await?;
                rows.extend_from_slice(row.as_deref().unwrap_or_default());
                Ok(row.is_some())
            }
        }
    }
}

/// The socket of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    answer: Answer,
    /// Bytes of this answer so far.
    bytes: usize,
    /// It is long: who waits for the socket sleeps until a gulp is there.
    gulps: bool,
}

impl Wire {
    /// That of this connection, if it is plain and both ends see the same addresses, so that nothing stands between.
    async fn of(connection: &mut PgConnection) -> Option<Self> {
        type Ends = (Option<String>, Option<i32>, Option<String>, Option<i32>);
        let ends = sqlx::query_as::<_, Ends>(ENDS).persistent(false).fetch_optional(connection).await;
        let (client, client_port, server, server_port) = ends.ok()??;
        let (client, server) = (address(&client?, client_port?)?, address(&server?, server_port?)?);
        let is_ours = |socket: &std::net::TcpStream| {
            socket.local_addr().is_ok_and(|local| local == client)
                && socket.peer_addr().is_ok_and(|peer| peer == server)
        };
        let socket = sockets::open().into_iter().find(is_ours)?;
        let socket = TcpStream::from_std(socket).ok()?;
        Some(Self { socket, answer: Answer::default(), bytes: 0, gulps: false })
    }

    async fn ask(&mut self, sql: &str) -> io::Result<()> {
        (self.answer, self.bytes) = (Answer::default(), 0);
        let length = u32::try_from(4 + sql.len() + 1).map_err(io::Error::other)?;
        self.socket.write_all(&[b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat()).await
    }

    async fn read(&mut self, rows: &mut BytesMut) -> Result<bool, Cause> {
        self.answer.received.reserve(READ_BYTES);
        let bytes = self.receive().await?;
        if bytes == 0 {
            let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection");
            return Err(self.answer.refusal.take().unwrap_or_else(|| closed.into()));
        }
        self.bytes += bytes;
        let more = self.answer.take_apart(rows);
        // Whoever uses the session next waits for less.
        self.gulp(matches!(more, Ok(true)) && self.bytes >= LONG_BYTES);
        more
    }

    async fn receive(&mut self) -> io::Result<usize> {
        if !self.gulps {
            return self.socket.read_buf(&mut self.answer.received).await;
        }
        loop {
            match self.socket.try_read_buf(&mut self.answer.received) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if let Ok(ready) = timeout(GULP_TIME, self.socket.readable()).await {
                ready?;
                continue;
            }
            // Nobody says so when there is less than a gulp.
            let received = &mut self.answer.received;
            let before = received.len();
            received.resize(before + GULP_BYTES, 0);
            let read = rustix::io::read(&self.socket, &mut received[before..]);
            received.truncate(before + read.unwrap_or_default());
            if read != Err(Errno::AGAIN) {
                return Ok(read?);
            }
        }
    }

    fn gulp(&mut self, gulps: bool) {
        if self.gulps != gulps {
            self.gulps = gulps;
            sockets::wake_at(&self.socket, if gulps { GULP_BYTES } else { 1 });
        }
    }
}

/// What the server sends from a COPY on until it waits for the next statement.
#[derive(Debug, Default)]
struct Answer {
    /// What was not taken apart yet: the head of a message.
    received: BytesMut,
    /// Bytes that are still to come of the row that is being received.
    row_left: usize,
    refusal: Option<Cause>,
    /// The server waits.
    ready: bool,
}

impl Answer {
    /// Appends the rows, or parts of them, among what was received. Says whether more is to come.
    fn take_apart(&mut self, rows: &mut BytesMut) -> Result<bool, Cause> {
        let mut rest = &self.received[..];
        loop {
            let (row, after) = rest.split_at(self.row_left.min(rest.len()));
            rows.extend_from_slice(row);
            self.row_left -= row.len();
            rest = after;
            let Some((&[kind, ref length @ ..], after)) = rest.split_first_chunk::<5>() else { break };
            // It counts itself.
            let length = u32::from_be_bytes(*length).checked_sub(4).ok_or_else(|| broken(kind))? as usize;
            if kind == b'd' {
                self.row_left = length;
                rest = after;
                continue;
            }
            let Some((body, after)) = after.split_at_checked(length) else { break };
            rest = after;
            match kind {
                b'E' => self.refusal = Some(refusal(body)),
                b'Z' => self.ready = true,
                // It begins or ends to send rows, or says something that nobody asked for.
                b'H' | b'c' | b'C' | b'N' | b'S' | b'A' => {}
                _ => return Err(broken(kind)),
            }
        }
        let taken = self.received.len() - rest.len();
        self.received.advance(taken);
        // What came right behind is read to its end, or sqlx would find its second half.
        if !self.ready || !self.received.is_empty() {
            return Ok(true);
        }
        self.refusal.take().map_or(Ok(false), Err)
    }
}

fn address(host: &str, port: i32) -> Option<SocketAddr> {
    Some(SocketAddr::new(host.parse().ok()?, u16::try_from(port).ok()?))
}

/// Fields follow each other: a letter, and text that ends with a zero.
fn refusal(body: &[u8]) -> Cause {
    let field = |letter| {
        let field = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[letter]));
        String::from_utf8_lossy(field.unwrap_or_default()).into_owned()
    };
    Cause::Said { message: field(b'M'), code: field(b'C'), context: field(b'W') }
}

fn broken(kind: u8) -> Cause {
    let why = format!("the server sent a message of kind {} among rows", kind.escape_ascii());
    io::Error::new(io::ErrorKind::InvalidData, why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn an_answer_is_the_same_wherever_it_is_cut() {
        let asked = [message(b'H', b"\0\0\0"), message(b'd', b"1\tone\n"), message(b'd', b"")].concat();
        let told = [message(b'S', b"TimeZone\0UTC\0"), message(b'd', b"2\ttwo\n"), message(b'c', b"")].concat();
        let ended = [message(b'C', b"COPY 2\0"), message(b'Z', b"I"), message(b'N', b"SWARNING\0\0")].concat();
        let all = [asked, told, ended].concat();
        for cut in 0..all.len() {
            let (mut answer, mut rows) = (Answer::default(), BytesMut::new());
            answer.received.extend_from_slice(&all[..cut]);
            let more = answer.take_apart(&mut rows).unwrap();
            let whole = cut == all.len() - message(b'N', b"SWARNING\0\0").len();
            assert_eq!(more, !whole, "cut at {cut}");
            answer.received.extend_from_slice(&all[cut..]);
            assert!(!answer.take_apart(&mut rows).unwrap(), "cut at {cut}");
            assert_eq!(rows, "1\tone\n2\ttwo\n", "cut at {cut}");
        }
    }

    #[test]
    fn a_refusal_is_said_once_the_server_waits_again() {
        let (mut answer, mut rows) = (Answer::default(), BytesMut::new());
        answer.received.extend_from_slice(&message(b'E', b"SERROR\0C22012\0Mdivision by zero\0\0"));
        assert!(answer.take_apart(&mut rows).unwrap());
        answer.received.extend_from_slice(&message(b'Z', b"E"));
        assert_eq!(answer.take_apart(&mut rows).unwrap_err().to_string(), "division by zero (22012)");
        answer.received.extend_from_slice(&message(b'R', b"no answer to a COPY"));
        assert!(answer.take_apart(&mut rows).is_err());
    }
}
