use std::collections::BTreeSet;

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use super::database::split_setting;
use crate::{Error, RoleFacts, Session, literal};

/// The roles that anything in this database names. The role that `initdb` made is in no list of
/// dependencies, so owners are looked up as well.
const NEEDED: &str = "
    with here as (select oid, datdba from pg_catalog.pg_database where datname = pg_catalog.current_database()),
    named as (
        select d.refobjid as role from pg_catalog.pg_shdepend d, here
            where d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
                and (d.dbid = here.oid
                     or d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass and d.objid = here.oid)
        union select datdba from here
        union select relowner from pg_catalog.pg_class where oid >= 16384
        union select proowner from pg_catalog.pg_proc where oid >= 16384
        union select nspowner from pg_catalog.pg_namespace where oid >= 16384
        union select setrole from pg_catalog.pg_db_role_setting, here where setdatabase = here.oid
    )
    select distinct r.rolname::pg_catalog.text from named join pg_catalog.pg_roles r on r.oid = named.role order by 1";

pub(crate) async fn needed(session: &mut Session) -> Result<Vec<String>, Error> {
    let rows: Vec<(String,)> = session.rows("list the roles", NEEDED).await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

impl FromRow<'_, PgRow> for RoleFacts {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let name: String = row.try_get("name")?;
        let settings: Vec<String> = row.try_get("settings")?;
        Ok(Self {
            settings: settings.iter().filter_map(|setting| split_setting(Some(name.clone()), setting)).collect(),
            name,
            superuser: row.try_get("superuser")?,
            inherit: row.try_get("inherit")?,
            create_role: row.try_get("create_role")?,
            create_database: row.try_get("create_database")?,
            login: row.try_get("login")?,
            replication: row.try_get("replication")?,
            bypass_row_security: row.try_get("bypass_row_security")?,
            connection_limit: row.try_get("connection_limit")?,
            member_of: row.try_get("member_of")?,
        })
    }
}

/// These roles and all they are members of.
pub(crate) async fn describe(session: &mut Session, names: &BTreeSet<String>) -> Result<Vec<RoleFacts>, Error> {
    let names: Vec<_> = names.iter().map(|name| format!("{}::pg_catalog.text", literal(name))).collect();
    let sql = format!(
        "with recursive wanted(oid) as (
            select oid from pg_catalog.pg_roles where rolname::pg_catalog.text = any (array[{}]::pg_catalog.text[])
            union select m.roleid from pg_catalog.pg_auth_members m join wanted w on w.oid = m.member)
        select r.rolname::pg_catalog.text as name, r.rolsuper as superuser, r.rolinherit as inherit,
            r.rolcreaterole as create_role, r.rolcreatedb as create_database, r.rolcanlogin as login,
            r.rolreplication as replication, r.rolbypassrls as bypass_row_security,
            r.rolconnlimit as connection_limit,
            array(select g.rolname::pg_catalog.text from pg_catalog.pg_auth_members m
                  join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid
                  group by 1 order by 1) as member_of,
            coalesce(r.rolconfig, '{{}}') as settings
        from pg_catalog.pg_roles r join wanted w on w.oid = r.oid order by 1",
        names.join(", ")
    );
    session.rows("describe the roles", &sql).await
}
