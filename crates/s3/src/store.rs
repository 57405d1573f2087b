use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ServerSideEncryption};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use backstay_repository::{Creation, Listed, Put, Store, StoreError};
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::S3Error;
use crate::retry::{Patience, retrying};

/// Objects larger than this are sent in parts.
const WHOLE_BYTES_MAX: usize = 16 << 20;
const REQUESTS_MAX: usize = 16;
/// The longest that uploads of a run which still may commit can be under way.
const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where a repository lies in S3.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// The address of a server that is not AWS.
    pub endpoint: Option<String>,
    /// Otherwise what the SDK's chain finds.
    pub region: Option<String>,
    pub path_style: bool,
    /// Otherwise what the bucket is set to.
    pub encryption: Option<Encryption>,
}

/// What the server encrypts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    Aes256,
    /// With the account's own key, or the named one.
    Kms {
        key: Option<String>,
    },
}

/// A store in an S3 bucket.
pub struct S3Store {
    pub(crate) client: Client,
    pub(crate) place: Place,
    pub(crate) patience: Patience,
    requests: Arc<Semaphore>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("place", &self.place).finish_non_exhaustive()
    }
}

impl S3Store {
    /// A store that takes credentials, and the region where `place` names none, from the SDK's own
    /// chain. Nothing is sent yet.
    pub async fn connect(place: Place) -> Self {
        let config = aws_config::defaults(BehaviorVersion::latest()).load().await;
        Self::with_config(&config, place)
    }

    /// The same, over a configuration of the caller's.
    pub fn with_config(config: &SdkConfig, place: Place) -> Self {
        Self::with_patience(config, place, Patience::default())
    }

    pub(crate) fn with_patience(config: &SdkConfig, place: Place, patience: Patience) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(patience.silence)
            .operation_attempt_timeout(Duration::from_secs(300))
            .build();
        let mut builder = Builder::from(config)
            .force_path_style(place.path_style)
            .retry_config(RetryConfig::standard().with_max_attempts(patience.attempts_within))
            .timeout_config(timeouts);
        if let Some(endpoint) = &place.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        let region = place.region.clone().map(Region::new).or_else(|| config.region().cloned());
        // Servers of one's own seldom have regions, but a request is signed for one.
        let otherwise = place.endpoint.is_some().then(|| Region::from_static("us-east-1"));
        builder.set_region(region.or(otherwise));
        Self {
            client: Client::from_conf(builder.build()),
            place,
            patience,
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        }
    }

    /// A key as the bucket knows it.
    pub(crate) fn full(&self, key: &str) -> String {
        if self.place.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.place.prefix) }
    }

    /// Waits until one more request may be under way.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed, so there always is one.
        self.requests.acquire().await.ok()
    }

    pub(crate) fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.place.encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms { key }) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    async fn put_whole(&self, key: &str, bytes: &Bytes, put: Put) -> Result<(), S3Error> {
        let (encryption, kms_key) = self.encryption();
        retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self
                .client
                .put_object()
                .bucket(&self.place.bucket)
                .key(self.full(key))
                .set_if_none_match((put == Put::Create).then(|| "*".to_owned()))
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .set_server_side_encryption(encryption.clone())
                .set_ssekms_key_id(kms_key.clone())
                .body(ByteStream::from(bytes.clone()));
            request.send().await.map(drop).map_err(S3Error::of)
        })
        .await
    }

    pub(crate) async fn put_any(&self, key: &str, bytes: &Bytes, put: Put) -> Result<(), S3Error> {
        if bytes.len() > WHOLE_BYTES_MAX {
            self.put_in_parts(key, bytes, put).await
        } else {
            self.put_whole(key, bytes, put).await
        }
    }

    async fn is_there(&self, key: &str) -> Result<bool, S3Error> {
        retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self.client.head_object().bucket(&self.place.bucket).key(self.full(key));
            match request.send().await {
                Ok(_) => Ok(true),
                Err(SdkError::ServiceError(context)) if context.err().is_not_found() => Ok(false),
                Err(error) => Err(S3Error::of(error)),
            }
        })
        .await
    }

    /// Nothing where there is nothing.
    async fn get_whole(&self, key: &str) -> Result<Option<Bytes>, S3Error> {
        retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self
                .client
                .get_object()
                .bucket(&self.place.bucket)
                .key(self.full(key))
                .checksum_mode(ChecksumMode::Enabled);
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(SdkError::ServiceError(context)) if context.err().is_no_such_key() => return Ok(None),
                Err(error) => return Err(S3Error::of(error)),
            };
            let wanted = answer.content_length.and_then(|length| u64::try_from(length).ok());
            let body = answer.body.collect().await.map_err(|error| S3Error::Broken(Box::new(error)))?.into_bytes();
            match wanted {
                Some(wanted) if wanted != body.len() as u64 => Err(S3Error::Length { got: body.len() as u64, wanted }),
                _ => Ok(Some(body)),
            }
        })
        .await
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<(Vec<Listed>, Option<String>), S3Error> {
        retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(prefix);
            let answer = request.set_continuation_token(from.map(str::to_owned)).send().await.map_err(S3Error::of)?;
            let own = self.full("").len();
            let listed = answer.contents().iter().filter_map(|object| {
                let key = object.key()?.get(own..)?.to_owned();
                Some(Listed { key, bytes: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0) })
            });
            let more = answer.is_truncated().unwrap_or(false);
            let next = answer.next_continuation_token().filter(|_| more).map(str::to_owned);
            if more && next.is_none() {
                // A listing that ends early would look like a repository with less in it.
                return Err(S3Error::Answered { status: 200, code: "a page without the way to the next".to_owned() });
            }
            Ok((listed.collect(), next))
        })
        .await
    }
}

