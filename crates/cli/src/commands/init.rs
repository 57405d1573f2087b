use std::fs;
use std::path::{Path, PathBuf};

use backstay_config::{FILE_NAME, Unlock};
use backstay_repository::{Creation, Error as RepositoryError, Repository, Secret, generate_key_file};

use crate::arguments::Init;
use crate::report::{Failure, Report, State};
use crate::secret_file::{self, cannot};
use crate::surroundings::Surroundings;
use crate::wiring::{Project, found, open_store, secret};

pub async fn run(surroundings: &Surroundings, arguments: Init) -> Result<Report, Failure> {
    let file = configuration(surroundings);
    let mut said = Vec::new();
    let mut changed = false;
    if file.exists() {
        said.push(format!("{} is there already and stays as it is.", file.display()));
    } else {
        let folder = file.parent().unwrap_or(Path::new("."));
        let text = backstay_config::template(&found(surroundings, folder, &arguments).await?);
        fs::write(&file, text).map_err(|error| cannot("write", &file, &error))?;
        said.push(format!("Wrote {}: read it, it says what is recorded.", file.display()));
        changed = true;
    }
    let project = Project::find(surroundings)?;
    let made = async {
        let key = key(&project, &mut said)?;
        Ok(key | repository(&project, &arguments, &mut said).await?)
    };
    changed |= made.await.map_err(|failure: Failure| match changed {
        true => Failure { state: State::Changed(format!("{} was written, and stays", file.display())), ..failure },
        false => failure,
    })?;
    said.push("Next: `backstay doctor`, then `backstay snapshot --prove`.".to_owned());
    let report = if changed { Report::changed(said.join("\n")) } else { Report::seen(said.join("\n")) };
    let location = open_store(&project.settings.repository.place).await?.location();
    Ok(report.field("config", project.settings.file.display().to_string()).field("repository", location))
}

/// The backstay.toml to write or to keep: the named one, the nearest, or a new one here.
fn configuration(surroundings: &Surroundings) -> PathBuf {
    match &surroundings.everywhere.config {
        Some(file) => surroundings.folder.join(file),
        None => backstay_config::find(&surroundings.folder).unwrap_or_else(|_| surroundings.folder.join(FILE_NAME)),
    }
}

/// Makes the key file that the settings name, where there is none and no repository needs another.
fn key(project: &Project, said: &mut Vec<String>) -> Result<bool, Failure> {
    let Unlock::Key(reference) = &project.settings.repository.unlock else { return Ok(false) };
    let Some(path) = reference.path(&project.settings.folder) else { return Ok(false) };
    if path.exists() {
        return Ok(false);
    }
    let Secret::KeyFile(content) = generate_key_file() else { return Ok(false) };
    secret_file::write(&path, &content)?;
    said.push(format!(
        "Made the key {}, readable by you alone. Keep a copy elsewhere: without it no snapshot opens.",
        path.display()
    ));
    Ok(true)
}

async fn repository(project: &Project, arguments: &Init, said: &mut Vec<String>) -> Result<bool, Failure> {
    let store = open_store(&project.settings.repository.place).await?;
    let secret = secret(project)?;
    let location = store.location();
    let options = project.repository_options();
    let (repository, made) = match Repository::create(store.clone(), &secret, options.clone()).await {
        Ok(repository) => (repository, true),
        Err(RepositoryError::AlreadyARepository { .. }) => (Repository::open(store, &secret, options).await?, false),
        Err(error) => return Err(error.into()),
    };
    said.push(match made {
        true => format!("Made a {} repository in {location}.", if repository.is_sealed() { "sealed" } else { "clear" }),
        false => format!("The repository in {location} is there already and opens."),
    });
    if made && !repository.creates_once() {
        said.push(format!("Note: the store {}.", unprotected(repository.probe().await?)));
    }
    if let Some(path) = &arguments.recovery_file {
        super::key::add_recovery_phrase(&repository, path).await?;
        said.push(format!("Wrote a recovery phrase into {}: print it, and remove the file.", path.display()));
    }
    Ok(made || arguments.recovery_file.is_some())
}

/// What is not protected where a store does not keep a creation from repeating.
pub fn unprotected(found: Creation) -> &'static str {
    match found {
        Creation::Holds => "never writes over a manifest",
        Creation::Races => "lets two who write the same manifest at the same moment both succeed: leases alone protect",
        Creation::Overwrites => "writes over a manifest although asked not to: leases alone protect",
    }
}
