use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use backstay_model::Event;
use backstay_part::Part;
use backstay_run::Context;
use tokio::task::JoinSet;

use crate::capture::copy::{Sink, copy_out};
use crate::capture::statements::{generated_columns, stored_rows};
use crate::catalog::partitions::{self, Scattered};
use crate::catalog::relations;
use crate::session::connect;
use crate::{DatabaseFacts, Error, Extent, Fingerprint, RowHash, RowSum, ServerPart, Settings, TableFacts};

/// What the workers share.
struct Work {
    settings: Settings,
    encoding: String,
    hash: RowHash,
    queue: Mutex<VecDeque<TableFacts>>,
    scattered: Scattered,
    trees: Mutex<BTreeMap<String, Sums>>,
    context: Context,
    part: backstay_model::PartName,
}

/// All partitions of a tree together: rows, what is stored and what is computed, recorded and found.
#[derive(Default)]
struct Sums {
    rows: u64,
    stored: Fingerprint,
    generated: Fingerprint,
    found: RowSum,
    found_generated: RowSum,
}

/// Compares rows of every table by count and fingerprint, and looks for tables that nobody recorded.
pub(super) async fn compare(
    part: &ServerPart,
    context: &Context,
    facts: &DatabaseFacts,
    hash: RowHash,
    settings: &Settings,
) -> Result<Vec<String>, Error> {
    let mut session = connect(settings, "prove").await?;
    let found = relations::list(&mut session).await?;
    let scattered = partitions::scattered(&mut session).await?;
    let encoding = session.encoding.clone();
    session.close().await;
    let title = |table: &TableFacts| (table.schema.clone(), table.name.clone());
    let recorded: BTreeSet<_> = facts.tables.iter().map(title).collect();
    let here: BTreeSet<_> = found
        .iter()
        .filter(|relation| relation.is_table())
        .map(|relation| (relation.schema.clone(), relation.name.clone()))
        .collect();
    let mut findings: Vec<_> = recorded
        .difference(&here)
        .map(|(schema, name)| format!("table {schema}.{name} is missing"))
        .chain(here.difference(&recorded).map(|(schema, name)| format!("table {schema}.{name} was not recorded")))
        .collect();
    let mut tables: Vec<_> = facts
        .tables
        .iter()
        .filter(|table| !table.excluded && !table.ranges.is_empty() && here.contains(&title(table)))
        .cloned()
        .collect();
    tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    context.hear(Event::TotalKnown {
        part: part.name().clone(),
        subject: settings.database().to_owned(),
        bytes: tables.iter().map(|table| table.bytes).sum(),
        rows: Some(tables.iter().map(|table| table.rows).sum()),
    });
    let workers = part.options().workers.clamp(1, tables.len().max(1));
    let (context, part) = (context.clone(), part.name().clone());
    let work = Work {
        settings: settings.clone(),
        encoding,
        hash,
        queue: Mutex::new(tables.into()),
        scattered,
        trees: Mutex::default(),
        context,
        part,
    };
    let work = Arc::new(work);
    let mut running = JoinSet::new();
    for _ in 0..workers {
        running.spawn(worker(Arc::clone(&work)));
    }
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(result) => findings.extend(result?),
            Err(_) => return Err(Error::Interrupted),
        }
    }
    let trees = std::mem::take(&mut *work.trees.lock().unwrap_or_else(PoisonError::into_inner));
    for (title, sums) in trees {
        findings.extend(difference(&title, "rows", (sums.rows, sums.stored), &sums.found));
        if sums.found_generated.rows() > 0 {
            findings.extend(difference(
                &title,
                "generated columns",
                (sums.rows, sums.generated),
                &sums.found_generated,
            ));
        }
    }
    findings.sort();
    Ok(findings)
}

impl Work {
    /// What differs in one table. A partition whose rows may lie in another one is left to its tree.
    fn judge(&self, table: &TableFacts, stored: &RowSum, generated: &RowSum) -> Vec<String> {
        if let Some(tree) = self.scattered.get(&(table.schema.clone(), table.name.clone())) {
            let title = format!("{}.{}", tree.schema, tree.name);
            let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
            let sums = trees.entry(title).or_default();
            sums.rows += table.rows;
            sums.stored = sums.stored.plus(table.fingerprint);
            sums.generated = sums.generated.plus(table.generated_fingerprint.unwrap_or_default());
            sums.found.merge(stored);
            sums.found_generated.merge(generated);
            return Vec::new();
        }
        let title = format!("{}.{}", table.schema, table.name);
        let rows = difference(&title, "rows", (table.rows, table.fingerprint), stored);
        let computed = table
            .generated_fingerprint
            .and_then(|fingerprint| difference(&title, "generated columns", (table.rows, fingerprint), generated));
        rows.into_iter().chain(computed).collect()
    }
}

async fn worker(work: Arc<Work>) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    let next = || work.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let Some(mut table) = next() else { return Ok(findings) };
    let mut session = connect(&work.settings, "prove rows").await?;
    loop {
        let title = format!("{}.{}", table.schema, table.name);
        let (part, subject) = (work.part.clone(), format!("{} {title}", session.database));
        let bytes_expected = Some(table.bytes);
        work.context.hear(Event::TransferBegan { part: part.clone(), subject: subject.clone(), bytes_expected });
        let moved = |bytes| {
            work.context.hear(Event::TransferMoved { part: part.clone(), subject: subject.clone(), bytes });
        };
        let mut stored = RowSum::by(work.hash);
        let sql = stored_rows(&table, Extent::default(), &work.encoding);
        copy_out(&mut session, &title, &sql, &mut Sink::Nowhere, &mut stored, &moved).await?;
        let mut generated = RowSum::by(work.hash);
        if table.generated_fingerprint.is_some() {
            let sql = generated_columns(&table, Extent::default(), &work.encoding);
            copy_out(&mut session, &title, &sql, &mut Sink::Nowhere, &mut generated, &|_| {}).await?;
        }
        findings.extend(work.judge(&table, &stored, &generated));
        work.context.hear(Event::TransferEnded { part: part.clone(), subject: subject.clone() });
        match next() {
            Some(another) => table = another,
            None => break,
        }
    }
    session.close().await;
    Ok(findings)
}

fn difference(title: &str, what: &str, recorded: (u64, Fingerprint), found: &RowSum) -> Option<String> {
    let (rows, fingerprint) = recorded;
    if found.rows() != rows {
        return Some(format!("{title} has {} {what}, recorded were {rows}", found.rows()));
    }
    let differs = found.fingerprint() != fingerprint;
    differs.then(|| format!("the {what} of {title} differ from those recorded, though there are {rows} of each"))
}
