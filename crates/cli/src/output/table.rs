use comfy_table::{ContentArrangement, Table, presets};

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
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// What `COLUMNS` says, for a pipe too; a terminal's own width is found without it.
fn width() -> Option<u16> {
    std::env::var("COLUMNS").ok()?.parse().ok()
}
