//! The recorded databases, built beside the live ones and closed to everybody until they are proven.

pub(crate) mod archive;
pub(crate) mod beyond;
pub(crate) mod create;
mod entries;
pub(crate) mod finish;
pub(crate) mod large_objects;
mod plan;
mod queue;
pub(crate) mod refusals;
mod roles;
pub(crate) mod room;
mod rows;
mod search_path;
pub(crate) mod statistics;
pub(crate) mod warm;

use backstay_model::RunId;
use backstay_part::{Recorded, Token};
use backstay_run::Context;
use futures_util::try_join;

pub(crate) use plan::plan;

use self::archive::{Archive, Stretch, Target};
use self::statistics::Statistics;
use crate::session::connect;
use crate::statement::change;
use crate::swap::{
    Mark, State, Switch, Trio, Written, connect_alone, connect_outside, drop_database, kept_name, look_up, staged_name,
    with_mark,
};
use crate::{DatabaseFacts, Error, ServerFacts, ServerPart, Session, Settings, identifier, literal, swap};

/// What a copy is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To become live, at once or later, or to be worked upon.
    Use,
    /// To be compared and dropped.
    Proof,
}

/// Builds every recorded database beside the live one. Where it fails or is stopped, what was half
/// built is dropped again.
pub(crate) async fn stage(
    part: &ServerPart,
    context: &Context,
    recorded: &Recorded,
    purpose: Purpose,
) -> Result<Token, Error> {
    let facts: ServerFacts = recorded.facts().map_err(|source| Error::Facts { source })?;
    let switch = switch_of(part, context, &facts)?;
    let mut outside = connect_alone(part, &switch.names(), "stage", &switch.run).await?;
    refusals::refuse(&mut outside, &facts).await?;
    let part = &room::with_workers_that_fit(part, &mut outside).await?;
    let work = async {
        roles::make(&mut outside, context, recorded, &facts).await?;
        for (trio, database) in switch.databases.iter().zip(&facts.databases) {
            let statistics = statistics_for(purpose, part, database);
            let build = Build { part, context, recorded, run: &switch.run, trio, facts: database, statistics };
            build.build(&mut outside, &facts).await?;
        }
        switch.token()
    };
    let result = tokio::select! {
        result = work => result,
        () = context.interrupt.requested() => Err(Error::Interrupted),
    };
    if result.is_err() {
        // The first error is the one to tell; what is left is named by the run and found again.
        let _ = drop_half_built(part, context, &switch).await;
    }
    result
}

/// A proof reads the user's tables from end to end, however that is planned. But assertions may ask them anything, and
/// so may materialized views.
fn statistics_for(purpose: Purpose, part: &ServerPart, facts: &DatabaseFacts) -> Statistics {
    let asserted = part.database(&facts.label).is_some_and(|database| !database.assertions.is_empty());
    let asked = asserted || facts.matviews.iter().any(|view| view.populated);
    if purpose == Purpose::Proof && !asked { Statistics::OfCatalogs } else { Statistics::OfAll }
}

/// What `activated` kept is to become live again: nothing is copied, only the names are new.
pub(crate) async fn stage_kept(part: &ServerPart, context: &Context, activated: &Token) -> Result<Token, Error> {
    let earlier = Switch::read(activated)?;
    let mut session = connect_outside(part, &earlier.names(), "stage").await?;
    let entries = look_up(&mut session, &earlier.names()).await?;
    session.close().await;
    let mut databases = Vec::new();
    let mut reasons = Vec::new();
    for trio in earlier.databases {
        let mark = entries.get(&trio.kept).and_then(|kept| kept.mark.as_ref());
        if !mark.is_some_and(|mark| mark.is(&earlier.run, State::Kept)) {
            reasons.push(format!("{} is not there any more as run {} left it", trio.kept, earlier.run));
        }
        let kept = kept_name(&trio.live, &context.run);
        databases.push(Trio { staged: trio.kept, kept, ..trio });
    }
    if !reasons.is_empty() {
        return Err(Error::Refused { action: "bring back what was kept", reasons });
    }
    Switch { run: context.run.clone(), databases }.token()
}

/// Removes what `run` staged and did not make live.
pub(crate) async fn abandon(part: &ServerPart, context: &Context, run: &RunId, written: Written) -> Result<(), Error> {
    let live = live(part);
    let mut session = connect_alone(part, &live, "abandon", run).await?;
    swap::abandon(&mut session, run, written).await?;
    roles::unmake(&mut session, context, run, &live).await?;
    session.close().await;
    Ok(())
}

/// The copies of `run` that were left.
pub(crate) async fn left(part: &ServerPart, run: &RunId) -> Result<Vec<String>, Error> {
    let mut session = connect_outside(part, &live(part), "look").await?;
    let left = swap::left_by(&mut session, run).await?;
    session.close().await;
    Ok(left)
}

