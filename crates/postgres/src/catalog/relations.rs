use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use crate::{Error, RowsOf, Session, qualified};

/// A table, partitioned table, foreign table or materialized view of the user's, and tables of extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub oid: i64,
    pub schema: String,
    pub name: String,
    /// As in `pg_class.relkind`: `r p f m`.
    pub kind: String,
    pub unlogged: bool,
    pub populated: bool,
    /// Whether its rows lie in blocks that can be read apart.
    pub in_blocks: bool,
    pub heap_bytes: i64,
    /// Heap and what is stored out of line.
    pub table_bytes: i64,
    /// As the server last counted; below zero where it never has.
    pub rows_estimated: i64,
    pub readable: bool,
    /// Whether policies would hide rows from this session.
    pub hidden_rows: bool,
    pub extension: Option<String>,
    /// Where the extension's author said that rows of this table are the user's: which of them.
    pub condition: Option<String>,
    pub columns: Vec<String>,
    pub generated: Vec<String>,
    /// The largest first.
    pub large_indexes: Vec<String>,
}

impl FromRow<'_, PgRow> for Relation {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            oid: row.try_get("oid")?,
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            kind: row.try_get("kind")?,
            unlogged: row.try_get("unlogged")?,
            populated: row.try_get("populated")?,
            in_blocks: row.try_get("in_blocks")?,
            heap_bytes: row.try_get("heap_bytes")?,
            table_bytes: row.try_get("table_bytes")?,
            rows_estimated: row.try_get("rows_estimated")?,
            readable: row.try_get("readable")?,
            hidden_rows: row.try_get("hidden_rows")?,
            extension: row.try_get("extension")?,
            condition: row.try_get("condition")?,
            columns: row.try_get("columns")?,
            generated: row.try_get("generated")?,
            large_indexes: row.try_get("large_indexes")?,
        })
    }
}

/// The right to a table that is dropped meanwhile is unknown: the lock that is taken next finds it gone.
const LIST: &str = "
    select c.oid::pg_catalog.int8 as oid, n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name,
           c.relkind::pg_catalog.text as kind, c.relpersistence = 'u' as unlogged, c.relispopulated as populated,
           exists (select from pg_catalog.pg_am a where a.oid = c.relam
               and a.amhandler = 'pg_catalog.heap_tableam_handler'::pg_catalog.regproc) as in_blocks,
           case when c.reltuples = 0 then 0 else greatest(c.relpages, 1) end::pg_catalog.int8 * 8192 as heap_bytes, c.relpages::pg_catalog.int8 * 8192 as table_bytes,
           c.reltuples::pg_catalog.int8 as rows_estimated,
           coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT')
               and pg_catalog.has_schema_privilege(n.oid, 'USAGE'), true) as readable,
           c.relrowsecurity and pg_catalog.row_security_active(c.oid) as hidden_rows,
           e.extname::pg_catalog.text as extension,
           e.extcondition[pg_catalog.array_position(e.extconfig, c.oid)] as condition,
           array(select a.attname::pg_catalog.text from pg_catalog.pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                 order by a.attnum) as columns,
           array(select a.attname::pg_catalog.text from pg_catalog.pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> ''
                 order by a.attnum) as generated,
           case when c.relpages < 1024 then '{}' else array(
               select x.relname::pg_catalog.text from pg_catalog.pg_index i
               join pg_catalog.pg_class x on x.oid = i.indexrelid
               where i.indrelid = c.oid and x.relpages >= 1024 order by x.relpages desc, x.relname) end as large_indexes
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_depend d
        on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.objsubid = 0
        and d.deptype = 'e' and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
    left join pg_catalog.pg_extension e on e.oid = d.refobjid
    where c.relkind in ('r', 'p', 'f', 'm') and c.relpersistence <> 't'
        and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    order by n.nspname, c.relname";

/// All relations that may hold rows, by schema and name. Waits for no lock, so sizes are those of the last
/// ANALYZE.
pub(crate) async fn list(session: &mut Session) -> Result<Vec<Relation>, Error> {
    session.rows("list the tables", LIST).await
}

/// Reads the sizes of tables as they are now. The session must have locked them, for whoever asks for a
/// size waits for a lock.
pub(crate) async fn measure(session: &mut Session, relations: &mut [Relation]) -> Result<(), Error> {
    let oids: Vec<_> =
        relations.iter().filter(|relation| relation.holds_rows()).map(|relation| relation.oid.to_string()).collect();
    let sql = format!(
        "select o, coalesce(pg_catalog.pg_relation_size(o::pg_catalog.oid), 0),
                coalesce(pg_catalog.pg_table_size(o::pg_catalog.oid), 0)
         from pg_catalog.unnest('{{{}}}'::pg_catalog.int8[]) as o",
        oids.join(",")
    );
    let rows: Vec<(i64, i64, i64)> = session.rows("measure the tables", &sql).await?;
    let sizes: HashMap<i64, (i64, i64)> = rows.into_iter().map(|(oid, heap, table)| (oid, (heap, table))).collect();
    for relation in relations {
        if let Some((heap, table)) = sizes.get(&relation.oid) {
            (relation.heap_bytes, relation.table_bytes) = (*heap, *table);
        }
    }
    Ok(())
}

impl Relation {
    /// For SQL, quoted.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// For people: `public.orders`.
    pub(crate) fn title(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Whether it is locked and listed among the facts: foreign tables and materialized views hold nothing
    /// of their own, and the tables of an extension come with it.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p") && (self.extension.is_none() || self.is_configuration())
    }

    pub(crate) fn holds_rows(&self) -> bool {
        self.kind == "r" && self.is_table()
    }

    pub(crate) fn is_configuration(&self) -> bool {
        self.extension.is_some() && self.condition.is_some()
    }

    pub(crate) fn rows_of(&self) -> RowsOf {
        match (&self.extension, &self.condition) {
            (Some(extension), Some(condition)) => {
                RowsOf::ExtensionConfiguration { extension: extension.clone(), condition: condition.clone() }
            }
            _ if self.kind == "p" => RowsOf::PartitionedTable,
            _ => RowsOf::Table,
        }
    }
}
