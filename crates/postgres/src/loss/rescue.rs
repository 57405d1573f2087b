use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use backstay_part::Token;
use backstay_run::Context;
use futures_util::TryStreamExt;
use tokio::io::AsyncWriteExt;

use super::merge::{Change, Kind, Merge, number};
use super::tables::{Key, Pair, hash, rows_of, selected};
use super::{Sides, kept_of};
use crate::names::plain;
use crate::session::connect;
use crate::swap::{Switch, Trio};
use crate::{Error, ServerPart, Session, identifier, literal};

/// Rows asked for by one statement.
const BATCH: usize = 20_000;

/// What was written, and what of the kept databases was not.
#[derive(Debug, Clone, Default)]
pub struct RescueReport {
    pub tables: Vec<RescuedTable>,
    /// In words: tables that could not be read, kinds of things that are not rows of tables.
    pub not_written: Vec<String>,
}

/// Rows of one table that only the kept database has, inserted or changed there.
#[derive(Debug, Clone)]
pub struct RescuedTable {
    /// As it is called live.
    pub database: String,
    /// `schema.table`.
    pub table: String,
    pub rows: u64,
    pub file: PathBuf,
}

/// Writes the rows as COPY text into `folder`, which must be new or empty, with a script per database
/// that loads them and a README.
pub(crate) async fn rescue(
    part: &ServerPart,
    context: &Context,
    activated: &Token,
    folder: &Path,
) -> Result<RescueReport, Error> {
    let switch = Switch::read(activated)?;
    let Some(kept) = kept_of(part, &switch).await? else {
        let reason = "what the run replaced is not kept any more".to_owned();
        return Err(Error::Refused { action: "write what only the kept databases hold", reasons: vec![reason] });
    };
    make_folder(folder).await?;
    let mut report = RescueReport::default();
    let work = async {
        for trio in &kept {
            one_database(part, trio, folder, &mut report).await?;
        }
        write(folder.join("README.txt"), &readme(&report)).await
    };
    tokio::select! {
        result = work => result?,
        () = context.interrupt.requested() => return Err(Error::Interrupted),
    }
    Ok(report)
}

async fn one_database(part: &ServerPart, trio: &Trio, folder: &Path, report: &mut RescueReport) -> Result<(), Error> {
    let mut sides = Sides::open(part, trio).await?;
    let pairs = sides.pairs(part, trio).await?;
    let named = |caveat| format!("{}: {caveat}", trio.live);
    report.not_written.extend(pairs.caveats.into_iter().map(named));
    report.not_written.push(format!("{}: large objects, sequences and rows that were deleted", trio.live));
    let (snapshot,): (String,) = sides.kept.row("share the snapshot", "select pg_catalog.pg_export_snapshot()").await?;
    let settings = part.database(&trio.label).map_or_else(|| part.server(), |database| Ok(&database.settings))?;
    let mut reader = connect(&settings.with_database(&trio.kept), "rescue").await?;
    let begin =
        format!("begin isolation level repeatable read, read only; set transaction snapshot {}", literal(&snapshot));
    reader.execute("begin to read", &begin).await?;
    let mut scripts = Vec::new();
    for pair in pairs.pairs.iter().filter(|pair| pair.kept.is_some()) {
        let file = folder.join(format!("{:04}-{}.copy", report.tables.len() + 1, plain(&pair.title())));
        let rows = one_table(&mut sides, &mut reader, pair, &file).await?;
        if rows > 0 {
            scripts.push((pair.title(), load_script(pair, &file, &reader.encoding)));
            report.tables.push(RescuedTable { database: trio.live.clone(), table: pair.title(), rows, file });
        }
    }
    let order = parents_first(&mut reader).await?;
    scripts.sort_by_key(|(title, _)| order.iter().position(|one| one == title));
    let body: String = scripts.into_iter().map(|(_, script)| script).collect();
    if !body.is_empty() {
        let script = format!("\\set ON_ERROR_STOP on\nset search_path = '';\nbegin;\n{body}commit;\n");
        write(folder.join(script_name(&trio.live)), &script).await?;
    }
    reader.close().await;
    sides.close().await;
    Ok(())
}

