use std::fs;
use std::io::IsTerminal;
use std::path::Path;

use backstay_repository::{Repository, Secret, generate_key_file};
use serde_json::json;

use crate::arguments::Key;
use crate::output::table;
use crate::report::{Failure, Report};
use crate::secret_file::{self, cannot};
use crate::surroundings::Surroundings;
use crate::wiring::Project;

pub fn name(which: &Key) -> &'static str {
    match which {
        Key::List => "key list",
        Key::Add { .. } => "key add",
        Key::Remove { .. } => "key remove",
    }
}

pub async fn run(surroundings: &Surroundings, which: Key) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let repository = project.repository().await?;
    match which {
        Key::List => list(&repository).await,
        Key::Remove { id } => {
            repository.remove_key(&id).await?;
            Ok(Report::changed(format!("Key {id} no longer opens the repository.")))
        }
        Key::Add { passphrase: Some(file), .. } => {
            let secret = Secret::Passphrase(passphrase(surroundings, file.as_deref())?);
            let id = repository.add_key(&secret).await?;
            Ok(Report::changed(format!("The passphrase opens the repository now, as key {id}.")).field("key", id))
        }
        Key::Add { file: Some(path), .. } => {
            let secret = generate_key_file();
            if let Secret::KeyFile(content) = &secret {
                secret_file::write(&path, content)?;
            }
            let id = repository.add_key(&secret).await?;
            Ok(Report::changed(format!("{} opens the repository now, as key {id}.", path.display())).field("key", id))
        }
        Key::Add { recovery_file: Some(path), .. } => {
            let id = add_recovery_phrase(&repository, &path).await?;
            Ok(Report::changed(format!(
                "Wrote a recovery phrase into {}, key {id}: print it, and remove the file.",
                path.display()
            ))
            .field("key", id))
        }
        Key::Add { .. } => {
            Err(Failure::usage("say what kind of key: --passphrase, --file FILE or --recovery-file FILE"))
        }
    }
}

async fn list(repository: &Repository) -> Result<Report, Failure> {
    let keys = repository.list_keys().await?;
    let rows = keys
        .iter()
        .map(|key| vec![key.id.clone(), key.kind.as_str().to_owned(), crate::output::amounts::local(key.created_at)])
        .collect();
    let json: Vec<_> = keys
        .iter()
        .map(|key| json!({"id": key.id, "kind": key.kind.as_str(), "created_at": key.created_at, "host": key.host}))
        .collect();
    Ok(Report::seen(table(&["id", "kind", "added"], rows)).field("keys", json))
}

/// The phrase goes into a new file and nowhere else: a pipe or a log would keep it.
pub async fn add_recovery_phrase(repository: &Repository, path: &Path) -> Result<String, Failure> {
    let phrase = backstay_repository::generate_recovery_phrase();
    let Secret::RecoveryPhrase(text) = &phrase else { return Err(Failure::refused("no recovery phrase was made")) };
    secret_file::write(path, format!("{}\n", text.as_str()).as_bytes())?;
    Ok(repository.add_key(&phrase).await?)
}

fn passphrase(surroundings: &Surroundings, file: Option<&Path>) -> Result<zeroize::Zeroizing<String>, Failure> {
    if let Some(file) = file {
        let text = fs::read_to_string(file).map_err(|error| cannot("read", file, &error))?;
        return Ok(zeroize::Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    if surroundings.everywhere.non_interactive || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("a passphrase is asked for at a terminal, or read with --passphrase=FILE"));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map_err(|error| Failure::usage(format!("no passphrase: {error}")))
    };
    let first = zeroize::Zeroizing::new(ask("Passphrase: ")?);
    let second = zeroize::Zeroizing::new(ask("Once more: ")?);
    if first != second {
        return Err(Failure::usage("the two are not the same"));
    }
    Ok(first)
}
