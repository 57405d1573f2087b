use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::{ContainerInspectResponse, ImageInspect};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::error::{is_absent, is_conflict};
use crate::{EngineSettings, Error};

const REQUEST_SECONDS_MAX: u64 = 120;
/// Saving, loading and pulling answer when the bytes are through.
const TRANSFER_MAX: Duration = Duration::from_secs(6 * 3600);

/// How an engine keeps images; it decides what an image id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// An id is the digest of the image's configuration.
    Classic,
    /// An id is the digest of an index or a manifest, and there are repository digests for images
    /// that were never pushed.
    Containerd,
}

/// A connection to a Docker engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) docker: Docker,
    settings: EngineSettings,
    id: String,
    version: String,
    store: StoreKind,
}

impl Engine {
    /// Connects and agrees on a version of the API.
    pub async fn connect(settings: &EngineSettings) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable { host: settings.host.clone(), source };
        let docker = open(settings)?.negotiate_version().await.map_err(unreachable)?;
        let info = docker.info().await.map_err(unreachable)?;
        let driver = info.driver_status.unwrap_or_default();
        let containerd = driver.iter().flatten().any(|word| word.starts_with("io.containerd.snapshotter"));
        Ok(Self {
            docker,
            settings: settings.clone(),
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            store: if containerd { StoreKind::Containerd } else { StoreKind::Classic },
        })
    }

    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// The engine's own id: keep-tags of another engine say nothing here.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn store(&self) -> StoreKind {
        self.store
    }

    pub(crate) fn for_transfers(&self) -> Docker {
        self.docker.clone().with_timeout(TRANSFER_MAX)
    }

    /// Every container with these labels, running or not.
    pub(crate) async fn labelled(&self, labels: &[String]) -> Result<Vec<ContainerInspectResponse>, Error> {
        let filters = HashMap::from([("label", labels.to_vec())]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await.map_err(failed("list", "containers"))?;
        let mut found = Vec::with_capacity(listed.len());
        for container in listed {
            let Some(id) = container.id else { continue };
            // One that is removed between the list and the look is no longer there.
            found.extend(self.container(&id).await?);
        }
        Ok(found)
    }

    pub(crate) async fn container(&self, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        let options = None::<bollard::query_parameters::InspectContainerOptions>;
        absent_is_none(self.docker.inspect_container(id, options).await, "look at container", id)
    }

    pub(crate) async fn image(&self, name: &str) -> Result<Option<ImageInspect>, Error> {
        absent_is_none(self.docker.inspect_image(name).await, "look at image", name)
    }

    /// The id of what a name means now.
    pub(crate) async fn image_id(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.image(name).await?.and_then(|image| image.id))
    }

    /// Lets `name` mean the image `id`.
    pub(crate) async fn tag(&self, id: &str, name: &str) -> Result<(), Error> {
        let (repository, tag) = split_tag(name);
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag.unwrap_or("latest")).build();
        self.docker.tag_image(id, Some(options)).await.map_err(failed("tag", name))
    }

    /// Takes a name away; the image goes with its last one, unless a container holds it.
    pub(crate) async fn untag(&self, name: &str) -> Result<(), Error> {
        let options = RemoveImageOptionsBuilder::default().noprune(false).build();
        absent_is_none(self.docker.remove_image(name, Some(options), None).await, "untag", name).map(|_| ())
    }

    /// As `untag`, but a name that a container needs stays. Whether the name is gone.
    pub(crate) async fn untag_unless_used(&self, name: &str) -> Result<bool, Error> {
        match self.untag(name).await {
            Ok(()) => Ok(true),
            Err(Error::Engine { source, .. }) if is_conflict(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pulls by digest, for the platform recorded.
    pub(crate) async fn pull(
        &self,
        reference: &str,
        platform: &str,
        credentials: Option<DockerCredentials>,
    ) -> Result<(), Error> {
        let options = CreateImageOptionsBuilder::default().from_image(reference).platform(platform).build();
        let docker = self.for_transfers();
        let progress = docker.create_image(Some(options), None, credentials);
        progress.try_for_each(|_| async { Ok(()) }).await.map_err(failed("pull", reference))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("host", &self.settings.host).field("version", &self.version).finish()
    }
}

pub(crate) fn failed(action: &'static str, subject: &str) -> impl FnOnce(bollard::errors::Error) -> Error {
    let subject = subject.to_owned();
    move |source| Error::Engine { action, subject, source }
}

fn absent_is_none<T>(
    answer: Result<T, bollard::errors::Error>,
    action: &'static str,
    subject: &str,
) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed(action, subject)(error)),
    }
}

/// The repository and the tag of a name. A port is not a tag.
pub(crate) fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

fn open(settings: &EngineSettings) -> Result<Docker, Error> {
    let host = settings.host.as_str();
    let version = bollard::API_DEFAULT_VERSION;
    let address = |why: String| Error::Address { host: host.to_owned(), why };
    let opened = match (host.split_once("://"), &settings.tls) {
        (Some(("unix", path)), _) => Docker::connect_with_unix(path, REQUEST_SECONDS_MAX, version),
        (Some(("tcp" | "http" | "https", _)), Some(tls)) => {
            Docker::connect_with_ssl(host, &tls.key, &tls.certificate, &tls.ca, REQUEST_SECONDS_MAX, version)
        }
        (Some(("tcp" | "http", _)), None) => Docker::connect_with_http(host, REQUEST_SECONDS_MAX, version),
        (Some((scheme, _)), _) => {
            return Err(address(format!("addresses of the kind `{scheme}://` are not supported")));
        }
        (None, _) => return Err(address("it has no scheme such as `unix://`".to_owned())),
    };
    opened.map_err(|source| address(source.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_a_tag() {
        assert_eq!(split_tag("shop-api"), ("shop-api", None));
        assert_eq!(split_tag("shop-api:v1"), ("shop-api", Some("v1")));
        assert_eq!(split_tag("127.0.0.1:5000/shop/api"), ("127.0.0.1:5000/shop/api", None));
        assert_eq!(split_tag("127.0.0.1:5000/shop/api:v2"), ("127.0.0.1:5000/shop/api", Some("v2")));
    }
}
