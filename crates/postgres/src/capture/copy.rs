use backstay_repository::{SnapshotWriter, StreamWriter};
use bytes::BytesMut;
use futures_util::TryStreamExt;

use crate::{Error, RowSum, Session};

/// Rows are handed on in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;

/// Where copied rows go.
pub(crate) enum Sink {
    Stream {
        writer: Box<StreamWriter>,
        subject: String,
        /// What was not handed on yet.
        piece: BytesMut,
    },
    /// Only counted and fingerprinted.
    Nowhere,
}

impl Sink {
    pub(crate) fn stream(writer: &SnapshotWriter, subject: &str) -> Self {
        Self::Stream { writer: Box::new(writer.stream()), subject: subject.to_owned(), piece: BytesMut::new() }
    }

    fn gather(&mut self, row: &[u8]) {
        if let Self::Stream { piece, .. } = self {
            piece.extend_from_slice(row);
        }
    }

    /// Hands on what was gathered.
    async fn hand_on(&mut self) -> Result<(), Error> {
        let Self::Stream { writer, subject, piece } = self else { return Ok(()) };
        let gathered = piece.split().freeze();
        // The next one is as large, if there is one.
        piece.reserve(gathered.len());
        writer.push(gathered).await.map_err(|source| Error::Store { subject: subject.clone(), source })
    }

    pub(crate) async fn finish(self) -> Result<Option<backstay_model::Root>, Error> {
        match self {
            Self::Stream { writer, subject, .. } => {
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
    let mut rows = session.connection.copy_out_raw(sql).await.map_err(failed)?;
    let mut said = sum.bytes();
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        sum.push(&row);
        sink.gather(&row);
        if sum.bytes() - said >= PIECE_BYTES as u64 {
            moved(sum.bytes() - said);
            said = sum.bytes();
            sink.hand_on().await?;
        }
    }
    if sum.bytes() > said {
        moved(sum.bytes() - said);
        sink.hand_on().await?;
    }
    if sum.is_whole() {
        Ok(())
    } else {
        let why = "its last line has no end".to_owned();
        Err(Error::Malformed { subject: format!("what COPY sent of {table}"), why })
    }
}
