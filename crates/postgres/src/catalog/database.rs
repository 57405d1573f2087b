use serde_json::Value;

use crate::{DatabaseFacts, Error, ExtensionFacts, Session, SettingFacts};

/// The database's own row of the catalog. Its columns change from major to major, so it is read as JSON.
const PROPERTIES: &str = "
    select pg_catalog.to_jsonb(d) - 'datacl', pg_catalog.pg_get_userbyid(d.datdba)::pg_catalog.text,
           pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text, t.spcname::pg_catalog.text,
           pg_catalog.shobj_description(d.oid, 'pg_database'),
           case when d.datacl is not null
                then array(select i::pg_catalog.text from pg_catalog.unnest(d.datacl) i) end,
           case when pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                then pg_catalog.pg_database_size(d.oid) else 0 end
    from pg_catalog.pg_database d join pg_catalog.pg_tablespace t on t.oid = d.dattablespace
    where d.datname = pg_catalog.current_database()";

const SETTINGS: &str = "
    select r.rolname::pg_catalog.text, c.setting
    from pg_catalog.pg_db_role_setting s
    cross join lateral pg_catalog.unnest(s.setconfig) as c(setting)
    left join pg_catalog.pg_roles r on r.oid = s.setrole
    where s.setdatabase = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
    order by 1 nulls first, 2";

const LABELS: &str = "
    select provider, label from pg_catalog.pg_shseclabel
    where classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
        and objoid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
    order by 1";

const EXTENSIONS: &str = "
    select e.extname::pg_catalog.text, e.extversion, n.nspname::pg_catalog.text
    from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace order by 1";

const UNVALIDATED: &str = "
    select pg_catalog.concat_ws('.', n.nspname, coalesce(c.relname, t.typname), k.conname)
    from pg_catalog.pg_constraint k
    join pg_catalog.pg_namespace n on n.oid = k.connamespace
    left join pg_catalog.pg_class c on c.oid = k.conrelid
    left join pg_catalog.pg_type t on t.oid = k.contypid
    where not k.convalidated and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    order by 1";

type Properties = (Value, String, String, String, Option<String>, Option<Vec<String>>, i64);

/// Everything that stands beside the objects of the database and that a dump of it leaves out.
pub(crate) async fn read(session: &mut Session, label: &str) -> Result<DatabaseFacts, Error> {
    let (row, owner, encoding, tablespace, comment, acl, bytes): Properties =
        session.row("read the database's properties", PROPERTIES).await?;
    let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let settings: Vec<(Option<String>, String)> = session.rows("read the database's settings", SETTINGS).await?;
    let extensions: Vec<(String, String, String)> = session.rows("list the extensions", EXTENSIONS).await?;
    let publications: Vec<(String,)> = session
        .rows("list the publications", "select pubname::pg_catalog.text from pg_catalog.pg_publication order by 1")
        .await?;
    let unvalidated: Vec<(String,)> = session.rows("look for constraints not validated", UNVALIDATED).await?;
    Ok(DatabaseFacts {
        label: label.to_owned(),
        name: session.database.clone(),
        owner,
        encoding,
        collate: text("datcollate").unwrap_or_default(),
        ctype: text("datctype").unwrap_or_default(),
        locale_provider: text("datlocprovider").unwrap_or_else(|| "c".to_owned()),
        locale: text("datlocale").or_else(|| text("daticulocale")),
        icu_rules: text("daticurules"),
        tablespace,
        connection_limit: row.get("datconnlimit").and_then(Value::as_i64).map_or(-1, |limit| limit as i32),
        comment,
        acl,
        settings: settings.into_iter().filter_map(|(role, setting)| split_setting(role, &setting)).collect(),
        security_labels: session.rows("read the database's labels", LABELS).await?,
        bytes: u64::try_from(bytes).unwrap_or_default(),
        extensions: extensions
            .into_iter()
            .map(|(name, version, schema)| ExtensionFacts { name, version, schema })
            .collect(),
        publications: publications.into_iter().map(|(name,)| name).collect(),
        unvalidated: Some(unvalidated.into_iter().map(|(name,)| name).collect()),
        ..DatabaseFacts::default()
    })
}

pub(crate) fn split_setting(role: Option<String>, setting: &str) -> Option<SettingFacts> {
    let (name, value) = setting.split_once('=')?;
    Some(SettingFacts { role, name: name.to_owned(), value: value.to_owned() })
}

/// What lives in or beside the database and no snapshot of it can hold.
pub(crate) async fn not_covered(session: &mut Session) -> Result<Vec<String>, Error> {
    let sql = "
        select 'the subscription ' || s.subname || ' as one: what it holds of its publisher is copied as ordinary rows'
            from pg_catalog.pg_stat_subscription s where s.subid in (select d.objid from pg_catalog.pg_shdepend d
                where d.dbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
        union all
        select 'the index ' || i.indexrelid::pg_catalog.regclass::pg_catalog.text || ', which is not valid'
            from pg_catalog.pg_index i
            join pg_catalog.pg_class c on c.oid = i.indexrelid
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where not i.indisvalid and c.relkind = 'i' and n.nspname !~ '^pg_'
        union all
        select count(*) || ' temporary tables, which belong to sessions'
            from pg_catalog.pg_class where relkind = 'r' and relpersistence = 't' having count(*) > 0
        union all
        select 'the logical replication slot ' || slot_name
            from pg_catalog.pg_replication_slots where database = pg_catalog.current_database()
        union all
        select 'prepared transaction ' || gid || ', which is neither committed nor rolled back'
            from pg_catalog.pg_prepared_xacts where database = pg_catalog.current_database()";
    let rows: Vec<(String,)> = session.rows("look for what cannot be captured", sql).await?;
    Ok(rows.into_iter().map(|(text,)| text).collect())
}