#[async_trait]
impl Store for S3Store {
    fn location(&self) -> String {
        let Place { bucket, prefix, .. } = &self.place;
        if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") }
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let found = self.get_whole(key).await.map_err(|error| error.on("read", key))?;
        found.ok_or_else(|| StoreError::NotThere { key: key.to_owned() })
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        let there = || StoreError::AlreadyThere { key: key.to_owned() };
        match self.put_any(key, &bytes, put).await {
            Ok(()) => Ok(()),
            // An answer may have been lost and the request sent again: the same bytes are ours.
            Err(error) if put == Put::Create && error.status() == Some(412) => {
                if self.get(key).await? == bytes {
                    Ok(())
                } else {
                    Err(there())
                }
            }
            // A server without conditions at all: look, then write. The lease protects.
            Err(error) if put == Put::Create && error.status() == Some(501) => {
                if self.is_there(key).await.map_err(|error| error.on("look for", key))? {
                    return Err(there());
                }
                self.put_any(key, &bytes, Put::Replace).await.map_err(|error| error.on("write", key))
            }
            Err(error) => Err(error.on("write", key)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let prefix = format!("{}/", self.full(folder));
        let mut listed = Vec::new();
        let mut from = None;
        loop {
            let page = self.list_page(&prefix, from.as_deref()).await;
            let (some, next) = page.map_err(|error| error.on("list", folder))?;
            listed.extend(some);
            match next {
                Some(next) => from = Some(next),
                None => return Ok(listed),
            }
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let removed = retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self.client.delete_object().bucket(&self.place.bucket).key(self.full(key));
            request.send().await.map(drop).map_err(S3Error::of)
        });
        match removed.await {
            // Some servers say that what is absent cannot be removed.
            Err(error) if error.status() == Some(404) => Ok(()),
            done => done.map_err(|error| error.on("remove", key)),
        }
    }

    /// S3 answers when what was put is durable and visible to all.
    async fn barrier(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn probe(&self) -> Result<Creation, StoreError> {
        self.try_creation().await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.sweep_older_than(UPLOAD_AGE_MAX).await
    }
}
