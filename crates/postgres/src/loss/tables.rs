use std::collections::{BTreeMap, BTreeSet};

use crate::capture::statements::listed;
use crate::catalog::partitions::{self, Scattered};
use crate::catalog::relations::{self, Relation};
use crate::{Error, Session, history, identifier};

/// A sample holds one row of so many.
pub(super) const SAMPLE_PARTS: u64 = 16;
/// Schema of Backstay's own bookkeeping.
const OWN_SCHEMA: &str = "backstay";
/// `int8`, `int2`, `int4`: their order is the same for us as for the server.
const INTEGERS: [i64; 3] = [20, 21, 23];

/// A table of the kept database, of the live one, or of both under one name.
pub(super) struct Pair {
    pub kept: Option<Relation>,
    pub live: Option<Relation>,
    /// The columns that both have.
    pub columns: Vec<String>,
    pub key: Key,
}

/// What tells which row of one side is which of the other.
pub(super) enum Key {
    Integer(String),
    Columns(Vec<String>),
    /// Nothing: rows are equal or they are not.
    None,
}

#[derive(Default)]
pub(super) struct Pairs {
    pub pairs: Vec<Pair>,
    pub caveats: Vec<String>,
    pub all_readable: bool,
}

impl Key {
    pub(super) fn columns(&self) -> &[String] {
        match self {
            Self::Integer(column) => std::slice::from_ref(column),
            Self::Columns(columns) => columns,
            Self::None => &[],
        }
    }
}

