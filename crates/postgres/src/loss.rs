//! What a switch takes away: rows that what is kept holds and what is live lacks, compared row by row;
//! before a switch, an estimate from the server's write counters.

mod counters;
mod merge;
mod rescue;
mod tables;

use backstay_model::{Loss, TableLoss};
use backstay_part::Token;
use backstay_run::Context;

pub(crate) use counters::{estimate, read as read_counters};
pub(crate) use rescue::rescue;
pub use rescue::{RescueReport, RescuedTable};

use crate::session::connect;
use crate::swap::{Switch, Trio, connect_outside, look_up};
use crate::{Error, ServerPart, Session};
use merge::{Kind, Merge};
use tables::{Pair, Pairs, SAMPLE_PARTS};

/// Of tables larger than this only a sample is compared.
const SAMPLED_FROM_BYTES: i64 = 16 << 30;

/// The kept databases of a switch and those that took their place, each as it is at one moment.
pub(crate) struct Both(Vec<(Trio, Sides)>);

impl Both {
    /// Holds on to what they are now. Nothing where what was kept is gone.
    pub(crate) async fn open(part: &ServerPart, context: &Context, activated: &Token) -> Result<Option<Self>, Error> {
        let switch = Switch::read(activated)?;
        let Some(kept) = kept_of(part, &switch).await? else {
            context.warn("what was kept is not there any more, so it is not known what it held");
            return Ok(None);
        };
        let mut both = Vec::new();
        for trio in kept {
            both.push((trio.clone(), Sides::open(part, trio).await?));
        }
        Ok(Some(Self(both)))
    }

    pub(crate) async fn compare(self, part: &ServerPart, context: &Context) -> Result<Loss, Error> {
        tokio::select! {
            loss = compare(part, self, SAMPLED_FROM_BYTES) => loss,
            () = context.interrupt.requested() => Err(Error::Interrupted),
        }
    }
}

async fn compare(part: &ServerPart, both: Both, sampled_from: i64) -> Result<Loss, Error> {
    let mut loss = Loss { exact: true, ..Loss::default() };
    for (trio, mut sides) in both.0 {
        let pairs = sides.pairs(part, &trio).await?;
        loss.exact &= pairs.all_readable;
        loss.caveats.extend(pairs.caveats);
        for pair in pairs.pairs {
            let sampled = pair.bytes() > sampled_from;
            let mut table = count(&mut sides, &pair, sampled).await?;
            if sampled {
                loss.exact = false;
                loss.caveats.push(format!(
                    "{} is large: one row of {SAMPLE_PARTS} was compared, and the figures are {SAMPLE_PARTS} times that",
                    pair.title()
                ));
            }
            if table.rows() > 0 {
                table.database.clone_from(&trio.live);
                loss.tables.push(table);
            }
        }
        sides.close().await;
    }
    Ok(loss)
}

/// The databases whose predecessor is kept. Nothing where a kept one is gone.
async fn kept_of<'a>(part: &ServerPart, switch: &'a Switch) -> Result<Option<Vec<&'a Trio>>, Error> {
    let mut session = connect_outside(part, &switch.names(), "compare").await?;
    let entries = look_up(&mut session, &switch.names()).await?;
    session.close().await;
    let mut kept = Vec::new();
    for trio in &switch.databases {
        let replaced_nothing = || {
            let mark = entries.get(&trio.live).and_then(|live| live.mark.as_ref());
            mark.is_some_and(|mark| mark.is(&switch.run, crate::swap::State::Live) && mark.replaced.is_none())
        };
        if entries.contains_key(&trio.kept) && entries.contains_key(&trio.live) {
            kept.push(trio);
        } else if !replaced_nothing() {
            return Ok(None);
        }
    }
    Ok(Some(kept))
}

/// Both databases, each at one moment.
struct Sides {
    kept: Session,
    live: Session,
}

impl Sides {
    async fn open(part: &ServerPart, trio: &Trio) -> Result<Self, Error> {
        let settings = match part.database(&trio.label) {
            Some(database) => &database.settings,
            None => part.server()?,
        };
        let kept = connect(&settings.with_database(&trio.kept), "compare").await?;
        let live = connect(&settings.with_database(&trio.live), "compare").await?;
        let mut sides = Self { kept, live };
        for session in [&mut sides.kept, &mut sides.live] {
            // A transaction sees what was there at its first query.
            let sql = "begin isolation level repeatable read, read only; set local work_mem = '64MB'; select 1";
            session.execute("begin to compare", sql).await?;
        }
        Ok(sides)
    }

    async fn pairs(&mut self, part: &ServerPart, trio: &Trio) -> Result<Pairs, Error> {
        let excluded = part.database(&trio.label).map(|database| database.exclude_rows.as_slice());
        tables::pairs(&mut self.kept, &mut self.live, excluded.unwrap_or_default()).await
    }

    async fn close(self) {
        self.kept.close().await;
        self.live.close().await;
    }
}

async fn count(sides: &mut Sides, pair: &Pair, sampled: bool) -> Result<TableLoss, Error> {
    let mut table = TableLoss { table: pair.title(), ..TableLoss::default() };
    let mut merge = Merge::begin(sides, pair, sampled).await?;
    while let Some(change) = merge.next().await? {
        let rows = change.rows * if sampled { SAMPLE_PARTS } else { 1 };
        match change.kind {
            Kind::Inserted => table.inserted += rows,
            Kind::Updated => table.updated += rows,
            Kind::Deleted => table.deleted += rows,
        }
    }
    Ok(table)
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
