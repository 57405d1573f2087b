use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use super::screen;

/// A table of plain columns that fits the terminal's width.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    if let Some(width) = width() {
        table.set_width(width);
    }
    // Only what comes last is prose. An id, a time or a size that is broken in two is hard to read and to copy.
    let whole = if leaves_room(header, &rows) { header.len().saturating_sub(1) } else { 1 };
    for column in 0..whole {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

const PROSE_MIN: usize = 12;

/// Whether the last column still has a word's width where all others are as wide as they want to be.
fn leaves_room(header: &[&str], rows: &[Vec<String>]) -> bool {
    let Some(width) = width() else { return true };
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or_default() + 2
    };
    let others: usize = (0..header.len().saturating_sub(1)).map(widest).sum();
    others + PROSE_MIN <= usize::from(width)
}

/// What `COLUMNS` says, for a pipe too, else the terminal's own.
fn width() -> Option<u16> {
    u16::try_from(screen::columns(&std::io::stdout())?).ok()
}
