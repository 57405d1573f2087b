use argon2::{Algorithm, Argon2, Params, Version};
use backstay_model::Clock;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::description::Description;
use crate::names::KEYS;
use crate::seal::{derive, unwrap, with_digest, without_digest, wrap};
use crate::{Error, Flaw, Put, Secret, Store, StoreError, phrase};

/// A generated key file begins so; what follows is 64 hexadecimal digits.
const KEY_FILE_HEAD: &str = "backstay-key-1-";
const KEY_FILE_MIN: usize = 16;

/// What one record under `keys/` says, in clear but for the master key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) kind: KeyKind,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) host: String,
    /// The repository it was made for; older keys do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<String>,
    pub(crate) derivation: Derivation,
    /// Hexadecimal: nonce, sealed master key.
    pub(crate) wrapped: String,
}

/// How a key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    KeyFile,
    Passphrase,
    RecoveryPhrase,
}

impl KeyRecord {
    /// Whether it is what a run left behind that died while it made another repository here.
    pub(crate) fn is_foreign(&self, description: &Description) -> bool {
        self.repository.as_ref().is_some_and(|of| *of != description.id)
    }
}

impl KeyKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Passphrase => "passphrase",
            Self::RecoveryPhrase => "recovery phrase",
        }
    }
}

/// How the wrapping key comes from the secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Derivation {
    /// For secrets that are 256 random bits.
    Hmac,
    /// For what a person made up.
    Argon2id { memory_kib: u32, passes: u32, lanes: u32, salt: String },
}

impl Derivation {
    fn for_people() -> Self {
        let salt = hex::encode(rand::random::<[u8; 16]>());
        Self::Argon2id { memory_kib: 64 << 10, passes: 3, lanes: 1, salt }
    }

    fn key(&self, secret: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        match self {
            Self::Hmac => Some(derive(secret, "backstay 1 wrap")),
            Self::Argon2id { memory_kib, passes, lanes, salt } => {
                // A record somebody else wrote must not make this machine work for hours.
                if *memory_kib > 1 << 20 || *passes > 64 || *lanes > 16 {
                    return None;
                }
                let salt = hex::decode(salt).ok()?;
                let params = Params::new(*memory_kib, *passes, *lanes, Some(32)).ok()?;
                let mut key = Zeroizing::new([0; 32]);
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(secret, &salt, &mut *key)
                    .ok()?;
                Some(key)
            }
        }
    }
}

/// The bytes of a secret that a key is made from, and whether they are random.
struct Material {
    kind: KeyKind,
    bytes: Zeroizing<Vec<u8>>,
    random: bool,
}

fn material(secret: &Secret) -> Result<Option<Material>, Error> {
    Ok(Some(match secret {
        Secret::None => return Ok(None),
        Secret::KeyFile(content) => {
            let trimmed = content.trim_ascii();
            if trimmed.len() < KEY_FILE_MIN {
                return Err(Error::WeakKey);
            }
            Material { kind: KeyKind::KeyFile, bytes: Zeroizing::new(trimmed.to_vec()), random: is_generated(trimmed) }
        }
        Secret::Passphrase(text) => Material {
            kind: KeyKind::Passphrase,
            bytes: Zeroizing::new(text.trim_end_matches(['\r', '\n']).as_bytes().to_vec()),
            random: false,
        },
        Secret::RecoveryPhrase(text) => {
            Material { kind: KeyKind::RecoveryPhrase, bytes: phrase::read(text)?, random: true }
        }
    }))
}

