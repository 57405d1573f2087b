use std::collections::BTreeSet;

use backstay_model::RunId;
use backstay_part::Recorded;
use backstay_run::Context;
use zeroize::Zeroizing;

use super::finish::assignment;
use crate::capture::verifiers::{self, Verifiers};
use crate::statement::change;
use crate::swap::{Mark, State, look_up};
use crate::{Error, RoleFacts, ServerFacts, Session, identifier, literal};

/// What a role made here bears until somebody gives it another comment.
const MADE_BY: &str = "made by Backstay, run ";
const STILL_NEEDED: &str = "2BP01";
/// A server that logs statements would log verifiers too.
const QUIET: &str = "set log_statement = 'none'; set log_min_duration_statement = -1;
                     set log_min_error_statement = 'panic'; set pg_stat_statements.track_utility = off";

/// Recorded roles that are not here and that this session may make.
pub(super) async fn to_make<'a>(session: &mut Session, facts: &'a ServerFacts) -> Result<Vec<&'a RoleFacts>, Error> {
    if !session.superuser {
        return Ok(Vec::new());
    }
    let here: Vec<(String,)> = session.rows("list the roles", "select rolname::text from pg_catalog.pg_roles").await?;
    let here: BTreeSet<_> = here.into_iter().map(|(name,)| name).collect();
    let made = |role: &&RoleFacts| !here.contains(&role.name) && !role.name.starts_with("pg_");
    Ok(facts.roles.iter().filter(made).collect())
}

/// Makes the recorded roles that are not here, with their passwords where the snapshot holds them.
pub(super) async fn make(
    session: &mut Session,
    context: &Context,
    recorded: &Recorded,
    facts: &ServerFacts,
) -> Result<(), Error> {
    let roles = to_make(session, facts).await?;
    if roles.is_empty() {
        return Ok(());
    }
    let verifiers = verifiers::fetch(recorded, facts).await?;
    session.execute("keep verifiers out of the log", QUIET).await?;
    for role in &roles {
        make_one(session, &context.run, role, &verifiers).await?;
        if role.login && !verifiers.contains_key(&role.name) {
            context.warn(format!("the role {} was made and has no password: set one", role.name));
        }
    }
    for role in &roles {
        let name = identifier(&role.name);
        for group in &role.member_of {
            let grant = format!("grant {} to {name}", identifier(group));
            change(session, &format!("make {} a member", role.name), &grant).await?;
        }
        for setting in &role.settings {
            let sql = format!("alter role {name} set {}", assignment(setting));
            change(session, &format!("set {} for {}", setting.name, role.name), &sql).await?;
        }
    }
    Ok(())
}

async fn make_one(session: &mut Session, run: &RunId, role: &RoleFacts, verifiers: &Verifiers) -> Result<(), Error> {
    let name = identifier(&role.name);
    let mut sql = Zeroizing::new(format!("create role {name} connection limit {}", role.connection_limit));
    for (has, word) in [
        (role.superuser, "superuser"),
        (role.inherit, "inherit"),
        (role.create_role, "createrole"),
        (role.create_database, "createdb"),
        (role.login, "login"),
        (role.replication, "replication"),
        (role.bypass_row_security, "bypassrls"),
    ] {
        sql.push_str(if has { " " } else { " no" });
        sql.push_str(word);
    }
    if let Some(verifier) = verifiers.get(&role.name) {
        sql.push_str(" password ");
        sql.push_str(&Zeroizing::new(literal(verifier)));
    }
    change(session, &format!("make the role {}", role.name), &sql).await?;
    let mark = format!("comment on role {name} is {}", literal(&format!("{MADE_BY}{run}")));
    change(session, "mark a role", &mark).await
}

/// Drops the roles that a run made, unless something of it went live. What is in use stays, and is said.
pub(super) async fn unmake(
    session: &mut Session,
    context: &Context,
    run: &RunId,
    live: &[String],
) -> Result<(), Error> {
    if !session.superuser {
        return Ok(());
    }
    let went_live = |mark: &Mark| mark.run == *run && matches!(mark.state, State::Live | State::Settled);
    if look_up(session, live).await?.values().any(|entry| entry.mark.as_ref().is_some_and(went_live)) {
        return Ok(());
    }
    let sql = format!(
        "select rolname::text from pg_catalog.pg_roles
          where pg_catalog.shobj_description(oid, 'pg_authid') = {} order by 1",
        literal(&format!("{MADE_BY}{run}"))
    );
    let made: Vec<(String,)> = session.rows("list the roles that the run made", &sql).await?;
    for (role,) in made {
        match change(session, &format!("drop the role {role}"), &format!("drop role {}", identifier(&role))).await {
            Err(error) if error.sqlstate().as_deref() == Some(STILL_NEEDED) => {
                context.warn(format!("the role {role}, which this run made, is in use by now and stays"));
            }
            other => other?,
        }
    }
    Ok(())
}
