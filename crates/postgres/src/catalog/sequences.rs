use crate::{Error, SequenceFacts, Session, literal, qualified};

const LIST: &str = "
    select n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relpersistence = 'u',
           coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT') and pg_catalog.has_schema_privilege(n.oid, 'USAGE'), true)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_depend d
        on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.objsubid = 0
        and d.deptype = 'e' and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
    left join pg_catalog.pg_extension e on e.oid = d.refobjid
    where c.relkind = 'S' and c.relpersistence <> 't'
        and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        and (e.oid is null or c.oid = any (e.extconfig))
    order by 1, 2";

/// Schema, name, whether it is unlogged, whether it may be read.
type Listed = (String, String, bool, bool);

/// Sequences read by one statement.
const BATCH: usize = 100;

/// Where every sequence stands now. Sequences know no snapshot: read after the snapshot was taken, they
/// are never behind the rows. Those that a standby has nothing of are left out.
pub(crate) async fn read(session: &mut Session) -> Result<Vec<SequenceFacts>, Error> {
    let mut listed = list(session).await?;
    listed.retain(|(_, _, unlogged, _)| !(session.standby && *unlogged));
    let unreadable: Vec<_> =
        listed.iter().filter(|(.., readable)| !readable).map(|(schema, name, ..)| format!("{schema}.{name}")).collect();
    if !unreadable.is_empty() {
        return Err(Error::Unreadable { database: session.database.clone(), tables: unreadable });
    }
    let mut found = Vec::with_capacity(listed.len());
    for batch in listed.chunks(BATCH) {
        let one = |(schema, name, ..): &Listed| {
            format!(
                "select {}::pg_catalog.text, {}::pg_catalog.text, last_value, is_called from {}",
                literal(schema),
                literal(name),
                qualified(schema, name)
            )
        };
        let sql = batch.iter().map(one).collect::<Vec<_>>().join(" union all ");
        let rows: Vec<(String, String, i64, bool)> = session.rows("read the sequences", &sql).await?;
        found.extend(rows.into_iter().map(|(schema, name, last_value, is_called)| SequenceFacts {
            schema,
            name,
            last_value,
            is_called,
        }));
    }
    found.sort();
    Ok(found)
}

/// The sequences that a standby has nothing of, as `schema.sequence`.
pub(crate) async fn lost_on_standby(session: &mut Session) -> Result<Vec<String>, Error> {
    if !session.standby {
        return Ok(Vec::new());
    }
    let listed = list(session).await?.into_iter();
    Ok(listed.filter(|(_, _, unlogged, _)| *unlogged).map(|(schema, name, ..)| format!("{schema}.{name}")).collect())
}

async fn list(session: &mut Session) -> Result<Vec<Listed>, Error> {
    session.rows("list the sequences", LIST).await
}
