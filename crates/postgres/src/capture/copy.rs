use backstay_repository::{SnapshotWriter, StreamWriter};
use bytes::BytesMut;

use crate::wire::Rows;
use crate::{Error, RowSum, Session};

/// Rows are handed on in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;

/// Where copied rows go.
pub(crate) enum Sink {
    Stream {
        writer: Box<StreamWriter>,
        subject: String,
    },
    /// Only counted and fingerprinted.
    Nowhere,
}

impl Sink {
    pub(crate) fn stream(writer: &SnapshotWriter, subject: &str) -> Self {
        Self::Stream { writer: Box::new(writer.stream()), subject: subject.to_owned() }
    }

    /// Takes what was gathered, and leaves room for as much.
    async fn take(&mut self, piece: &mut BytesMut) -> Result<(), Error> {
        let Self::Stream { writer, subject } = self else {
            piece.clear();
            return Ok(());
        };
        let taken = piece.split().freeze();
        piece.reserve(taken.len());
        writer.push(taken).await.map_err(|source| Error::Store { subject: subject.clone(), source })
    }

    pub(crate) async fn finish(self) -> Result<Option<backstay_model::Root>, Error> {
        match self {
            Self::Stream { writer, subject } => {
                writer.finish().await.map(Some).map_err(|source| Error::Store { subject, source })
            }
            Self::Nowhere => Ok(None),
        }
    }
}

/// Runs a `COPY … TO STDOUT` in text format into `sink`, adding what passes to `sum`. `moved` hears how much passed
/// since it heard last.
pub(crate) async fn copy_out(
    session: &mut Session,
    table: &str,
    sql: &str,
    sink: &mut Sink,
    sum: &mut RowSum,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Error> {
    let failed = &Error::copying(table, &session.database);
    let mut rows = Rows::begin(session, sql).await.map_err(failed)?;
    let mut piece = BytesMut::new();
    let mut more = true;
    while more {
        more = rows.read(&mut piece).await.map_err(failed)?;
        if piece.len() >= PIECE_BYTES || !more && !piece.is_empty() {
            sum.push(&piece);
            moved(piece.len() as u64);
            sink.take(&mut piece).await?;
        }
    }
    if sum.is_whole() {
        Ok(())
    } else {
        let why = "its last line has no end".to_owned();
        Err(Error::Malformed { subject: format!("what COPY sent of {table}"), why })
    }
}