async fn one_table(sides: &mut Sides, reader: &mut Session, pair: &Pair, file: &Path) -> Result<u64, Error> {
    let mut merge = Merge::begin(sides, pair, false).await?;
    let mut output = Output { path: file.to_owned(), file: None, rows: 0 };
    let mut batch = Vec::new();
    while let Some(change) = merge.next().await? {
        if change.kind != Kind::Deleted {
            batch.push(change);
        }
        if batch.len() >= BATCH {
            output.copy(reader, pair, &std::mem::take(&mut batch)).await?;
        }
    }
    if !batch.is_empty() {
        output.copy(reader, pair, &batch).await?;
    }
    output.finish().await
}

/// A file that is made when the first row comes.
struct Output {
    path: PathBuf,
    file: Option<tokio::fs::File>,
    rows: u64,
}

impl Output {
    async fn copy(&mut self, reader: &mut Session, pair: &Pair, batch: &[Change]) -> Result<(), Error> {
        let failed = |source| Error::WriteFile { path: self.path.clone(), source };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.path).await?),
        };
        let sql = copy_sql(pair, batch, &reader.encoding);
        let refused = &Error::copying(&pair.title(), &reader.database);
        let mut rows = reader.connection.copy_out_raw(&sql).await.map_err(refused)?;
        while let Some(piece) = rows.try_next().await.map_err(refused)? {
            self.rows += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            file.write_all(&piece).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn finish(self) -> Result<u64, Error> {
        if let Some(mut file) = self.file {
            let failed = |source| Error::WriteFile { path: self.path.clone(), source };
            file.flush().await.map_err(failed)?;
            file.sync_all().await.map_err(failed)?;
        }
        Ok(self.rows)
    }
}

fn copy_sql(pair: &Pair, batch: &[Change], encoding: &str) -> String {
    let Some(relation) = &pair.kept else { return String::new() };
    let rows = rows_of(relation);
    let columns = pair.columns.iter().map(|column| format!("t.{}", identifier(column))).collect::<Vec<_>>().join(", ");
    let keys = || batch.iter().map(|change| hex::encode(&change.key)).collect::<Vec<_>>().join(",");
    let query = match &pair.key {
        Key::Integer(column) => {
            let keys = batch.iter().map(|change| number(&change.key).cast_signed().to_string()).collect::<Vec<_>>();
            let column = identifier(column);
            format!("select {columns} from {rows} where t.{column} = any ('{{{}}}'::pg_catalog.int8[])", keys.join(","))
        }
        Key::Columns(key) => format!(
            "select {columns} from {rows} where {} in
               (select pg_catalog.decode(h, 'hex') from pg_catalog.unnest('{{{}}}'::pg_catalog.text[]) as h)",
            hash(key),
            keys()
        ),
        // Of equal rows as many as live lacks.
        Key::None => {
            let hash = hash(&pair.columns);
            let counts = batch.iter().map(|change| change.rows.to_string()).collect::<Vec<_>>().join(",");
            format!(
                "select {columns} from (
                   select t.*, wanted.n as backstay_wanted,
                          pg_catalog.row_number() over (partition by wanted.h) as backstay_place
                     from {rows} join (select pg_catalog.decode(h, 'hex') as h, n
                       from unnest('{{{}}}'::pg_catalog.text[], '{{{counts}}}'::pg_catalog.int8[]) as u(h, n)
                     ) as wanted on wanted.h = {hash}
                 ) as t where t.backstay_place <= t.backstay_wanted",
                keys()
            )
        }
    };
    format!("copy ({query}) to stdout with (format text, encoding {})", literal(encoding))
}

