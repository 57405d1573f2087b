//! Rows as they come from the server. sqlx hands on each by itself, which costs more than all that is then done with it.
//! So where a connection is plain TCP, a COPY is asked for and read here, on the connection's own socket, while sqlx
//! waits for nothing.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Cause, Session, sockets};

/// What is read at once, if so much is there.
const READ_BYTES: usize = 256 << 10;

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
        // Afterwards no answer is on its way that sqlx waits for.
        connection.ping().await?;
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
    /// What was received and not looked at yet.
    inbox: BytesMut,
    /// Bytes that are still to come of the row that is being received.
    row_left: usize,
    refusal: Option<Cause>,
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
        Some(Self { socket, inbox: BytesMut::new(), row_left: 0, refusal: None })
    }

    async fn ask(&mut self, sql: &str) -> io::Result<()> {
        let length = u32::try_from(4 + sql.len() + 1).map_err(io::Error::other)?;
        self.socket.write_all(&[b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat()).await
    }

    async fn read(&mut self, rows: &mut BytesMut) -> Result<bool, Cause> {
        self.inbox.reserve(READ_BYTES);
        if self.socket.read_buf(&mut self.inbox).await? == 0 {
            let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection");
            return Err(self.refusal.take().unwrap_or_else(|| closed.into()));
        }
        let ready = self.sort(rows)?;
        // Something that came right behind is read to its end, or sqlx would find its second half.
        if !ready || !self.inbox.is_empty() {
            return Ok(true);
        }
        self.refusal.take().map_or(Ok(false), Err)
    }

    /// Takes what was received apart, as far as it is whole. Says whether the server is done.
    fn sort(&mut self, rows: &mut BytesMut) -> Result<bool, Cause> {
        let mut rest = &self.inbox[..];
        let mut ready = false;
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
                b'Z' => ready = true,
                // It begins or ends to send rows, or says something that nobody asked for.
                b'H' | b'c' | b'C' | b'N' | b'S' | b'A' => {}
                _ => return Err(broken(kind)),
            }
        }
        let sorted = self.inbox.len() - rest.len();
        self.inbox.advance(sorted);
        Ok(ready)
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
