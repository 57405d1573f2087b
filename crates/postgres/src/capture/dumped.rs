use backstay_model::Event;
use backstay_run::Context;

use super::freeze::{self, Frozen};
use crate::catalog::sequences;
use crate::schema::{self, SchemaDump};
use crate::{Error, SequenceFacts, ServerPart, Session, Settings};

/// A database that stands still, and what was read of it at once.
pub(super) struct Dumped {
    pub frozen: Frozen,
    pub sequences: Vec<SequenceFacts>,
    pub dump: SchemaDump,
}

/// Freezes a database and dumps its schema. pg_dump takes the same locks once more: where somebody came
/// to wait for one in between, it waits behind them and they wait for us. Then we let go and begin anew.
pub(super) async fn freeze_and_dump(
    mut session: Session,
    part: &ServerPart,
    context: &Context,
    settings: &Settings,
) -> Result<Dumped, Error> {
    let options = part.options();
    let (start, major) = (context.clock.elapsed(), session.major());
    for waits in 1.. {
        let mut frozen = freeze::freeze(session, options, context).await?;
        // Sequences first, while they are near the snapshot: they go on without it.
        let sequences = sequences::read(&mut frozen.session).await?;
        let snapshot = Some(frozen.snapshot.as_str());
        let dump = schema::dump(part.tools().as_ref(), settings, major, snapshot, options.lock_timeout).await;
        match dump {
            Ok(dump) => return Ok(Dumped { frozen, sequences, dump }),
            // The parameter's name is the same in every language.
            Err(Error::ToolFailed { said, .. }) if said.contains("max_locks_per_transaction") => {
                let tables = frozen.relations.iter().filter(|relation| relation.is_table()).count();
                return Err(Error::TooFewLocks { database: frozen.session.database, tables });
            }
            Err(Error::ToolFailed { said, .. }) if is_about_a_lock(&said) => {}
            Err(error) => return Err(error),
        }
        session = frozen.session;
        let blocker = freeze::blockers(&mut session, &frozen.relations).await?;
        session.execute("give up reading", "rollback").await?;
        let waited = context.clock.elapsed().saturating_sub(start);
        if waited >= options.lock_wait {
            let database = session.database.clone();
            return Err(Error::Locked { database, seconds: waited.as_secs(), blocker });
        }
        context.hear(Event::Waiting { on: format!("a lock in {}: {blocker}", session.database) });
        tokio::time::sleep(freeze::pause(waits)).await;
    }
    Err(Error::Interrupted)
}

/// pg_dump tells the statement that failed in its own words; the server's are in its language.
fn is_about_a_lock(said: &str) -> bool {
    said.contains("LOCK TABLE")
}
