use std::collections::BTreeMap;

use backstay_model::{Manifest, PartName, Root};

use crate::{Error, Repository};

/// How one named stream of a part differs between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub part: PartName,
    pub stream: String,
    /// Nothing where the first snapshot has no such stream.
    pub before: Option<Root>,
    pub after: Option<Root>,
}

impl Repository {
    /// The streams that are not equal in both snapshots, found by their roots alone.
    pub async fn diff(&self, before: &Manifest, after: &Manifest) -> Result<Vec<Change>, Error> {
        let mut before = self.streams(before).await?;
        let mut changes = Vec::new();
        for ((part, stream), root) in self.streams(after).await? {
            let old = before.remove(&(part.clone(), stream.clone()));
            if old.as_ref().map(|old| old.digest) != Some(root.digest) {
                changes.push(Change { part, stream, before: old, after: Some(root) });
            }
        }
        for ((part, stream), root) in before {
            changes.push(Change { part, stream, before: Some(root), after: None });
        }
        changes.sort_by(|a, b| (&a.part, &a.stream).cmp(&(&b.part, &b.stream)));
        Ok(changes)
    }

    async fn streams(&self, manifest: &Manifest) -> Result<BTreeMap<(PartName, String), Root>, Error> {
        let mut streams = BTreeMap::new();
        for part in &manifest.parts {
            for (name, root) in self.contents(part).await? {
                streams.insert((part.name.clone(), name), root);
            }
        }
        Ok(streams)
    }
}

#[cfg(test)]
mod tests {
    use crate::trial::{fresh, noise, snapshot};

    #[tokio::test(flavor = "multi_thread")]
    async fn only_what_changed_came_or_went_is_named() {
        let (_, clock, repository) = fresh().await;
        let same = noise(1, 100_000);
        let one = snapshot(&repository, &clock, &[("same", same.clone()), ("rows", vec![1]), ("old", vec![2])])
            .await
            .unwrap();
        let two = snapshot(&repository, &clock, &[("same", same), ("rows", vec![3]), ("new", vec![4])]).await.unwrap();
        let changes = repository.diff(&one, &two).await.unwrap();
        let named: Vec<_> = changes
            .iter()
            .map(|change| (change.stream.as_str(), change.before.is_some(), change.after.is_some()))
            .collect();
        assert_eq!(named, [("new", false, true), ("old", true, false), ("rows", true, true)]);
        assert!(repository.diff(&two, &two).await.unwrap().is_empty());
    }
}
