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
    for row in rows {
        table.add_row(row);
    }
    // An id that is broken in two cannot be copied.
    if let Some(ids) = table.column_mut(0) {
        ids.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// What `COLUMNS` says, for a pipe too, else the terminal's own.
fn width() -> Option<u16> {
    u16::try_from(screen::columns(&std::io::stdout())?).ok()
}
