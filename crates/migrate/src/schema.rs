use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::postgres::PgConnection;

/// What a database consists of, one definition for each object, to be compared with another moment
/// or another database. History and bookkeeping of migrations are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Schema {
    pub objects: BTreeMap<String, String>,
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub object: String,
    /// Nothing where it was not there.
    pub before: Option<String>,
    /// Nothing where it is gone.
    pub after: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "+ {}: {after}", self.object),
            (Some(before), None) => write!(f, "- {}: {before}", self.object),
            (Some(before), Some(after)) => write!(f, "~ {}: {before} → {after}", self.object),
            (None, None) => write!(f, "  {}", self.object),
        }
    }
}

/// Every kind of object as (identity, definition). Names are written in full, whatever the search
/// path, because the query runs with an empty one.
const OBJECTS: &str = "
with own as (
    select n.oid, n.nspname from pg_namespace n
    where n.nspname not in ('pg_catalog', 'information_schema', 'backstay') and n.nspname !~ '^pg_(toast|temp)'
), member as (
    select classid, objid from pg_depend where deptype = 'e'
), rel as (
    select c.*, format('%I.%I', o.nspname, c.relname) as name from pg_class c join own o on o.oid = c.relnamespace
    where c.relname <> '_sqlx_migrations' and not exists (select from member m where m.classid = 'pg_class'::regclass and m.objid = c.oid)
)
select 'schema ' || quote_ident(nspname), 'schema' from own
union all
select case c.relkind when 'v' then 'view ' when 'm' then 'materialized view ' when 'S' then 'sequence '
                      when 'f' then 'foreign table ' else 'table ' end || c.name,
       concat_ws(' ', 'kind ' || c.relkind::text, case c.relpersistence when 'u' then 'unlogged' end,
                 case when c.relrowsecurity then 'row security' end, case when c.relforcerowsecurity then 'forced' end,
                 'options ' || c.reloptions::text, 'replica identity ' || nullif(c.relreplident::text, 'd'),
                 case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end,
                 case when c.relispartition then pg_get_expr(c.relpartbound, c.oid) end,
                 case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end)
from rel c where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
union all
select 'inheritance ' || c.name || ' of ' || i.inhparent::regclass, 'inherits'
from pg_inherits i join rel c on c.oid = i.inhrelid where c.relkind in ('r', 'p', 'f')
union all
select 'column ' || c.name || '.' || quote_ident(a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
                 case when a.attgenerated::text <> '' then 'generated' end, 'default ' || pg_get_expr(d.adbin, d.adrelid),
                 'identity ' || nullif(a.attidentity::text, ''), 'storage ' || nullif(a.attstorage::text, t.typstorage::text),
                 'collation ' || case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end)
from pg_attribute a join rel c on c.oid = a.attrelid join pg_type t on t.oid = a.atttypid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'f', 'c', 'm')
union all
select 'constraint ' || coalesce(c.name, k.contypid::regtype::text) || ' ' || quote_ident(k.conname),
       pg_get_constraintdef(k.oid)
from pg_constraint k left join rel c on c.oid = k.conrelid
where (c.oid is not null or (k.contypid <> 0 and k.connamespace in (select oid from own))) and k.contype <> 'n'
union all
select 'index ' || c.name, pg_get_indexdef(c.oid) || case when i.indisvalid then '' else ' (invalid)' end
from pg_index i join rel c on c.oid = i.indexrelid where c.relkind in ('i', 'I')
    and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x') and i.indisvalid)
