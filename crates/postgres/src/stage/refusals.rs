use super::room::lacking_disk;
use crate::{DatabaseFacts, Error, ServerFacts, Session};

/// Its scheduler is of one server and one database: the one that `cron.database_name` names. No other may have it.
const SCHEDULER: &str = "pg_cron";

/// Refuses what would fail only after a long while of copying. What hinders a switch is not looked at: a
/// copy may be built to be proven alone.
pub(super) async fn refuse(session: &mut Session, facts: &ServerFacts) -> Result<(), Error> {
    let mut reasons = lacking(session, facts).await?;
    reasons.extend(lacking_disk(session, facts).await);
    if reasons.is_empty() { Ok(()) } else { Err(Error::Refused { action: "stage the databases", reasons }) }
}

/// What the recorded databases need and this server does not have.
pub(super) async fn lacking(session: &mut Session, facts: &ServerFacts) -> Result<Vec<String>, Error> {
    let mut reasons = Vec::new();
    if facts.server_version / 10_000 > session.version / 10_000 {
        let (recorded, here) = (facts.server_version / 10_000, session.version / 10_000);
        reasons.push(format!("the databases were recorded on PostgreSQL {recorded}, and this is {here}"));
    }
    let roles: Vec<(String,)> = session.rows("list the roles", "select rolname::text from pg_catalog.pg_roles").await?;
    let extensions: Vec<(String,)> =
        session.rows("list the extensions", "select name::text from pg_catalog.pg_available_extensions").await?;
    let tablespaces: Vec<(String,)> =
        session.rows("list the tablespaces", "select spcname::text from pg_catalog.pg_tablespace").await?;
    let made: Vec<_> = super::roles::to_make(session, facts).await?.into_iter().map(|role| &role.name).collect();
    let has = |list: &[(String,)], name: &str| list.iter().any(|(one,)| one == name);
    for database in &facts.databases {
        reasons.extend(super::beyond::rights(session, database).await?);
        reasons.extend(never_in_a_copy(database));
        for role in
            database.roles.iter().chain([&database.owner]).filter(|role| !has(&roles, role) && !made.contains(role))
        {
            reasons.push(format!("{} needs the role {role}, which is not here", database.label));
        }
        for extension in database.extensions.iter().filter(|extension| !has(&extensions, &extension.name)) {
            reasons.push(format!("{} needs the extension {}, which is not here", database.label, extension.name));
        }
        if !database.tablespace.is_empty() && !has(&tablespaces, &database.tablespace) {
            reasons.push(format!("{} needs the tablespace {}, which is not here", database.label, database.tablespace));
        }
    }
    reasons.dedup();
    Ok(reasons)
}

/// What keeps a database from having a copy, whatever the copy is called.
pub(crate) fn never_in_a_copy(facts: &DatabaseFacts) -> Option<String> {
    facts.extensions.iter().any(|extension| extension.name == SCHEDULER).then(|| {
        format!(
            "{} has the extension {SCHEDULER}, which may be only in the database that cron.database_name names, never in \
             a copy: have it in another database, and plan jobs for this one by cron.schedule_in_database",
            facts.name
        )
    })
}
