//! What was recorded and this role may not make again. It is said before hours of copying, not after them.

use crate::{DatabaseFacts, Error, Session};

/// Groups by which managed servers give some of a superuser's rights: what they may is known to nobody but them.
const MANAGED: &str = "
    select exists (select from pg_catalog.pg_roles where rolname in ('rds_superuser', 'cloudsqlsuperuser',
        'azure_pg_admin', 'alloydbsuperuser', 'neon_superuser', 'supabase_admin'))";

/// Extensions that are not trusted, and are not in every new database.
const EXTENSIONS: &str = "
    select distinct v.name::pg_catalog.text from pg_catalog.pg_available_extension_versions v
     where v.superuser and not v.trusted and v.name <> 'plpgsql' order by 1";

/// Roles whose settings this one may not change.
const ROLES: &str = "
    select r.rolname::pg_catalog.text from pg_catalog.pg_roles r, pg_catalog.pg_roles me
     where me.rolname = current_user and r.oid <> me.oid
       and not (me.rolcreaterole and not r.rolsuper
                and (pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
                     or pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION')))";

/// Parameters that only a superuser may set, or who was granted it.
const PARAMETERS: &str = "
    select name from pg_catalog.pg_settings where context in ('superuser', 'superuser-backend')
       and not pg_catalog.has_parameter_privilege(name, 'SET')";

/// Owners of objects, but for those of extensions, whom this role could not give them back to.
const OWNERS: &str = "
    select distinct pg_catalog.pg_get_userbyid(s.refobjid)::pg_catalog.text from pg_catalog.pg_shdepend s
     where s.deptype = 'o' and s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
       and s.dbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
       and not pg_catalog.pg_has_role(s.refobjid, 'MEMBER')
       and pg_catalog.pg_get_userbyid(s.refobjid) !~ '^pg_'
       and not exists (select from pg_catalog.pg_depend d
                        where d.classid = s.classid and d.objid = s.objid and d.deptype in ('e', 'i'))
     order by 1";

/// Why `facts` cannot be made again by this role. Empty where it can, or where only the server knows.
pub(crate) async fn rights(session: &mut Session, facts: &DatabaseFacts) -> Result<Vec<String>, Error> {
    if session.superuser || session.row::<(bool,)>("look for a managed server's roles", MANAGED).await?.0 {
        return Ok(Vec::new());
    }
    let mut reasons = Vec::new();
    let wanting: Vec<(String,)> = session.rows("list the extensions for superusers", EXTENSIONS).await?;
    let may_not = |list: &[(String,)], name: &str| list.iter().any(|(one,)| one == name);
    for extension in facts.extensions.iter().filter(|extension| may_not(&wanting, &extension.name)) {
        reasons.push(format!(
            "{} has the extension {}, which only a superuser may create in a copy",
            facts.label, extension.name
        ));
    }
    let roles: Vec<(String,)> = session.rows("list the roles of others", ROLES).await?;
    let parameters: Vec<(String,)> = session.rows("list the parameters for superusers", PARAMETERS).await?;
    for setting in &facts.settings {
        match &setting.role {
            Some(role) if may_not(&roles, role) => reasons.push(format!(
                "{} has the setting {} for {role}, which this role may not give to a copy",
                facts.label, setting.name
            )),
            _ if may_not(&parameters, &setting.name.to_lowercase()) => reasons.push(format!(
                "{} has the setting {}, which only a superuser may give to a copy",
                facts.label, setting.name
            )),
            _ => {}
        }
    }
    Ok(reasons)
}

/// Owners in the database of this session whom a copy's objects could not be given to.
pub(crate) async fn owners(session: &mut Session) -> Result<Vec<String>, Error> {
    if session.superuser {
        return Ok(Vec::new());
    }
    let owners: Vec<(String,)> = session.rows("look for owners out of reach", OWNERS).await?;
    Ok(owners.into_iter().map(|(owner,)| owner).collect())
}
