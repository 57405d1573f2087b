//! Whether capture and restore could work, and within which limits: for `doctor`. Changes nothing.

use backstay_model::{Finding, Severity, with_causes};
use backstay_run::Context;
use futures_util::join;

use crate::catalog::relations;
use crate::session::connect;
use crate::stage::{beyond, refusals};
use crate::{Database, Error, ServerPart, Session, Settings, Tool};

/// Locks a server grants for each of its connections, times these, is what a capture may need.
const LOCKS: &str = "
    select pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8
           * (pg_catalog.current_setting('max_connections')::pg_catalog.int8
              + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8)";

const RIGHTS: &str = "
    select r.rolcreatedb or r.rolsuper,
           pg_catalog.pg_has_role(d.datdba, 'MEMBER'),
           pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER') or r.rolsuper,
           pg_catalog.pg_get_userbyid(d.datdba)::pg_catalog.text
    from pg_catalog.pg_roles r, pg_catalog.pg_database d
    where r.rolname = current_user and d.datname = pg_catalog.current_database()";

const HINDRANCES: &str = "
    select 'the prepared transaction ' || gid || ' keeps the database from being switched'
        from pg_catalog.pg_prepared_xacts where database = pg_catalog.current_database()
    union all
    select 'the logical replication slot ' || slot_name || ' stays with the database that is replaced'
        from pg_catalog.pg_replication_slots where database = pg_catalog.current_database()
    union all
    select 'its subscriptions stay with the database that is replaced'
        where exists (select 1 from pg_catalog.pg_shdepend s join pg_catalog.pg_database d on d.oid = s.dbid
            where s.classid = 'pg_catalog.pg_subscription'::pg_catalog.regclass
                and d.datname = pg_catalog.current_database())";

/// Extensions that do more than answer whoever asks.
const ACTING: &str = "
    select pg_catalog.string_agg(extname::pg_catalog.text, ', ' order by extname) from pg_catalog.pg_extension
    where extname in ('dblink', 'http', 'pg_net', 'pgmq', 'postgres_fdw')";

pub(crate) async fn preflight(part: &ServerPart, _context: &Context) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for database in part.databases() {
        match connect(&database.settings, "doctor").await {
            Ok(mut session) => {
                findings.extend(look_at(part, database, &mut session).await?);
                session.close().await;
            }
            Err(error) => findings.push(not_reached(database, &error)),
        }
        for standby in &database.standbys {
            findings.push(look_at_standby(database, standby).await?);
        }
    }
    Ok(findings)
}

fn subject(database: &Database) -> String {
    format!("database {}", database.label)
}

fn not_reached(database: &Database, error: &Error) -> Finding {
    Finding::new(Severity::NotReady, subject(database), with_causes(error))
}

async fn look_at(part: &ServerPart, database: &Database, session: &mut Session) -> Result<Vec<Finding>, Error> {
    let subject = subject(database);
    let finding = |severity, text: String| Finding::new(severity, subject.clone(), text);
    let mut findings = Vec::new();
    let (major, name) = (session.major(), session.database.clone());
    let standby = if session.standby { ", a standby" } else { "" };
    findings.push(finding(Severity::Good, format!("PostgreSQL {major}{standby} on {}", database.settings.server())));
    let version = async |tool| (tool, part.tools().version(tool, major).await);
    let versions = join!(version(Tool::PgDump), version(Tool::PgRestore));
    for (tool, version) in [versions.0, versions.1] {
        findings.push(match version {
            Ok(version) => finding(Severity::Good, format!("{} {version}", tool.program())),
            Err(error) => finding(Severity::NotReady, error.to_string())
                .with_hint(format!("install postgresql-client-{major}, or a newer one")),
        });
    }
    findings.extend(readable(database, session).await?);
    let (create, owner, signal, owned_by): (bool, bool, bool, String) = session.row("look at rights", RIGHTS).await?;
    if session.standby {
        findings.push(finding(Severity::Warning, "a standby can be captured; nothing can be put back on it".into()));
    }
    if !create {
        let text = format!("{} may not create databases, so nothing can be staged", database.settings.user());
        let hint = format!("ALTER ROLE {} CREATEDB", crate::identifier(database.settings.user()));
        findings.push(finding(Severity::Warning, text).with_hint(hint));
    }
    if !owner && !session.superuser {
        let text = format!("{} is not {owned_by}, who owns {name}, so it cannot switch it", database.settings.user());
        findings.push(finding(Severity::Warning, text));
    }
    if !signal {
        let text = "sessions of other roles cannot be ended, and a switch would wait for them in vain";
        let hint = format!("GRANT pg_signal_backend TO {}", crate::identifier(database.settings.user()));
        findings.push(finding(Severity::Warning, text.to_owned()).with_hint(hint));
    }
    let facts = crate::catalog::database::read(session, &database.label).await?;
    for reason in beyond::rights(session, &facts).await?.into_iter().chain(refusals::never_in_a_copy(&facts)) {
        findings.push(finding(Severity::Warning, reason));
    }
    for other in beyond::owners(session).await? {
        let text =
            format!("{name} has objects of {other}, which {} could not put back as theirs", database.settings.user());
        let hint = format!("GRANT {} TO {}", crate::identifier(&other), crate::identifier(database.settings.user()));
        findings.push(finding(Severity::Warning, text).with_hint(hint));
    }
    let hindrances: Vec<(String,)> = session.rows("look for what hinders a switch", HINDRANCES).await?;
    findings.extend(hindrances.into_iter().map(|(text,)| finding(Severity::Warning, text)));
    let (acting,): (Option<String>,) = session.row("look for what acts by itself", ACTING).await?;
    if let Some(acting) = acting {
        let text =
            format!("a copy beside {name} would have its {acting} too, which may run jobs or call out from there");
        findings.push(finding(Severity::Warning, text).with_hint("prove on another server: `[scratch] url = …`"));
    }
    Ok(findings)
}

