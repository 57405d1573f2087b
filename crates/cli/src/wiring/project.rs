use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_config::{Home, Settings};
use backstay_model::RunId;
use backstay_repository::{Error, Options, Repository, Secret};
use backstay_run::Context;

use super::store::{open_store, secret};
use crate::report::Failure;
use crate::surroundings::Surroundings;

/// A project that was found and understood: where every command but `init` begins.
pub struct Project {
    pub surroundings: Surroundings,
    pub settings: Settings,
    /// Journals and what else this host keeps of the environment.
    pub state: PathBuf,
}

impl Project {
    /// Reads backstay.toml and touches nothing.
    pub fn find(surroundings: &Surroundings) -> Result<Self, Failure> {
        let everywhere = &surroundings.everywhere;
        let file = match &everywhere.config {
            Some(file) => surroundings.folder.join(file),
            None => backstay_config::find(&surroundings.folder)?,
        };
        let settings = backstay_config::load(&file, everywhere.environment.as_deref())?;
        let state = state_folder(&settings)?;
        Ok(Self { surroundings: surroundings.clone(), settings, state })
    }

    /// The surroundings of a new run.
    pub fn context(&self) -> Context {
        let surroundings = &self.surroundings;
        Context {
            run: RunId::new(surroundings.clock.now(), rand::random()),
            project: self.settings.project.clone(),
            environment: self.settings.environment.clone(),
            host: surroundings.host.clone(),
            state: self.state.clone(),
            clock: Arc::clone(&surroundings.clock),
            listener: Arc::clone(&surroundings.listener),
            interrupt: surroundings.interrupt.clone(),
        }
    }

    pub async fn repository(&self) -> Result<Repository, Failure> {
        let store = open_store(&self.settings.repository.place).await?;
        let secret = secret(self)?;
        let opened = Repository::open(Arc::clone(&store), &secret, self.repository_options()).await;
        // A recovery phrase stands where a passphrase or a key would: in a pinch nobody should have to know
        // which of the two words to write.
        if let (Err(Error::WrongKey { .. }), Some(phrase)) = (&opened, as_phrase(&secret))
            && let Ok(repository) = Repository::open(store, &phrase, self.repository_options()).await
        {
            return Ok(repository);
        }
        Ok(opened?)
    }

    pub fn repository_options(&self) -> Options {
        Options {
            cache: Some(self.state.join("cache")),
            clock: Arc::clone(&self.surroundings.clock),
            host: self.surroundings.host.clone(),
        }
    }

    /// What references in the settings are resolved in.
    pub fn references(&self) -> References<'_> {
        References { folder: &self.settings.folder }
    }
}

fn as_phrase(secret: &Secret) -> Option<Secret> {
    match secret {
        Secret::Passphrase(text) => Some(Secret::RecoveryPhrase(text.clone())),
        Secret::KeyFile(bytes) => {
            let text = std::str::from_utf8(bytes).ok()?;
            Some(Secret::RecoveryPhrase(zeroize::Zeroizing::new(text.trim().to_owned())))
        }
        Secret::RecoveryPhrase(_) | Secret::None => None,
    }
}

/// Lends the environment of this process to references.
#[derive(Clone, Copy)]
pub struct References<'a> {
    folder: &'a Path,
}

impl<'a> References<'a> {
    pub fn get(self) -> backstay_config::Surroundings<'a> {
        backstay_config::Surroundings { folder: self.folder, variable: &Surroundings::variable }
    }
}

/// Where this host keeps what it knows of the environment: below `BACKSTAY_STATE` where that is set.
fn state_folder(settings: &Settings) -> Result<PathBuf, Failure> {
    if let Some(folder) = Surroundings::variable("BACKSTAY_STATE") {
        return Ok(Path::new(&folder).join(settings.project.as_str()).join(settings.environment.as_str()));
    }
    with_home(|home| Ok(backstay_config::state_folder(&settings.project, &settings.environment, home)?))
}

/// The folder that holds everything this host keeps of a project.
pub fn project_folder(project: &backstay_model::Project) -> Option<PathBuf> {
    with_home(|home| backstay_config::project_folder(project, home)).ok()
}

fn with_home<T>(use_it: impl FnOnce(Home<'_>) -> T) -> T {
    let xdg = Surroundings::variable("XDG_STATE_HOME").map(PathBuf::from);
    let home = Surroundings::variable("HOME").map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    use_it(Home { is_root, xdg_state: xdg.as_deref(), home: home.as_deref() })
}
