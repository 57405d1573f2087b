use super::Switch;
use super::catalog::look_up;
use super::mark::State;
use crate::{Error, Session};

/// Why `switch` cannot be done here and now. Empty where it can.
pub(crate) async fn refusals(session: &mut Session, switch: &Switch) -> Result<Vec<String>, Error> {
    let entries = look_up(session, &switch.names()).await?;
    let mut reasons = Vec::new();
    for trio in &switch.databases {
        let Some(staged) = entries.get(&trio.staged) else {
            reasons.push(format!("{} is not there", trio.staged));
            continue;
        };
        match staged.mark.as_ref().map(|mark| mark.state) {
            Some(State::Proven) if staged.open => {
                reasons.push(format!("{} was opened to connections since it was proven", trio.staged));
            }
            Some(State::Proven | State::Kept) => {}
            _ => reasons.push(format!("{} was not proven", trio.staged)),
        }
        if entries.contains_key(&trio.kept) {
            reasons.push(format!("there is a database {} already", trio.kept));
        }
    }
    let involved: Vec<_> = switch.databases.iter().flat_map(|trio| [trio.live.clone(), trio.staged.clone()]).collect();
    reasons.extend(renaming_refusals(session, &involved).await?);
    Ok(reasons)
}

/// Why databases of these names could not be renamed here and now. Those that are not there are passed over.
pub(crate) async fn renaming_refusals(session: &mut Session, databases: &[String]) -> Result<Vec<String>, Error> {
    let mut reasons = role_refusals(session).await?;
    let found: Vec<Hindrances> = sqlx::query_as(HINDRANCES)
        .bind(databases)
        .fetch_all(&mut session.connection)
        .await
        .map_err(Error::query("read what hinders a switch", &session.database))?;
    for (name, owner, owned, here, prepared, subscriptions, slots) in found {
        if !owned {
            reasons.push(format!("{name} belongs to {owner}, whose rights this role does not have"));
        }
        if here {
            reasons.push(format!("this session is connected to {name}"));
        }
        let mut hinders = |what: &str, found: &[String], why: &str| {
            if !found.is_empty() {
                reasons.push(format!("{name} has {what} ({}), {why}", found.join(", ")));
            }
        };
        hinders("prepared transactions", &prepared, "which would stay with the replaced database");
        hinders("subscriptions", &subscriptions, "which would stay with the replaced database");
        hinders("logical replication slots", &slots, "whose readers would go on reading the replaced database");
    }
    reasons.extend(session_refusals(session, databases).await?);
    Ok(reasons)
}

/// Why the sessions of these databases could not all be ended.
pub(crate) async fn session_refusals(session: &mut Session, databases: &[String]) -> Result<Vec<String>, Error> {
    let sessions: Vec<(String, String, i64)> = sqlx::query_as(UNENDABLE)
        .bind(databases)
        .fetch_all(&mut session.connection)
        .await
        .map_err(Error::query("read who is connected", &session.database))?;
    let refusal = |(database, role, count)| {
        format!("{count} sessions of {role} in {database} may not be ended by this role; grant it pg_signal_backend")
    };
    Ok(sessions.into_iter().map(refusal).collect())
}

/// Name, owner, whether the owner's rights are ours, whether we are connected to it; prepared transactions,
/// subscriptions, logical slots.
type Hindrances = (String, String, bool, bool, Vec<String>, Vec<String>, Vec<String>);

async fn role_refusals(session: &mut Session) -> Result<Vec<String>, Error> {
    let (role, may_rename, has_language): (String, bool, bool) = sqlx::query_as(
        "select current_user::text, rolsuper or rolcreatedb,
                exists (select from pg_catalog.pg_language where lanname = 'plpgsql')
           from pg_catalog.pg_roles where rolname = current_user",
    )
    .fetch_one(&mut session.connection)
    .await
    .map_err(Error::query("read the rights of this role", &session.database))?;
    let mut reasons = Vec::new();
    if !may_rename {
        reasons.push(format!("{role} may not create or rename databases; grant it CREATEDB"));
    }
    if !has_language {
        reasons.push("the database this session is connected to lacks the language plpgsql".to_owned());
    }
    Ok(reasons)
}

const HINDRANCES: &str = "
select d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text,
       pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE'),
       d.datname = pg_catalog.current_database(),
       array(select p.gid from pg_catalog.pg_prepared_xacts p where p.database = d.datname order by 1),
       array(select s.subname::text from pg_catalog.pg_subscription s where s.subdbid = d.oid order by 1),
       array(select s.slot_name::text from pg_catalog.pg_replication_slots s where s.database = d.datname order by 1)
  from pg_catalog.pg_database d
 where d.datname = any($1)
 order by 1";

/// Sessions of a superuser, or of a role that this one is not a member of.
const UNENDABLE: &str = "
select a.datname::text, u.rolname::text, count(*)
  from pg_catalog.pg_stat_activity a
  join pg_catalog.pg_roles u on u.oid = a.usesysid
  join pg_catalog.pg_roles me on me.rolname = current_user
 where a.datname = any($1) and not me.rolsuper and a.pid <> pg_catalog.pg_backend_pid()
   and (u.rolsuper or not (pg_catalog.pg_has_role(current_user, u.oid, 'USAGE')
                           or pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE')))
 group by 1, 2 order by 1, 2";
