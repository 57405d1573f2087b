//! Where the recorded files say the databases are. Settings are resolved in the files of today; the release
//! that comes back reads the ones that come back with it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use backstay_config::{Address, DatabaseSource, Reference, Surroundings as In};
use backstay_files::recorded_file;
use backstay_model::PartKind;
use backstay_postgres::{Settings, connect_plainly};
use backstay_restore::{Plan, Source};
use tempfile::TempDir;

use crate::exit::Exit;
use crate::report::Failure;
use crate::surroundings::Surroundings;
use crate::wiring::{Release, address_in, settings_through};

/// Why data and files must not go back together: the release would start on another database than the one
/// that was taken back, or could not reach it.
pub async fn refusals(release: &Release, source: &Source, plan: &Plan) -> Result<Vec<String>, Failure> {
    let goes_back = |kind| plan.changing().any(|part| part.kind == kind);
    let with_data = plan.depth.kinds.contains(&PartKind::Database);
    if !(with_data && goes_back(PartKind::Files)) {
        return Ok(Vec::new());
    }
    let today = settings_through(&release.project, &release.containers).await?;
    let mut refusals = Vec::new();
    for (name, database) in &release.project.settings.databases {
        let DatabaseSource::Url(address) = &database.source else { continue };
        let (Some(today), Some(path)) = (today.get(name.as_str()), file_of(address)) else { continue };
        let Some(recorded) = recorded_settings(source, name.as_str(), address, &path).await? else { continue };
        refusals.extend(difference(name.as_str(), &path, today, &recorded, plan).await);
    }
    Ok(refusals)
}

/// The file of the project that an address is read from.
fn file_of(address: &Address) -> Option<PathBuf> {
    let (Address::Reference(Reference::File(path)) | Address::Reference(Reference::Entry { path, .. })) = address
    else {
        return None;
    };
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// The address as the recorded file has it. Nothing where the snapshot has no such file or no such entry.
async fn recorded_settings(
    source: &Source,
    name: &str,
    address: &Address,
    path: &Path,
) -> Result<Option<Settings>, Failure> {
    for recorded in source.recorded(PartKind::Files) {
        let Some(content) = recorded_file(recorded, &path.to_string_lossy()).await? else { continue };
        let unwritten = |error| {
            let place = std::env::temp_dir();
            Failure::new(Exit::Environment, format!("cannot write below {}: {error}", place.display()))
        };
        // Nobody else may read it, and it is gone when it is let go of.
        let folder = TempDir::new().map_err(unwritten)?;
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap_or(folder.path())).map_err(unwritten)?;
        fs::write(&file, content).map_err(unwritten)?;
        let surroundings = In { folder: folder.path(), variable: &Surroundings::variable };
        return Ok(address_in(name, address, surroundings).ok());
    }
    Ok(None)
}

async fn difference(name: &str, path: &Path, today: &Settings, recorded: &Settings, plan: &Plan) -> Option<String> {
    let place = |settings: &Settings| format!("{} on {}", settings.database(), settings.server());
    let ways = format!(
        "`backstay restore {id} --only files` puts the recorded files back first, \
         `backstay restore {id} --only database,images` keeps those of today",
        id = plan.snapshot
    );
    let path = path.display();
    if place(today) != place(recorded) {
        return Some(format!(
            "the recorded {path} names another database for `{name}`: {}; today's names {}. Data would go back into \
             the one, and the release would start on the other. {ways}",
            place(recorded),
            place(today)
        ));
    }
    if today.to_url() == recorded.to_url() {
        return None;
    }
    match connect_plainly(recorded, "try what was recorded").await {
        Ok(_) => None,
        Err(error) => Some(format!(
            "with what the recorded {path} says, `{name}` cannot be reached ({}): the release that comes back would \
             not reach its database. {ways}",
            Failure::from(error).what.join(": ")
        )),
    }
}