/// Whether sessions on a standby could be ended after a switch. Where they could not, the switch stands all the same.
async fn look_at_standby(database: &Database, standby: &Settings) -> Result<Finding, Error> {
    let server = standby.server();
    let finding = |severity, text: String| Finding::new(severity, subject(database), text);
    let mut session = match connect(standby, "doctor").await {
        Ok(session) => session,
        Err(error) => {
            let text = format!("the standby {server} is not reached, so sessions there would outlive a switch");
            return Ok(finding(Severity::Warning, format!("{text}: {}", with_causes(&error))));
        }
    };
    let (_, _, may_end, _): (bool, bool, bool, String) = session.row("look at rights", RIGHTS).await?;
    let is_standby = session.standby;
    session.close().await;
    Ok(if !is_standby {
        finding(Severity::Warning, format!("{server} is named as a standby, and is none"))
    } else if !may_end {
        let hint = format!("GRANT pg_signal_backend TO {}", crate::identifier(standby.user()));
        finding(Severity::Warning, format!("sessions of other roles on the standby {server} cannot be ended"))
            .with_hint(hint)
    } else {
        finding(Severity::Good, format!("the standby {server}"))
    })
}

/// Whether all rows could be read, and the server has locks enough to hold all tables still.
async fn readable(database: &Database, session: &mut Session) -> Result<Vec<Finding>, Error> {
    let subject = subject(database);
    let tables = relations::list(session).await?;
    let tables: Vec<_> = tables.into_iter().filter(relations::Relation::is_table).collect();
    let excluded = |title: &str| database.exclude_rows.iter().any(|name| name == title);
    let unread: Vec<_> = tables
        .iter()
        .filter(|table| !table.readable || (table.hidden_rows && !excluded(&table.title())))
        .map(relations::Relation::title)
        .collect();
    let mut findings = Vec::new();
    if unread.is_empty() {
        findings.push(Finding::new(Severity::Good, &subject, format!("all {} tables can be read", tables.len())));
    } else {
        let text = format!("{} cannot be read whole by {}", unread.join(", "), database.settings.user());
        let hint = "grant SELECT or pg_read_all_data, and BYPASSRLS where row security hides rows";
        findings.push(Finding::new(Severity::NotReady, &subject, text).with_hint(hint));
    }
    let (locks,): (i64,) = session.row("count the locks", LOCKS).await?;
    // Capture and pg_dump each hold every table.
    let needed = i64::try_from(tables.len()).unwrap_or(i64::MAX).saturating_mul(2);
    if needed > locks {
        let text = format!("capture needs {needed} locks and the server may have only {locks}");
        findings.push(Finding::new(Severity::Warning, &subject, text).with_hint("raise max_locks_per_transaction"));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn preflight_names_what_would_fail_and_how_to_mend_it() {
        let Some(bench) = Bench::start().await else { return };
        bench.cluster.sql("postgres", "create database shop owner torture_owner");
        bench.cluster.sql_as("torture_owner", "shop", "create table goods (id integer)").unwrap();
        let worst = |findings: &[Finding]| findings.iter().map(|finding| finding.severity).max();

        let findings = preflight(&bench.part("postgres", &["shop"]), &bench.context).await.unwrap();
        assert_eq!(worst(&findings), Some(Severity::Good), "{findings:?}");
        bench.cluster.sql("shop", "create extension dblink");
        let findings = preflight(&bench.part("postgres", &["shop"]), &bench.context).await.unwrap();
        let warned =
            |finding: &Finding| finding.severity == Severity::Warning && finding.text.contains("its dblink too");
        assert!(findings.iter().any(warned), "{findings:?}");
        bench.cluster.sql("shop", "drop extension dblink");

        let findings = preflight(&bench.part("torture_watcher", &["shop"]), &bench.context).await.unwrap();
        assert_eq!(worst(&findings), Some(Severity::Warning), "{findings:?}");
        assert!(findings.iter().any(|finding| finding.text.contains("may not create databases")), "{findings:?}");
        assert!(findings.iter().any(|finding| finding.text.contains("torture_owner, who owns")), "{findings:?}");

        let findings = preflight(&bench.part("torture_reader", &["shop", "nowhere"]), &bench.context).await.unwrap();
        let stops: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::NotReady).collect();
        assert_eq!(stops.len(), 2, "{findings:?}");
        assert!(stops[0].text.contains("public.goods") && stops[1].text.contains("nowhere"), "{stops:?}");
    }
}
