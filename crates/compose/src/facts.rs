use std::collections::BTreeMap;

use bollard::models::ImageInspect;
use serde::{Deserialize, Serialize};

use crate::StoreKind;
use crate::archive::Archive;

/// What capture observed of a project's images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesFacts {
    /// The name that Compose knows the project by.
    pub project: String,
    /// What its keep-tags and anchors are named after: the snapshot's id.
    pub kept_for: String,
    pub engine: String,
    pub engine_version: String,
    pub store: StoreKind,
    pub services: Vec<ServiceFacts>,
    /// By id.
    pub images: BTreeMap<String, ImageFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    pub service: String,
    pub image: String,
    /// The name under which Compose looks for the image.
    pub name: Option<String>,
    pub built: bool,
    /// It holds data: its image is kept and never switched.
    pub database: bool,
    /// How many of its containers ran.
    pub running: u32,
    pub keep_tag: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    pub id: String,
    /// All of them: an image may have several in one repository.
    pub repo_digests: Vec<String>,
    /// `linux/amd64` or `linux/arm/v7`.
    pub platform: String,
    pub config_digest: Option<String>,
    /// The digests of the unpacked layers, lowest first.
    pub layers: Vec<String>,
    pub bytes: u64,
    /// The repository digests under which a registry was seen to hold it.
    pub registry: Vec<String>,
    pub archive: Option<Archive>,
}

impl ImageFacts {
    pub(crate) fn observe(image: ImageInspect, store: StoreKind) -> Self {
        let id = image.id.clone().unwrap_or_default();
        Self {
            platform: platform_of(&image),
            layers: layers_of(&image),
            config_digest: (store == StoreKind::Classic).then(|| id.clone()),
            repo_digests: image.repo_digests.unwrap_or_default(),
            bytes: image.size.and_then(|size| size.try_into().ok()).unwrap_or_default(),
            registry: Vec::new(),
            archive: None,
            id,
        }
    }

    /// For whoever looks for it in vain.
    pub(crate) fn where_it_was_last(&self) -> String {
        match self.registry.first() {
            Some(digest) => format!("this machine has it no more, and `{digest}` cannot be had from its registry now"),
            None => "this machine has it no more, and it is at no registry and not in the repository".to_owned(),
        }
    }

    /// Whether an image of an engine is this one: by its id, or, between engines that name images
    /// differently, by its configuration or what it is made of.
    pub(crate) fn is(&self, live: &ImageInspect) -> bool {
        let id = live.id.as_deref().unwrap_or_default();
        if id == self.id || self.config_digest.as_deref() == Some(id) {
            return true;
        }
        // Where ids mean the same on both sides, another id is another image.
        let same_naming = live.descriptor.is_none() && self.config_digest.as_deref() == Some(self.id.as_str());
        let same_content =
            !self.layers.is_empty() && layers_of(live) == self.layers && platform_of(live) == self.platform;
        !same_naming && same_content
    }
}

fn layers_of(image: &ImageInspect) -> Vec<String> {
    image.root_fs.as_ref().and_then(|root| root.layers.clone()).unwrap_or_default()
}

fn platform_of(image: &ImageInspect) -> String {
    let words = [&image.os, &image.architecture, &image.variant];
    let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).filter(|word| !word.is_empty()).collect();
    words.join("/")
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageInspectRootFs;

    use super::*;

    fn inspected(id: &str, layers: &[&str]) -> ImageInspect {
        let layers = Some(layers.iter().map(|layer| (*layer).to_owned()).collect());
        ImageInspect {
            id: Some(id.to_owned()),
            os: Some("linux".to_owned()),
            architecture: Some("amd64".to_owned()),
            root_fs: Some(ImageInspectRootFs { typ: "layers".to_owned(), layers }),
            ..ImageInspect::default()
        }
    }

    #[test]
    fn another_id_in_the_same_kind_of_store_is_another_image() {
        let facts = ImageFacts::observe(inspected("sha256:a", &["l1"]), StoreKind::Classic);
        assert_eq!(facts.platform, "linux/amd64");
        assert!(facts.is(&inspected("sha256:a", &["l1"])));
        assert!(!facts.is(&inspected("sha256:b", &["l1"])));
    }

    #[test]
    fn between_kinds_of_stores_content_decides() {
        let facts = ImageFacts::observe(inspected("sha256:index", &["l1", "l2"]), StoreKind::Containerd);
        assert!(facts.is(&inspected("sha256:config", &["l1", "l2"])));
        assert!(!facts.is(&inspected("sha256:config", &["l1"])));
    }
}
