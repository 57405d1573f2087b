use backstay_part::Part;
use backstay_restore::newest_kept;
use serde_json::json;

use crate::arguments::Rescue;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings, arguments: Rescue) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    let (run, tokens) = newest_kept(&release.site()).await?;
    let folder = surroundings.folder.join(&arguments.folder);
    let mut lines = Vec::new();
    let mut tables = Vec::new();
    let mut not_written = Vec::new();
    for part in &release.databases {
        let Some((_, token)) = tokens.iter().find(|(name, _)| name == part.name()) else { continue };
        let rescued = part.rescue(&release.context, token, &folder).await?;
        for table in &rescued.tables {
            lines.push(format!(
                "  {}.{}: {}",
                table.database,
                table.table,
                amounts::counted(table.rows, "row", "rows")
            ));
            tables.push(
                json!({"database": table.database, "table": table.table, "rows": table.rows, "file": table.file}),
            );
        }
        not_written.extend(rescued.not_written);
    }
    if tables.is_empty() {
        lines.insert(0, format!("What run {} replaced has no row that the live database lacks.", run.id));
    } else {
        lines.insert(
            0,
            format!("Wrote the rows that only the database from before run {} has, into {}:", run.id, folder.display()),
        );
        lines.push("  README.txt there says how to load them".to_owned());
    }
    lines.extend(not_written.iter().map(|what| format!("  not written: {what}")));
    let report = Report::changed(lines.join("\n")).field("of_run", &run.id).field("tables", tables);
    Ok(report.field("not_written", not_written))
}
