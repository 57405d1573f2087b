use std::collections::BTreeMap;

use sqlx::Row;

use super::mark::{Mark, split};
use crate::{Error, Session};

/// A database as the server's catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub oid: i64,
    pub name: String,
    pub open: bool,
    pub limit: i32,
    /// The comment without the mark.
    pub words: Option<String>,
    pub mark: Option<Mark>,
    /// The oids of the roles that the owner let connect, 0 for everybody, without the owner, the
    /// connected role, and those who may pass the right on.
    pub connect: Vec<i64>,
    pub read_only: Option<String>,
}

const ENTRIES: &str = "
select d.oid::int8, d.datname::text, d.datallowconn, d.datconnlimit,
       pg_catalog.shobj_description(d.oid, 'pg_database') as comment,
       array(select a.grantee::int8
               from pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
              where a.privilege_type = 'CONNECT' and a.grantor = d.datdba and not a.is_grantable
                and a.grantee <> d.datdba
                and a.grantee <> (select r.oid from pg_catalog.pg_roles r where r.rolname = current_user)
              order by 1) as connect,
       (select split_part(setting, '=', 2) from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) setting
         where s.setdatabase = d.oid and s.setrole = 0
           and setting like 'default\\_transaction\\_read\\_only=%') as read_only
  from pg_catalog.pg_database d
 where d.datname = any($1)";

/// The databases of these names that there are.
pub(crate) async fn look_up(session: &mut Session, names: &[String]) -> Result<BTreeMap<String, Entry>, Error> {
    let rows = sqlx::query(ENTRIES)
        .bind(names)
        .fetch_all(&mut session.connection)
        .await
        .map_err(Error::query("read the list of databases", &session.database))?;
    let entries = rows.iter().map(|row| entry(row).map(|entry| (entry.name.clone(), entry)));
    entries.collect::<Result<_, _>>().map_err(Error::query("read the list of databases", &session.database))
}

fn entry(row: &sqlx::postgres::PgRow) -> Result<Entry, sqlx::Error> {
    let comment: Option<String> = row.try_get(4)?;
    let (words, mark) = split(comment.as_deref());
    Ok(Entry {
        oid: row.try_get(0)?,
        name: row.try_get(1)?,
        open: row.try_get(2)?,
        limit: row.try_get(3)?,
        words,
        mark,
        connect: row.try_get(5)?,
        read_only: row.try_get(6)?,
    })
}

/// The names of the roles with these oids that there still are; 0 is `public`.
pub(crate) async fn role_names(session: &mut Session, oids: &[i64]) -> Result<BTreeMap<i64, String>, Error> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as("select oid::int8, rolname::text from pg_catalog.pg_roles where oid::int8 = any($1)")
            .bind(oids)
            .fetch_all(&mut session.connection)
            .await
            .map_err(Error::query("read the list of roles", &session.database))?;
    let named = rows.into_iter().map(|(oid, name)| (oid, crate::identifier(&name)));
    Ok(named.chain([(0, "public".to_owned())]).collect())
}
