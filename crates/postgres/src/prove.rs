//! Whether a staged copy is what was captured: rows, sequences, large objects and schema.

mod assertions;
mod rows;
mod schema;
mod state;

use backstay_part::{Proof, Recorded, Token};
use backstay_run::Context;
use futures_util::try_join;

use crate::session::connect;
use crate::stage::room;
use crate::statement::change;
use crate::swap::{Mark, State, Switch, Trio, connect_alone, look_up, with_mark};
use crate::{DatabaseFacts, Error, ServerFacts, ServerPart, Session, Settings, identifier, literal, swap};

/// Compares every staged database with its facts. What holds is marked as proven and closed.
pub(crate) async fn prove(
    part: &ServerPart,
    context: &Context,
    recorded: &Recorded,
    staged: &Token,
) -> Result<Proof, Error> {
    let switch = Switch::read(staged)?;
    let facts: ServerFacts = recorded.facts().map_err(|source| Error::Facts { source })?;
    let mut outside = connect_alone(part, &switch.names(), "prove", &context.run).await?;
    let part = &room::with_workers_that_fit(part, &mut outside).await?;
    let mut proof = Proof::default();
    for trio in &switch.databases {
        let entries = look_up(&mut outside, std::slice::from_ref(&trio.staged)).await?;
        let mark = entries.get(&trio.staged).and_then(|entry| entry.mark.clone());
        let database = facts.databases.iter().find(|database| database.label == trio.label);
        let (Some(mark), Some(database)) = (mark, database) else {
            let reason = format!("{} is not there, or not as it was staged", trio.staged);
            return Err(Error::Refused { action: "prove the staged databases", reasons: vec![reason] });
        };
        // A warm copy has been closed since it was proven, and nothing was written to it.
        if let Some(entry) = entries.get(&trio.staged).filter(|_| mark.warm.is_some())
            && swap::still_proven(&mut outside, entry).await?
        {
            continue;
        }
        let reproof = Reproof { part, context, recorded, server: &facts, facts: database, trio };
        reproof.open(&mut outside, true).await?;
        let findings = tokio::select! {
            findings = reproof.compare() => findings,
            () = context.interrupt.requested() => Err(Error::Interrupted),
        };
        // Closed whatever was found: nobody may change what was compared.
        reproof.open(&mut outside, false).await?;
        let findings = findings?;
        if findings.is_empty() && mark.state != State::Kept {
            reproof.mark(&mut outside, mark).await?;
        }
        proof.findings.extend(findings);
    }
    proof.compared = compared(&facts);
    outside.close().await;
    Ok(proof)
}

struct Reproof<'a> {
    part: &'a ServerPart,
    context: &'a Context,
    recorded: &'a Recorded,
    server: &'a ServerFacts,
    facts: &'a DatabaseFacts,
    trio: &'a Trio,
}

impl Reproof<'_> {
    async fn open(&self, outside: &mut Session, open: bool) -> Result<(), Error> {
        let sql = format!("alter database {} allow_connections {open}", identifier(&self.trio.staged));
        change(outside, if open { "open the staged database" } else { "close the staged database" }, &sql).await
    }

    async fn compare(&self) -> Result<Vec<String>, Error> {
        let settings = self.part.server()?.with_database(&self.trio.staged);
        let hash = self.server.fingerprints;
        let rows = rows::compare(self.part, self.context, self.facts, hash, &settings);
        let rest = self.compare_rest(&settings);
        let (rows, rest) = match self.part.options().workers {
            // A server that has no more sessions to give.
            1 => (rows.await?, rest.await?),
            _ => try_join!(rows, rest)?,
        };
        let named = |finding| format!("{}: {finding}", self.trio.live);
        Ok(rows.into_iter().chain(rest).map(named).collect())
    }

    /// All but the rows.
    async fn compare_rest(&self, settings: &Settings) -> Result<Vec<String>, Error> {
        let mut session = connect(settings, "prove").await?;
        let mut findings = state::compare(&mut session, self.facts, self.server.fingerprints).await?;
        let major = session.major();
        let asked = self.part.database(&self.trio.label).map(|database| database.assertions.as_slice());
        findings.extend(assertions::findings(&mut session, asked.unwrap_or_default()).await?);
        session.close().await;
        findings.extend(schema::compare(self, settings, major).await?);
        Ok(findings)
    }

    async fn mark(&self, outside: &mut Session, mark: Mark) -> Result<(), Error> {
        let entries = look_up(outside, std::slice::from_ref(&self.trio.staged)).await?;
        let words = entries.get(&self.trio.staged).and_then(|entry| entry.words.clone());
        // Whoever finds the same count later knows that nothing was written since.
        let writes = swap::counted(outside, &self.trio.staged).await?;
        let mark = Mark { state: State::Proven, writes, ..mark };
        let text = with_mark(words.as_deref(), Some(&mark)).unwrap_or_default();
        let sql = format!("comment on database {} is {}", identifier(&self.trio.staged), literal(&text));
        change(outside, "mark the staged database as proven", &sql).await
    }
}

fn compared(facts: &ServerFacts) -> String {
    let sum = |count: fn(&DatabaseFacts) -> u64| facts.databases.iter().map(count).sum::<u64>();
    format!(
        "{} tables, {} rows, {} sequences, {} large objects, {} objects of the schema",
        sum(|facts| facts.tables.len() as u64),
        sum(DatabaseFacts::rows),
        sum(|facts| facts.sequences.len() as u64),
        sum(|facts| facts.large_objects.count),
        sum(|facts| facts.objects.len() as u64),
    )
}
