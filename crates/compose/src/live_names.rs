use std::collections::HashMap;

use crate::anchors::users_of_images;
use crate::engine::split_tag;
use crate::{Engine, Error};

/// Who else on this engine uses a name: moving it would change what they start next.
pub(crate) struct LiveNames {
    users: HashMap<String, Vec<Option<String>>>,
    project: String,
}

impl LiveNames {
    pub async fn read(engine: &Engine, project: &str) -> Result<Self, Error> {
        Ok(Self { users: users_of_images(engine).await?, project: project.to_owned() })
    }

    /// Whether a name may be moved: it is a tag, and nobody outside the project was started from it.
    pub fn may_move(&self, name: &str) -> bool {
        !name.contains('@') && !name.starts_with("sha256:") && !self.is_shared(name)
    }

    pub fn is_shared(&self, name: &str) -> bool {
        let full = full(name);
        let mut users = self.users.iter().filter(|(used, _)| self::full(used) == full).flat_map(|(_, users)| users);
        users.any(|user| user.as_deref() != Some(self.project.as_str()))
    }

    /// Whether a container that is no anchor was made from an image.
    pub fn is_used(&self, image: &str) -> bool {
        self.users.contains_key(image)
    }
}

fn full(name: &str) -> String {
    match split_tag(name) {
        (_, Some(_)) => name.to_owned(),
        (repository, None) => format!("{repository}:latest"),
    }
}
