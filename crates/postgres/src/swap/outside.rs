use crate::session::connect;
use crate::{Error, ServerPart, Session, Settings, literal};

/// The database that servers have for such work.
const USUAL: &str = "postgres";

/// Connects to a database that is none of `involved`: what a session is connected to cannot be renamed.
pub(crate) async fn connect_outside(part: &ServerPart, involved: &[String], purpose: &str) -> Result<Session, Error> {
    let settings = part.server()?;
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
