use std::cmp::Ordering;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::AssertSqlSafe;

use super::Sides;
use super::tables::{Key, Pair};
use crate::catalog::relations::Relation;
use crate::{Error, Session};

type Line = (Vec<u8>, Vec<u8>);

/// Goes through both sides of a table at once, in the order of their keys, and holds one row of each.
pub(super) struct Merge<'a> {
    kept: Side<'a>,
    live: Side<'a>,
    counted: bool,
}

pub(super) struct Change {
    pub kind: Kind,
    pub key: Vec<u8>,
    pub rows: u64,
}

/// What the kept side has done that the live one does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Inserted,
    Updated,
    Deleted,
}

impl<'a> Merge<'a> {
    pub(super) async fn begin(sides: &'a mut Sides, pair: &Pair, sampled: bool) -> Result<Self, Error> {
        let kept = Side::begin(&mut sides.kept, pair, pair.kept.as_ref(), sampled).await?;
        let live = Side::begin(&mut sides.live, pair, pair.live.as_ref(), sampled).await?;
        Ok(Self { kept, live, counted: matches!(pair.key, Key::None) })
    }

    /// The next row, or rows without a key, that differ.
    pub(super) async fn next(&mut self) -> Result<Option<Change>, Error> {
        loop {
            let order = match (&self.kept.head, &self.live.head) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(kept), Some(live)) => self.kept.rank(kept).cmp(&self.live.rank(live)),
            };
            let kept = if order == Ordering::Greater { None } else { self.kept.take().await? };
            let live = if order == Ordering::Less { None } else { self.live.take().await? };
            if let Some(change) = self.judge(kept, live) {
                return Ok(Some(change));
            }
        }
    }

    fn judge(&self, kept: Option<Line>, live: Option<Line>) -> Option<Change> {
        let rows = |line: &Option<Line>| line.as_ref().map_or(0, |line| if self.counted { number(&line.1) } else { 1 });
        let (here, there) = (rows(&kept), rows(&live));
        let differs = kept.as_ref().map(|line| &line.1) != live.as_ref().map(|line| &line.1);
        let key = kept.or(live).map(|line| line.0)?;
        let (kind, rows) = match here.cmp(&there) {
            Ordering::Greater => (Kind::Inserted, here - there),
            Ordering::Less => (Kind::Deleted, there - here),
            Ordering::Equal if differs => (Kind::Updated, 1),
            Ordering::Equal => return None,
        };
        Some(Change { kind, key, rows })
    }
}

struct Side<'a> {
    lines: Option<BoxStream<'a, Result<Line, sqlx::Error>>>,
    head: Option<Line>,
    /// Keys are integers with a sign, highest byte first.
    signed: bool,
    database: String,
}

impl<'a> Side<'a> {
    async fn begin(
        session: &'a mut Session,
        pair: &Pair,
        relation: Option<&Relation>,
        sampled: bool,
    ) -> Result<Self, Error> {
        let database = session.database.clone();
        let lines = relation.map(|relation| {
            let sql = AssertSqlSafe(pair.lines(relation, sampled));
            sqlx::query_as::<_, Line>(sql).persistent(false).fetch(&mut session.connection)
        });
        let mut side = Self { lines, head: None, signed: matches!(pair.key, Key::Integer(_)), database };
        side.take().await?;
        Ok(side)
    }

    /// Hands out the line it stands at and reads the next.
    async fn take(&mut self) -> Result<Option<Line>, Error> {
        let next = match &mut self.lines {
            Some(lines) => lines.try_next().await.map_err(Error::query("compare rows", &self.database))?,
            None => None,
        };
        Ok(std::mem::replace(&mut self.head, next))
    }

    /// A key such that the order of bytes is the server's order.
    fn rank(&self, line: &Line) -> Vec<u8> {
        let mut key = line.0.clone();
        if let (true, Some(first)) = (self.signed, key.first_mut()) {
            *first ^= 0x80;
        }
        key
    }
}

/// Eight bytes, highest first.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