fn live(part: &ServerPart) -> Vec<String> {
    part.databases().iter().map(|database| database.settings.database().to_owned()).collect()
}

/// The names of what this run stages, in the order of the facts.
fn switch_of(part: &ServerPart, context: &Context, facts: &ServerFacts) -> Result<Switch, Error> {
    let mut databases = Vec::new();
    for recorded in &facts.databases {
        let Some(configured) = part.database(&recorded.label) else {
            let reason = format!("the snapshot holds a database {}, which the configuration does not", recorded.label);
            return Err(Error::Refused { action: "stage the databases", reasons: vec![reason] });
        };
        let live = configured.settings.database().to_owned();
        let (staged, kept) = (staged_name(&live, &context.run), kept_name(&live, &context.run));
        databases.push(Trio { label: recorded.label.clone(), live, staged, kept });
    }
    Ok(Switch { run: context.run.clone(), databases })
}

async fn drop_half_built(part: &ServerPart, context: &Context, switch: &Switch) -> Result<(), Error> {
    let mut session = connect_alone(part, &switch.names(), "clear away", &switch.run).await?;
    let staged: Vec<_> = switch.databases.iter().map(|trio| trio.staged.clone()).collect();
    for name in look_up(&mut session, &staged).await?.into_keys() {
        drop_database(&mut session, &name).await?;
    }
    let live: Vec<_> = switch.databases.iter().map(|trio| trio.live.clone()).collect();
    roles::unmake(&mut session, context, &switch.run, &live).await?;
    session.close().await;
    Ok(())
}

/// A session that fills a copy. Its commits need not reach the disk one by one: the mark that calls the copy staged
/// does, and all that was committed before it with it.
async fn connect_to_fill(settings: &Settings, purpose: &str) -> Result<Session, Error> {
    let mut session = connect(settings, purpose).await?;
    session.execute("let commits reach the disk together", "set synchronous_commit = off").await?;
    Ok(session)
}

/// One database on its way.
struct Build<'a> {
    part: &'a ServerPart,
    context: &'a Context,
    recorded: &'a Recorded,
    run: &'a RunId,
    trio: &'a Trio,
    facts: &'a DatabaseFacts,
    statistics: Statistics,
}

impl Build<'_> {
    async fn build(&self, outside: &mut Session, server: &ServerFacts) -> Result<(), Error> {
        let staged = &self.trio.staged;
        let found = look_up(outside, std::slice::from_ref(staged)).await?;
        if let Some(found) = found.get(staged) {
            if found.mark.as_ref().is_some_and(|mark| matches!(mark.state, State::Staged | State::Proven)) {
                return Ok(());
            }
            drop_database(outside, staged).await?;
        }
        let create = create::statement(&identifier(staged), self.facts, outside.major());
        let settings = self.part.server()?.with_database(staged);
        let target = Target { part: self.part, settings: &settings, major: outside.major() };
        let created = async {
            change(outside, "create the staged database", &create).await?;
            self.mark(outside, State::Building).await
        };
        let ((), archive) = try_join!(created, Archive::fetch_for(target, self.recorded, self.facts, server))?;
        archive.restore(target, Stretch::BeforeRows).await?;
        let analyzed = rows::load_all(self, &archive, target).await?;
        let mut session = connect_to_fill(&settings, "stage").await?;
        large_objects::load(&mut session, self.recorded, &self.facts.large_objects).await?;
        archive.restore(target, Stretch::AfterRows).await?;
        archive.restore(target, Stretch::Rights).await?;
        finish::finish(&mut session, self.context, self.facts).await?;
        statistics::gather(&mut session, target, self.statistics, &analyzed).await?;
        archive.restore(target, Stretch::EventTriggers).await?;
        session.close().await;
        finish::describe(outside, staged, self.facts).await?;
        let close = format!("alter database {} allow_connections false", identifier(staged));
        change(outside, "close the staged database", &close).await?;
        self.mark(outside, State::Staged).await
    }

    async fn mark(&self, outside: &mut Session, state: State) -> Result<(), Error> {
        let mut mark = Mark::new(self.run, state, &self.trio.live);
        mark.opening.limit = self.facts.connection_limit;
        let words = self.facts.comment.as_deref();
        // What was captured may itself have been made live by a run; that mark is not the user's.
        let words = swap::words_of(words);
        let text = with_mark(words.as_deref(), Some(&mark)).unwrap_or_default();
        let sql = format!("comment on database {} is {}", identifier(&self.trio.staged), literal(&text));
        change(outside, "mark the staged database", &sql).await
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