union all
select 'sequence of ' || c.name, concat_ws(' ', format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)
from pg_sequence s join rel c on c.oid = s.seqrelid
union all
select 'trigger ' || c.name || ' ' || quote_ident(t.tgname), pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
from pg_trigger t join rel c on c.oid = t.tgrelid where not t.tgisinternal
union all
select 'rule ' || c.name || ' ' || quote_ident(r.rulename), pg_get_ruledef(r.oid)
from pg_rewrite r join rel c on c.oid = r.ev_class where r.rulename <> '_RETURN'
union all
select 'policy ' || c.name || ' ' || quote_ident(p.polname),
       concat_ws(' ', p.polcmd, p.polpermissive, (select array_agg(r::regrole::text order by 1) from unnest(p.polroles) r)::text,
                 pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
from pg_policy p join rel c on c.oid = p.polrelid
union all
select 'routine ' || p.oid::regprocedure::text,
       case when p.prokind = 'a' then 'aggregate ' || pg_get_function_result(p.oid) else pg_get_functiondef(p.oid) end
from pg_proc p where p.pronamespace in (select oid from own)
    and not exists (select from member m where m.classid = 'pg_proc'::regclass and m.objid = p.oid)
union all
select 'type ' || t.oid::regtype::text,
       case t.typtype when 'e' then 'enum ' || coalesce((select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
                                                from pg_enum e where e.enumtypid = t.oid), '')
            when 'd' then concat_ws(' ', 'domain', format_type(t.typbasetype, t.typtypmod), case when t.typnotnull then 'not null' end, t.typdefault)
            else 'type ' || t.typtype::text end
from pg_type t where t.typnamespace in (select oid from own) and t.typtype in ('e', 'd', 'r')
    and not exists (select from member m where m.classid = 'pg_type'::regclass and m.objid = t.oid)
union all
select 'extension ' || quote_ident(e.extname), e.extversion from pg_extension e
union all
select 'grants on ' || c.name, (select string_agg(a::text, ' ' order by a::text) from unnest(c.relacl) a) from rel c where c.relacl is not null
union all
select 'comment on ' || c.name || case when d.objsubid > 0 then ' column ' || (select quote_ident(attname) from pg_attribute where attrelid = c.oid and attnum = d.objsubid) else '' end, d.description
from pg_description d join rel c on c.oid = d.objoid where d.classoid = 'pg_class'::regclass
union all
select 'publication ' || quote_ident(p.pubname), concat_ws(' ', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete,
       (select string_agg(r.prrelid::regclass::text, ' ' order by 1) from pg_publication_rel r where r.prpubid = p.oid))
from pg_publication p
union all
select 'event trigger ' || quote_ident(e.evtname), concat_ws(' ', e.evtevent, e.evtfoid::regproc::text, e.evtenabled)
from pg_event_trigger e
";

impl Schema {
    /// Reads it within whatever transaction is open, or several statements where none is.
    pub(crate) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let path: String = crate::target::query_scalar("select pg_catalog.current_setting('search_path')")
            .fetch_one(&mut *connection)
            .await?;
        set_path(connection, "pg_catalog").await?;
        let rows: Result<Vec<(String, Option<String>)>, _> =
            crate::target::query_as(OBJECTS).fetch_all(&mut *connection).await;
        set_path(connection, &path).await?;
        let objects = rows?.into_iter().map(|(identity, text)| (identity, text.unwrap_or_default())).collect();
        Ok(Self { objects })
    }

    /// What differs in `other`, in the order of names.
    pub fn changes_to(&self, other: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (object, before) in &self.objects {
            match other.objects.get(object) {
                Some(after) if after == before => {}
                after => {
                    changes.push(Change {
                        object: object.clone(),
                        before: Some(before.clone()),
                        after: after.cloned(),
                    });
                }
            }
        }
        for (object, after) in &other.objects {
            if !self.objects.contains_key(object) {
                changes.push(Change { object: object.clone(), before: None, after: Some(after.clone()) });
            }
        }
        changes.sort_by(|a, b| a.object.cmp(&b.object));
        changes
    }
}

async fn set_path(connection: &mut PgConnection, path: &str) -> Result<(), sqlx::Error> {
    crate::target::query("select pg_catalog.set_config('search_path', $1, false)")
        .bind(path)
        .execute(connection)
        .await
        .map(|_| ())
}