impl Pair {
    pub(super) fn title(&self) -> String {
        self.kept.as_ref().or(self.live.as_ref()).map(Relation::title).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> i64 {
        self.kept.iter().chain(&self.live).map(|relation| relation.heap_bytes).max().unwrap_or_default()
    }

    /// A key and what to compare under it, ordered by the key, both as bytes.
    pub(super) fn lines(&self, relation: &Relation, sampled: bool) -> String {
        let rows = rows_of(relation);
        let slice = |hash: &str| match sampled {
            true => format!("where pg_catalog.get_byte({hash}, 0) < {}", 256 / SAMPLE_PARTS),
            false => String::new(),
        };
        let row = hash(&self.columns);
        match &self.key {
            Key::Integer(column) => {
                let name = identifier(column);
                let slice = slice(&hash(std::slice::from_ref(column)));
                format!(
                    "select pg_catalog.int8send(t.{name}::pg_catalog.int8), {row} from {rows} {slice} order by t.{name}"
                )
            }
            Key::Columns(columns) => {
                let key = hash(columns);
                format!("select {key}, {row} from {rows} {} order by 1", slice(&key))
            }
            Key::None => format!(
                "select h, pg_catalog.int8send(pg_catalog.count(*))
                   from (select {row} as h from {rows} {}) as hashed group by h order by h",
                slice(&row)
            ),
        }
    }
}

/// The rows of a table itself, or of a whole tree of partitions, as `t`.
pub(super) fn rows_of(relation: &Relation) -> String {
    if relation.kind == "p" {
        return format!("{} as t", relation.qualified());
    }
    match (&relation.extension, &relation.condition) {
        // The condition is SQL of the extension's author: `WHERE …`, or nothing.
        (Some(_), Some(condition)) => format!("(select * from only {} {condition}) as t", relation.qualified()),
        _ => format!("only {} as t", relation.qualified()),
    }
}

/// 128 bits of these columns, as the server computes them from their text.
pub(super) fn hash(columns: &[String]) -> String {
    let columns = columns.iter().map(|column| format!("t.{}", identifier(column))).collect::<Vec<_>>().join(", ");
    format!(
        "pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to(row({columns})::pg_catalog.text, \
         pg_catalog.getdatabaseencoding())), 1, 16)"
    )
}

const KEYS: &str = "
    select n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
           array(select a.attname::pg_catalog.text
                   from pg_catalog.unnest(i.indkey) with ordinality as k(number, place)
                   join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
                  where k.place <= i.indnkeyatts order by k.place),
           array(select a.atttypid::pg_catalog.int8
                   from pg_catalog.unnest(i.indkey) with ordinality as k(number, place)
                   join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
                  where k.place <= i.indnkeyatts order by k.place)
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where i.indisprimary and i.indisvalid";

type Keys = BTreeMap<(String, String), (Vec<String>, Vec<i64>)>;

async fn keys(session: &mut Session) -> Result<Keys, Error> {
    let rows: Vec<(String, String, Vec<String>, Vec<i64>)> = session.rows("read the primary keys", KEYS).await?;
    Ok(rows.into_iter().map(|(schema, name, columns, types)| ((schema, name), (columns, types))).collect())
}

/// Tables whose rows are nobody's but the migrations' and Backstay's.
pub(super) fn is_bookkeeping(schema: &str, title: &str, history: &[String]) -> bool {
    schema == OWN_SCHEMA || history.iter().any(|table| table == title)
}

/// Every table that has rows on one side or both, and what cannot be compared.
pub(super) async fn pairs(kept: &mut Session, live: &mut Session, excluded: &[String]) -> Result<Pairs, Error> {
    let mut found = Pairs { all_readable: true, ..Pairs::default() };
    let history: Vec<_> = history::heads(kept)
        .await?
        .into_iter()
        .chain(history::heads(live).await?)
        .map(|head| format!("{}.{}", head.schema, head.table))
        .collect();
    if has_large_objects(kept).await? || has_large_objects(live).await? {
        found.caveats.push("large objects were not compared".to_owned());
    }
    let keys = (keys(kept).await?, keys(live).await?);
    let mut trees = partitions::scattered(kept).await?;
    trees.extend(partitions::scattered(live).await?);
    let mut kept = by_name(relations::list(kept).await?, &trees);
    let mut live = by_name(relations::list(live).await?, &trees);
    let names: BTreeSet<_> = kept.keys().chain(live.keys()).cloned().collect();
    for name in names {
        let (kept, live) = (kept.remove(&name), live.remove(&name));
        let either = || kept.iter().chain(&live);
        let Some(title) = either().next().map(Relation::title) else { continue };
        if is_bookkeeping(&name.0, &title, &history) {
            continue;
        }
        if either().any(|one| excluded.iter().any(|name| *name == one.title() || *name == one.qualified())) {
            found.caveats.push(format!("the rows of {title} are left out by the configuration"));
            continue;
        }
        if either().any(|one| !one.readable || one.hidden_rows) {
            found.caveats.push(format!("the rows of {title} cannot all be read and were not compared"));
            found.all_readable = false;
            continue;
        }
        if let (Some(kept), Some(live)) = (&kept, &live)
            && kept.columns != live.columns
        {
            found.caveats.push(format!("{title} differs in its columns: only those on both sides were compared"));
        }
        let columns = common_columns(kept.as_ref(), live.as_ref());
        let key = key(&keys, &name, &columns, kept.is_some() && live.is_some());
        found.pairs.push(Pair { kept, live, columns, key });
    }
    Ok(found)
}

async fn has_large_objects(session: &mut Session) -> Result<bool, Error> {
    let sql = "select exists (select from pg_catalog.pg_largeobject_metadata)";
    let (some,): (bool,) = session.row("look for large objects", sql).await?;
    Ok(some)
}

/// What holds rows. Of partitions whose rows lie elsewhere in every copy, the whole tree stands for them.
fn by_name(relations: Vec<Relation>, trees: &Scattered) -> BTreeMap<(String, String), Relation> {
    let name = |relation: &Relation| (relation.schema.clone(), relation.name.clone());
    let mut bytes: BTreeMap<(String, String), i64> =
        trees.values().map(|tree| ((tree.schema.clone(), tree.name.clone()), 0)).collect();
    let mut tables = BTreeMap::new();
    for relation in relations {
        let name = name(&relation);
        if let Some(tree) = trees.get(&name) {
            *bytes.entry((tree.schema.clone(), tree.name.clone())).or_default() += relation.heap_bytes.max(0);
        } else if relation.holds_rows() || bytes.contains_key(&name) {
            tables.insert(name, relation);
        }
    }
    for (name, relation) in &mut tables {
        relation.heap_bytes += bytes.get(name).copied().unwrap_or_default();
    }
    tables
}

fn common_columns(kept: Option<&Relation>, live: Option<&Relation>) -> Vec<String> {
    match (kept, live) {
        (Some(kept), Some(live)) => {
            kept.columns.iter().filter(|column| live.columns.contains(column)).cloned().collect()
        }
        (one, other) => one.or(other).map(|relation| relation.columns.clone()).unwrap_or_default(),
    }
}

fn key(keys: &(Keys, Keys), name: &(String, String), columns: &[String], both: bool) -> Key {
    let (Some((kept, types)), live) = (keys.0.get(name), keys.1.get(name)) else { return Key::None };
    let same = live.is_some_and(|(live, live_types)| {
        live == kept
            && live_types.iter().zip(types).all(|(a, b)| a == b || [a, b].iter().all(|one| INTEGERS.contains(one)))
    });
    if kept.is_empty() || (both && !same) || !kept.iter().all(|column| columns.contains(column)) {
        return Key::None;
    }
    match (kept.as_slice(), types.as_slice()) {
        ([column], [kind]) if INTEGERS.contains(kind) => Key::Integer(column.clone()),
        _ => Key::Columns(kept.clone()),
    }
}

/// For SQL: these columns, or nothing that a list of none could break.
pub(super) fn selected(columns: &[String]) -> String {
    listed(columns)
}
