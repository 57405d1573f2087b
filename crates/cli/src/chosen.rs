//! Which snapshot a person means.

use std::io::Write;

use backstay_model::{Purpose, SnapshotId};
use backstay_repository::{Damage, Entry, Error as RepositoryError, Listing, Repository};

use crate::commands::list;
use crate::output::amounts;
use crate::report::Failure;
use crate::wiring::Project;

/// A snapshot by id, `latest` or `before-deploy`.
pub async fn entry(project: &Project, repository: &Repository, wanted: &str) -> Result<Entry, Failure> {
    let environment = &project.settings.environment;
    let Listing { entries, damage } = repository.listing(Some(environment)).await?;
    let found = match wanted {
        "latest" => entries.iter().find(|entry| entry.manifest.purpose != Purpose::Safety),
        "before-deploy" => entries.iter().find(|entry| entry.manifest.purpose == Purpose::BeforeDeploy),
        id => {
            let id: SnapshotId = id.parse().map_err(|error| {
                let failure = Failure::usage(format!("{error}, `latest` or `before-deploy`"));
                failure.hint(meant(id, &entries).unwrap_or_else(|| SEE_LIST.to_owned()))
            })?;
            entries.iter().find(|entry| entry.manifest.id == id)
        }
    };
    // What cannot be read may be the one that is meant: nothing older is taken for it.
    let hides = |damage: &Damage| damage.snapshots.iter().any(|(_, id)| is_meant(wanted, id, found));
    if let Some(damage) = damage.into_iter().find(hides) {
        return Err(RepositoryError::Damaged(Box::new(damage)).into());
    }
    found.cloned().ok_or_else(|| missing(wanted, &entries, environment.as_str()))
}

const SEE_LIST: &str = "`backstay list` shows the snapshots";
const SLIPS_MAX: usize = 3;

/// What a word that is no id was probably meant to be: another word, or a time that was written otherwise.
fn meant(typed: &str, entries: &[Entry]) -> Option<String> {
    let slips = |word: &&&str| strsim::damerau_levenshtein(&typed.to_lowercase().replace('_', "-"), word);
    let word = ["latest", "before-deploy"].iter().min_by_key(slips).filter(|word| slips(word) <= SLIPS_MAX);
    if let Some(word) = word {
        return Some(format!("did you mean `{word}`?"));
    }
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let typed = digits(typed);
    let near = entries.iter().find(|entry| {
        let id = digits(entry.manifest.id.as_str());
        typed.len() >= "20251022".len() && (id.starts_with(&typed) || typed.starts_with(&id))
    })?;
    let manifest = &near.manifest;
    Some(format!("did you mean {}, taken {}?", manifest.id, amounts::local(manifest.taken_at)))
}

/// Whether a snapshot that cannot be read may be what a person means, when `found` is the best that can.
fn is_meant(wanted: &str, id: &SnapshotId, found: Option<&Entry>) -> bool {
    match wanted {
        "latest" | "before-deploy" => found.is_none_or(|found| *id > found.manifest.id),
        wanted => id.as_str() == wanted && found.is_none(),
    }
}

fn missing(wanted: &str, entries: &[Entry], environment: &str) -> Failure {
    let failure = Failure::refused(format!("there is no snapshot `{wanted}` in {environment}"));
    let near = entries.iter().min_by_key(|entry| strsim::damerau_levenshtein(entry.manifest.id.as_str(), wanted));
    match near {
        Some(entry) if wanted.parse::<SnapshotId>().is_ok() => {
            let manifest = &entry.manifest;
            failure.hint(format!("the nearest is {}, taken {}", manifest.id, amounts::local(manifest.taken_at)))
        }
        Some(_) => failure.hint(SEE_LIST),
        None => failure.hint("`backstay snapshot` takes the first one"),
    }
}

const OFFERED_MAX: usize = 20;

/// Lets a person at a terminal choose from the newest.
pub async fn pick(project: &Project, repository: &Repository) -> Result<Entry, Failure> {
    let environment = &project.settings.environment;
    let mut entries = repository.list(Some(environment)).await?;
    entries.truncate(OFFERED_MAX);
    if entries.is_empty() {
        return Err(missing("latest", &entries, environment.as_str()));
    }
    let now = project.surroundings.clock.now();
    let mut screen = std::io::stderr().lock();
    for (place, entry) in entries.iter().enumerate() {
        let manifest = &entry.manifest;
        let (local, ago) = (amounts::local(manifest.taken_at), amounts::ago(manifest.taken_at, now));
        let _ = writeln!(screen, "{:>3}  {}  {local}  {ago:<14}  {}", place + 1, manifest.id, list::standing(entry));
    }
    let _ = write!(screen, "Which one? [1-{}] ", entries.len());
    let _ = screen.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    let place: usize = answer.trim().parse().unwrap_or(0);
    match place.checked_sub(1).and_then(|place| entries.get(place)) {
        Some(entry) => Ok(entry.clone()),
        None => Err(Failure::refused("no snapshot was chosen")),
    }
}
