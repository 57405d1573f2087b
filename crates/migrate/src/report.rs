//! Plans and rehearsals as text for a person.

use std::fmt::{self, Display, Formatter};

use crate::{Expected, Foreseen, LockMode, Measured, Plan, Rehearsal, WayBack};

const LISTED_MAX: usize = 20;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let head = self.head.map_or_else(|| "nothing applied".to_owned(), |head| format!("at version {head}"));
        writeln!(f, "{}: {head}, {} pending", self.database, self.pending())?;
        for (number, transaction) in self.transactions.iter().enumerate() {
            let kind = if transaction.outside { "outside of a transaction" } else { "one transaction" };
            writeln!(f, "{}. {kind}", number + 1)?;
            for file in &transaction.files {
                let down = if file.has_down { "" } else { ", no down file" };
                let counted = statements(file.statements);
                writeln!(f, "   {}  {counted}{down}  {:.12}", file.file, file.checksum)?;
            }
        }
        listed(f, "a COMMIT before", self.cuts.iter().map(|cut| format!("{}: {}", cut.before, cut.why)))?;
        listed(f, "a run would be refused", &self.faults)?;
        let sizes = self
            .tables
            .iter()
            .map(|table| format!("{}: {}, about {} rows", table.table, bytes(table.bytes), table.rows_estimated));
        listed(f, "tables touched", sizes)?;
        listed(f, "what statements hold until COMMIT", self.foreseen.iter().filter(|one| one.weighs()))?;
        listed(f, "in the way right now", &self.blockers)?;
        listed(f, "changed outside of migrations", &self.drift)?;
        let advice =
            self.advice.iter().map(|one| format!("{} line {}: {} ({})", one.file, one.line, one.text, one.rule));
        listed(f, "advice", advice)?;
        if !self.bookkeeping {
            writeln!(f, "this role may not create the schema backstay: no journal will be kept")?;
        }
        Ok(())
    }
}

impl Foreseen {
    /// Rows are written by most files; that alone would hide the rest.
    fn weighs(&self) -> bool {
        self.opaque || self.scans != Expected::No || self.locks.iter().any(|lock| lock.mode != LockMode::RowExclusive)
    }
}

impl Display for Foreseen {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {} (`{}`)", self.place.file, self.place.line, self.place.begins)?;
        for lock in &self.locks {
            write!(f, "; {} in {}: blocks {}", lock.on, lock.mode, lock.blocks)?;
        }
        for (what, expected) in [("writes it anew", self.rewrites), ("reads it whole", self.scans)] {
            match expected {
                Expected::No => {}
                Expected::Yes => write!(f, "; {what}")?,
                Expected::Depends(why) => write!(f, "; {what}, {why}")?,
            }
        }
        if self.opaque { f.write_str("; what it locks only a rehearsal shows") } else { Ok(()) }
    }
}

impl Display for Rehearsal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let how = if self.in_place { "in place, rolled back" } else { "on a copy" };
        if self.statements.is_empty() && self.left_out.is_empty() {
            return writeln!(f, "nothing is pending in {}: there was nothing to rehearse", self.database);
        }
        writeln!(f, "rehearsed in {}, {how}: {}", self.database, statements(self.statements.len()))?;
        for measured in &self.statements {
            measured.fmt(f)?;
        }
        listed(f, "not rehearsed", self.left_out.iter().map(|(file, why)| format!("{file}: {why}")))?;
        match &self.way_back {
            None => {}
            Some(WayBack::Reversible) => writeln!(f, "the way back: reversible, schema and rows came back")?,
            Some(WayBack::Lossy { tables }) => {
                writeln!(f, "the way back: lossy, rows of {} did not come back", tables.join(", "))?;
            }
            Some(WayBack::Not { why }) => writeln!(f, "the way back: there is none: {why}")?,
        }
        listed(f, "what this rehearsal cannot know", &self.unknown)
    }
}

impl Display for Measured {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let written = i64::try_from(self.wal_bytes).map_or_else(|_| "much".to_owned(), bytes);
        writeln!(f, "{}  {} ms, {written} of WAL", self.place, self.milliseconds)?;
        for lock in &self.locks {
            let held = self.held.map_or_else(String::new, |held| format!(" for {} ms", held.as_millis()));
            writeln!(f, "   locks {} in {}{held}: blocks {}", lock.on, lock.mode, lock.blocks)?;
        }
        for rewrite in &self.rewrites {
            writeln!(f, "   rewrites the {} {}: {}", rewrite.kind, rewrite.relation, rewrite.why)?;
        }
        for scan in &self.scans {
            writeln!(f, "   reads {} whole, {} rows", scan.table, scan.rows)?;
        }
        for rows in &self.rows {
            writeln!(
                f,
                "   {}: {} inserted, {} updated, {} deleted",
                rows.table, rows.inserted, rows.updated, rows.deleted
            )?;
        }
        if !self.sequences.is_empty() {
            writeln!(f, "   moves {}, which no rollback moves back", self.sequences.join(", "))?;
        }
        self.note.as_ref().map_or(Ok(()), |note| writeln!(f, "   {note}"))
    }
}

fn listed<T: Display>(f: &mut Formatter<'_>, title: &str, items: impl IntoIterator<Item = T>) -> fmt::Result {
    let items: Vec<T> = items.into_iter().collect();
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}:")?;
    for item in items.iter().take(LISTED_MAX) {
        writeln!(f, "   {item}")?;
    }
    if items.len() > LISTED_MAX {
        writeln!(f, "   … and {} more", items.len() - LISTED_MAX)?;
    }
    Ok(())
}

fn statements(count: usize) -> String {
    if count == 1 { "1 statement".to_owned() } else { format!("{count} statements") }
}

fn bytes(count: i64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", count >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", count >> 20),
        _ => format!("{} GiB", count >> 30),
    }
}
