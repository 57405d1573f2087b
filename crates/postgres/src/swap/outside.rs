use std::time::Duration;

use backstay_model::RunId;

use crate::session::connect;
use crate::{Error, ServerPart, Session, Settings, literal};

/// The database that servers have for such work.
const USUAL: &str = "postgres";
/// How long the sessions of an earlier life of a run may take to end.
const ENDING_MAX: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Ends whatever `run` still has going on the server: its client may be dead, or have stopped listening, while
/// the server goes on with the statement it was given, such as one that makes or renames a database. Nothing
/// that is read before they have ended can be relied upon.
const END: &str = "
select pg_catalog.count(*) filter (where pg_catalog.pg_terminate_backend(a.pid))
  from pg_catalog.pg_stat_activity a
 where a.pid <> pg_catalog.pg_backend_pid()
   and a.application_name like 'backstay %' and pg_catalog.right(a.application_name, pg_catalog.length($1)) = $1";

const GOING_ON: &str = "
select pg_catalog.count(*) from pg_catalog.pg_stat_activity a
 where a.pid <> pg_catalog.pg_backend_pid()
   and a.application_name like 'backstay %' and pg_catalog.right(a.application_name, pg_catalog.length($1)) = $1";

/// Connects outside in the name of `run`, and sees to it that no other session goes on in its name.
pub(crate) async fn connect_alone(
    part: &ServerPart,
    involved: &[String],
    purpose: &str,
    run: &RunId,
) -> Result<Session, Error> {
    let mut session = connect_in_name_of(part, involved, purpose, run).await?;
    let ask = async |session: &mut Session, sql: &'static str| {
        let asked = sqlx::query_scalar::<_, i64>(sql).bind(run.as_str()).persistent(false);
        let asked = asked.fetch_one(&mut session.connection).await;
        asked.map_err(Error::query("end what the run still has going", &session.database))
    };
    let began = tokio::time::Instant::now();
    while ask(&mut session, GOING_ON).await? > 0 {
        ask(&mut session, END).await?;
        if began.elapsed() > ENDING_MAX {
            let reason = format!("sessions of run {run} do not end");
            return Err(Error::Refused { action: "go on", reasons: vec![reason] });
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(session)
}

/// Connects outside so that [`connect_alone`] finds the session again by its name.
pub(crate) async fn connect_in_name_of(
    part: &ServerPart,
    involved: &[String],
    purpose: &str,
    run: &RunId,
) -> Result<Session, Error> {
    connect_outside(part, involved, &format!("{purpose} {run}")).await
}

/// Connects to a database that is none of `involved`: what a session is connected to cannot be renamed.
pub(crate) async fn connect_outside(part: &ServerPart, involved: &[String], purpose: &str) -> Result<Session, Error> {
    connect_to_look(part.server()?, involved, purpose).await
}

/// The same, on any server.
pub(super) async fn connect_to_look(settings: &Settings, involved: &[String], purpose: &str) -> Result<Session, Error> {
    let first = match involved.iter().any(|name| name == USUAL) {
        true => None,
        false => Some(connect(&settings.with_database(USUAL), purpose).await),
    };
    match first {
        Some(Ok(session)) => Ok(session),
        Some(Err(error)) if !is_about_the_database(&error) => Err(error),
        unusual => match connect_elsewhere(settings, involved, purpose).await? {
            Some(session) => Ok(session),
            None => Err(unusual.and_then(Result::err).unwrap_or_else(|| Error::Settings {
                subject: "role",
                why: "may connect to no database but those to be renamed; let it connect to `postgres`".to_owned(),
            })),
        },
    }
}

/// Asks one of the involved databases which others there are.
async fn connect_elsewhere(settings: &Settings, involved: &[String], purpose: &str) -> Result<Option<Session>, Error> {
    let mut others: Vec<(String,)> = Vec::new();
    for name in involved {
        let Ok(mut session) = connect(&settings.with_database(name), purpose).await else { continue };
        let taken: Vec<_> = involved.iter().map(|name| literal(name)).collect();
        // A template comes last: while somebody is connected to it, nobody can copy it.
        let sql = format!(
            "select datname::text from pg_catalog.pg_database
              where datallowconn and pg_catalog.has_database_privilege(oid, 'CONNECT') and datname not in ({})
              order by datistemplate, datname",
            taken.join(", ")
        );
        others = session.rows("list the databases", &sql).await?;
        session.close().await;
        break;
    }
    if others.is_empty() {
        others.push(("template1".to_owned(),));
    }
    for (name,) in others {
        if let Ok(session) = connect(&settings.with_database(&name), purpose).await {
            return Ok(Some(session));
        }
    }
    Ok(None)
}

/// There is no such database, it takes no connections, or not from this role.
fn is_about_the_database(error: &Error) -> bool {
    matches!(error.sqlstate().as_deref(), Some("3D000" | "42501" | "55000" | "28000" | "53300"))
}
