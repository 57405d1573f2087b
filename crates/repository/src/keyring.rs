//! Who can open a repository: several keys, each wrapping the one master key.

use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use crate::names::{DESCRIPTION, KEYS};
use crate::{Error, KeyKind, Repository, Secret, key, phrase};

/// A key as `key list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    pub id: String,
    pub kind: KeyKind,
    pub created_at: DateTime<Utc>,
    /// Where it was added.
    pub host: String,
}

/// A new recovery phrase: for a terminal or a file of the owner's, never for a pipe or a log.
pub fn generate_recovery_phrase() -> Secret {
    Secret::RecoveryPhrase(phrase::write(&Zeroizing::new(rand::random::<[u8; 32]>())))
}

impl Repository {
    /// Lets `secret` open the repository too. Returns the new key's id.
    pub async fn add_key(&self, secret: &Secret) -> Result<String, Error> {
        if !self.is_sealed() {
            return Err(Error::NotSealed { location: self.location() });
        }
        let (clock, host) = (self.clock(), &self.options().host);
        let id = key::add(self.store(), self.description(), self.master(), secret, clock, host).await?;
        // Read back: a key that does not open must not be trusted with the last copy.
        let opened = key::master(self.store(), key::paths(self.store()).await?, self.description(), secret).await?;
        if *opened == **self.master() { Ok(id) } else { Err(Error::WrongKey { location: self.location() }) }
    }

    /// The keys there are, oldest first. Fails where one is damaged.
    pub async fn list_keys(&self) -> Result<Vec<KeyEntry>, Error> {
        let mut entries = Vec::new();
        for path in key::paths(self.store()).await? {
            if let Some(record) = key::read(self.store(), &path).await?
                && !record.is_foreign(self.description())
            {
                let id = path.rsplit('/').next().unwrap_or_default().to_owned();
                entries.push(KeyEntry { id, kind: record.kind, created_at: record.created_at, host: record.host });
            }
        }
        entries.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(entries)
    }

    /// Takes a key away. The last one stays.
    pub async fn remove_key(&self, id: &str) -> Result<(), Error> {
        let path = format!("{KEYS}/{id}");
        let paths = key::paths(self.store()).await?;
        let named = || (self.location(), id.to_owned());
        if !paths.contains(&path) {
            let (location, id) = named();
            return Err(Error::NoSuchKey { location, id });
        }
        // A damaged key opens nothing, so it does not count as one that is left.
        let mut others = 0;
        for other in paths.iter().filter(|other| **other != path) {
            let record = key::read(self.store(), other).await;
            others += usize::from(matches!(record, Ok(Some(record)) if !record.is_foreign(self.description())));
        }
        if others == 0 {
            let (location, id) = named();
            return Err(Error::LastKey { location, id });
        }
        self.store().remove(&path).await.map_err(Error::store(&path))?;
        self.store().barrier().await.map_err(Error::store(DESCRIPTION))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::trial::{fresh, key, options};
    use crate::{Flaw, MemoryStore, Store, generate_key_file};

    async fn open(store: &MemoryStore, secret: &Secret) -> Result<Repository, Error> {
        let store: Arc<dyn Store> = Arc::new(store.clone());
        Repository::open(store, secret, options(&crate::trial::HeldClock::default())).await
    }

    #[tokio::test]
    async fn every_kind_of_key_opens_until_it_is_removed() {
        let (store, _, repository) = fresh().await;
        let made_up = Secret::KeyFile(Zeroizing::new(b"sixteen characters of our own".to_vec()));
        let passphrase = Secret::Passphrase(Zeroizing::new("correct horse".to_owned()));
        for secret in [generate_key_file(), made_up, passphrase, generate_recovery_phrase()] {
            assert!(matches!(open(&store, &secret).await, Err(Error::WrongKey { .. })));
            let id = repository.add_key(&secret).await.unwrap();
            open(&store, &secret).await.unwrap();
            assert_eq!(repository.list_keys().await.unwrap().len(), 2);
            repository.remove_key(&id).await.unwrap();
            assert!(matches!(open(&store, &secret).await, Err(Error::WrongKey { .. })));
        }
        let last = repository.list_keys().await.unwrap()[0].id.clone();
        assert!(matches!(repository.remove_key(&last).await, Err(Error::LastKey { .. })));
        assert!(matches!(repository.remove_key("0000").await, Err(Error::NoSuchKey { .. })));
        open(&store, &key()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_with_opening_is_told_apart() {
        let (store, _, _) = fresh().await;
        assert!(matches!(open(&MemoryStore::default(), &key()).await, Err(Error::NotARepository { .. })));
        assert!(matches!(open(&store, &Secret::None).await, Err(Error::KeyMissing { .. })));
        let short = Secret::KeyFile(Zeroizing::new(b"short".to_vec()));
        assert!(matches!(open(&store, &short).await, Err(Error::WeakKey)));
        let secret = key();
        let again = Repository::create(Arc::new(store.clone()), &secret, options(&crate::trial::HeldClock::default()));
        assert!(matches!(again.await, Err(Error::AlreadyARepository { .. })));
        let path = store.keys().into_iter().find(|key| key.starts_with("keys/")).unwrap();
        store.tamper(&path, |mut bytes| {
            bytes[20] ^= 1;
            Some(bytes)
        });
        let damaged = open(&store, &key()).await.err().unwrap();
        assert_eq!(damaged.damage().unwrap().flaw, Flaw::Digest);
        store.tamper("backstay.json", |bytes| {
            Some(String::from_utf8(bytes).unwrap().replace("\"format\":1", "\"format\":9").into_bytes())
        });
        assert!(matches!(open(&store, &key()).await, Err(Error::NewerFormat { found: 9, .. })));
    }

    #[tokio::test]
    async fn a_sealed_repository_passed_off_as_open_is_refused() {
        let (store, clock, _) = fresh().await;
        let open_store = MemoryStore::default();
        Repository::create(Arc::new(open_store.clone()), &Secret::None, options(&clock)).await.unwrap();
        let description = open_store.get("backstay.json").await.unwrap();
        store.tamper("backstay.json", |_| Some(description.to_vec()));
        assert!(matches!(open(&store, &key()).await, Err(Error::NotSealed { .. })));
    }
}
