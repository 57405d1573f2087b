use std::collections::HashMap;

use crate::{Error, Session};

/// Partitions of which no copy holds the rows that this one holds: the hash of an enum's value, or of what
/// may contain one, is that of an oid, and a copy gives another.
pub(crate) const SCATTERED: &str = "
    select n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
           rn.nspname::pg_catalog.text, r.relname::pg_catalog.text,
           array(select a.attname::pg_catalog.text from pg_catalog.pg_attribute a
                 where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_class r on r.oid = pg_catalog.pg_partition_root(c.oid)
    join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
    where c.relispartition and c.relkind = 'r' and exists (
        select from pg_catalog.pg_partition_ancestors(c.oid) as above (relid)
        join pg_catalog.pg_partitioned_table p on p.partrelid = above.relid
        join pg_catalog.pg_opclass o on o.oid = any (p.partclass)
        join pg_catalog.pg_type t on t.oid = o.opcintype
        where p.partstrat = 'h' and t.typtype = 'p')";

/// The root of a partition's tree.
pub(crate) struct Tree {
    pub schema: String,
    pub name: String,
    /// In the root's order, which is not that of every partition.
    columns: Vec<String>,
}

/// Partitions by schema and name, whose rows can be stored and compared only by the tree.
pub(crate) type Scattered = HashMap<(String, String), Tree>;

pub(crate) async fn scattered(session: &mut Session) -> Result<Scattered, Error> {
    let rows: Vec<(String, String, String, String, Vec<String>)> =
        session.rows("look for partitions whose rows move in a copy", SCATTERED).await?;
    let found = rows.into_iter().map(|(schema, name, root_schema, root, columns)| {
        ((schema, name), Tree { schema: root_schema, name: root, columns })
    });
    Ok(found.collect())
}

impl Tree {
    /// Puts a partition's columns into the root's order: then a row is the same text wherever it lies.
    pub(crate) fn order(&self, columns: &mut [String]) {
        columns.sort_by_key(|column| self.columns.iter().position(|one| one == column));
    }
}