/// Loads one file: over a temporary table, so that changed rows take the place of those that are there.
fn load_script(pair: &Pair, file: &Path, encoding: &str) -> String {
    let (Some(relation), false) = (&pair.live, pair.columns.is_empty()) else {
        return format!("-- {}: the live database has no such table; its rows are in the file alone\n", pair.title());
    };
    let (table, columns) = (relation.qualified(), selected(&pair.columns));
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let others: Vec<_> = pair.columns.iter().filter(|column| !pair.key.columns().contains(column)).collect();
    let set: Vec<_> = others.iter().map(|one| format!("{0} = excluded.{0}", identifier(one))).collect();
    let conflict = match (pair.key.columns(), set.is_empty()) {
        ([], _) => String::new(),
        (key, true) => format!(" on conflict ({}) do nothing", selected(key)),
        (key, false) => format!(" on conflict ({}) do update set {}", selected(key), set.join(", ")),
    };
    format!(
        "create temporary table rescued as select {columns} from {table} with no data;
\\copy pg_temp.rescued ({columns}) from {} with (format text, encoding {})
insert into {table} ({columns}) overriding system value select {columns} from pg_temp.rescued{conflict};
drop table pg_temp.rescued;\n",
        literal(&name).trim(),
        literal(encoding).trim()
    )
}

/// Tables in an order in which foreign keys can be kept, as far as there is one.
async fn parents_first(session: &mut Session) -> Result<Vec<String>, Error> {
    let sql = "
        select pg_catalog.concat_ws('.', n.nspname, c.relname), coalesce(pg_catalog.concat_ws('.', pn.nspname, p.relname), '')
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          left join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'f' and k.confrelid <> c.oid
          left join pg_catalog.pg_class p on p.oid = k.confrelid
          left join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
         where c.relkind in ('r', 'p') order by 1, 2";
    let mut left: Vec<(String, String)> = session.rows("read the foreign keys", sql).await?;
    let mut order = Vec::new();
    while !left.is_empty() {
        let waiting: BTreeSet<_> = left.iter().map(|(child, _)| child.clone()).collect();
        let bound: BTreeSet<_> =
            left.iter().filter(|(_, parent)| waiting.contains(parent)).map(|(child, _)| child.clone()).collect();
        // Where they go round in a circle there is no such order.
        let free: Vec<_> = waiting.iter().filter(|one| bound.len() == waiting.len() || !bound.contains(*one)).collect();
        left.retain(|(child, _)| !free.contains(&child));
        order.extend(free.into_iter().cloned());
    }
    Ok(order)
}

fn readme(report: &RescueReport) -> String {
    let mut lines = vec![
        "Rows that only the kept databases hold, in the text format of PostgreSQL's COPY.".to_owned(),
        "Look through them before you load them: the release that is live now may mean something else by them."
            .to_owned(),
        String::new(),
        "To load them, in this folder, with the address of the live database:".to_owned(),
    ];
    let databases: BTreeSet<_> = report.tables.iter().map(|table| &table.database).collect();
    lines.extend(databases.iter().map(|name| format!("    psql -X -d 'dbname={name}' -f '{}'", script_name(name))));
    lines.push(String::new());
    lines.push("Everything in a script happens in one transaction. Rows with the same primary key are replaced; triggers fire.".to_owned());
    lines.push(String::new());
    for table in &report.tables {
        let file = table.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        lines.push(format!("{file}: {} rows of {} in {}", table.rows, table.table, table.database));
    }
    lines.push(String::new());
    lines.push("Not in these files:".to_owned());
    lines.extend(report.not_written.iter().map(|what| format!("    {what}")));
    lines.push(String::new());
    lines.join("\n")
}

fn script_name(database: &str) -> String {
    format!("load-{}.sql", plain(database))
}

async fn make_folder(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::WriteFile { path: folder.to_owned(), source };
    tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await.map_err(failed)?;
    if tokio::fs::read_dir(folder).await.map_err(failed)?.next_entry().await.map_err(failed)?.is_some() {
        let reason = format!("{} is not empty", folder.display());
        return Err(Error::Refused { action: "write what only the kept databases hold", reasons: vec![reason] });
    }
    tokio::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).await.map_err(failed)
}

async fn create(path: &Path) -> Result<tokio::fs::File, Error> {
    let opened = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
    opened.map_err(|source| Error::WriteFile { path: path.to_owned(), source })
}

async fn write(path: PathBuf, text: &str) -> Result<(), Error> {
    let mut output = Output { file: Some(create(&path).await?), path, rows: 0 };
    if let Some(file) = &mut output.file {
        let written = file.write_all(text.as_bytes()).await;
        written.map_err(|source| Error::WriteFile { path: output.path.clone(), source })?;
    }
    output.finish().await.map(drop)
}
