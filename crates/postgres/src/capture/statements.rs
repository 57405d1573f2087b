//! The COPY statements that read a table. Capture and proof use the same ones, so that equal rows are
//! equal text.

use crate::{Extent, RowsOf, TableFacts, identifier, literal, qualified};

/// Reads the columns that are stored, of the rows in `extent`.
pub(crate) fn stored_rows(table: &TableFacts, extent: Extent, encoding: &str) -> String {
    let name = qualified(&table.schema, &table.name);
    let whole = extent == Extent::default() && matches!(table.rows_of, RowsOf::Table);
    if !whole {
        return selected(table, &table.columns, extent, encoding);
    }
    let columns = listed(&table.columns);
    // Without a list COPY means all stored columns; an empty list it does not understand.
    let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
    format!("copy {name}{columns} to stdout with (format text, encoding {})", literal(encoding).trim())
}

/// Reads the columns that the database computed.
pub(crate) fn generated_columns(table: &TableFacts, extent: Extent, encoding: &str) -> String {
    selected(table, &table.generated, extent, encoding)
}

fn selected(table: &TableFacts, columns: &[String], extent: Extent, encoding: &str) -> String {
    let name = qualified(&table.schema, &table.name);
    let mut clause = match &table.rows_of {
        // The condition is SQL of the extension's author: `WHERE …`, or nothing.
        RowsOf::ExtensionConfiguration { condition, .. } => condition.clone(),
        RowsOf::Table | RowsOf::PartitionedTable => String::new(),
    };
    if extent != Extent::default() {
        let upper = extent.end.map(|end| format!(" and ctid < '({end},0)'::pg_catalog.tid")).unwrap_or_default();
        clause = format!("where ctid >= '({},0)'::pg_catalog.tid{upper}", extent.first);
    }
    let columns = listed(columns);
    let encoding = literal(encoding);
    format!("copy (select {columns} from only {name} {clause}) to stdout with (format text, encoding {encoding})")
}

pub(crate) fn listed(columns: &[String]) -> String {
    columns.iter().map(|column| identifier(column)).collect::<Vec<_>>().join(", ")
}