fn is_generated(content: &[u8]) -> bool {
    content
        .strip_prefix(KEY_FILE_HEAD.as_bytes())
        .is_some_and(|hex| hex.len() == 64 && hex.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
}

/// The content of a new key file: keep it where only the owner can read it, and nowhere beside the
/// repository.
pub fn generate_key_file() -> Secret {
    let random = Zeroizing::new(rand::random::<[u8; 32]>());
    let hex = Zeroizing::new(hex::encode(*random));
    Secret::KeyFile(Zeroizing::new(format!("{KEY_FILE_HEAD}{}\n", *hex).into_bytes()))
}

/// Wraps `master` for `secret` and stores that under a new name, which is returned.
pub(crate) async fn add(
    store: &dyn Store,
    description: &Description,
    master: &[u8; 32],
    secret: &Secret,
    clock: &dyn Clock,
    host: &str,
) -> Result<String, Error> {
    let Some(material) = material(secret)? else {
        return Err(Error::KeyMissing { location: store.location() });
    };
    let id = hex::encode(rand::random::<[u8; 8]>());
    let path = format!("{KEYS}/{id}");
    let master = Zeroizing::new(*master);
    let bound_to = bound_to(description, &path);
    let (kind, now, host) = (material.kind, clock.now(), host.to_owned());
    let repository = Some(description.id.clone());
    let record = tokio::task::spawn_blocking(move || {
        let derivation = if material.random { Derivation::Hmac } else { Derivation::for_people() };
        let key = derivation.key(&material.bytes)?;
        let wrapped = hex::encode(wrap(&key, &bound_to, &*master));
        Some(KeyRecord { kind, created_at: now, host, repository, derivation, wrapped })
    })
    .await
    .ok()
    .flatten()
    .ok_or(Error::Stopped { action: "deriving a key" })?;
    let json = serde_json::to_vec(&record).map_err(|source| Error::Encode { subject: path.clone(), source })?;
    let stored = with_digest(path.as_bytes(), json);
    store.put(&path, Bytes::from(stored), Put::Create).await.map_err(Error::store(&path))?;
    store.barrier().await.map_err(Error::store(&path))?;
    Ok(id)
}

/// Tries every key of the secret's kind.
pub(crate) async fn master(
    store: &dyn Store,
    paths: Vec<String>,
    description: &Description,
    secret: &Secret,
) -> Result<Zeroizing<[u8; 32]>, Error> {
    let Some(material) = material(secret)? else {
        return Err(Error::KeyMissing { location: store.location() });
    };
    let mut damaged = None;
    for path in paths {
        let record = match read(store, &path).await {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error @ Error::Damaged(_)) => {
                damaged = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if record.is_foreign(description)
            || record.kind != material.kind
            || matches!(record.derivation, Derivation::Hmac) != material.random
        {
            continue;
        }
        let (bytes, bound_to) = (material.bytes.clone(), bound_to(description, &path));
        let opened = tokio::task::spawn_blocking(move || open(&record, &bytes, &bound_to)).await;
        if let Some(master) = opened.ok().flatten() {
            return Ok(master);
        }
    }
    Err(damaged.unwrap_or_else(|| Error::WrongKey { location: store.location() }))
}

fn open(record: &KeyRecord, secret: &[u8], bound_to: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let wrapped = hex::decode(&record.wrapped).ok()?;
    let plaintext = unwrap(&*record.derivation.key(secret)?, bound_to, &wrapped)?;
    let mut master = Zeroizing::new([0; 32]);
    if plaintext.len() != master.len() {
        return None;
    }
    master.copy_from_slice(&plaintext);
    Some(master)
}

/// A wrapped key is good for one repository, one name and one way of sealing.
fn bound_to(description: &Description, path: &str) -> Vec<u8> {
    format!("backstay 1 key {} {} {path}", description.id, description.format).into_bytes()
}

/// Removes a key that no repository came to use.
pub(crate) async fn forget(store: &dyn Store, id: &str) -> Result<(), Error> {
    let path = format!("{KEYS}/{id}");
    store.remove(&path).await.map_err(Error::store(path))
}

/// Removes what runs left behind that died before their repository was made.
pub(crate) async fn forget_foreign(store: &dyn Store, description: &Description) -> Result<(), Error> {
    for path in paths(store).await? {
        if let Ok(Some(record)) = read(store, &path).await
            && record.is_foreign(description)
        {
            store.remove(&path).await.map_err(Error::store(path))?;
        }
    }
    Ok(())
}

pub(crate) async fn paths(store: &dyn Store) -> Result<Vec<String>, Error> {
    let listed = store.list(KEYS).await.map_err(Error::store(KEYS))?;
    let mut paths: Vec<_> = listed.into_iter().map(|listed| listed.key).collect();
    paths.sort();
    Ok(paths)
}

/// Nothing where the key was removed since it was listed.
pub(crate) async fn read(store: &dyn Store, path: &str) -> Result<Option<KeyRecord>, Error> {
    let stored = match store.get(path).await {
        Err(StoreError::NotThere { .. }) => return Ok(None),
        stored => stored.map_err(Error::store(path))?,
    };
    let damaged = |flaw| Error::damaged(path, flaw, None);
    let json = without_digest(path.as_bytes(), &stored).map_err(damaged)?;
    serde_json::from_slice(json).map(Some).map_err(|_| damaged(Flaw::Meaning))
}
