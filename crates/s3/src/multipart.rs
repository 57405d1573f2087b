//! Large objects in parts, and what uploads that died left behind.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use backstay_repository::{Put, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::retry::retrying;
use crate::{S3Error, S3Store};

const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

impl S3Store {
    pub(crate) async fn put_in_parts(&self, key: &str, bytes: &Bytes, put: Put) -> Result<(), S3Error> {
        let upload = self.begin_upload(key).await?;
        let done = self.fill_upload(key, &upload, bytes, put).await;
        if done.is_err() {
            // What cannot be taken away now is taken away by a later sweep.
            let _ = self.abort_upload(&self.full(key), &upload).await;
        }
        done
    }

    async fn begin_upload(&self, key: &str) -> Result<String, S3Error> {
        let (encryption, kms_key) = self.encryption();
        retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self
                .client
                .create_multipart_upload()
                .bucket(&self.place.bucket)
                .key(self.full(key))
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .set_server_side_encryption(encryption.clone())
                .set_ssekms_key_id(kms_key.clone());
            let answer = request.send().await.map_err(S3Error::of)?;
            let missing = || S3Error::Answered { status: 200, code: "an upload without a name".to_owned() };
            answer.upload_id.ok_or_else(missing)
        })
        .await
    }

    async fn fill_upload(&self, key: &str, upload: &str, bytes: &Bytes, put: Put) -> Result<(), S3Error> {
        let pieces = (0..bytes.len()).step_by(PART_BYTES).zip(1..);
        let parts = pieces.map(|(start, number)| {
            let piece = bytes.slice(start..bytes.len().min(start + PART_BYTES));
            self.send_part(key, upload, number, piece)
        });
        let parts: Vec<_> = stream::iter(parts).buffered(PARTS_AT_ONCE).try_collect().await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self
                .client
                .complete_multipart_upload()
                .bucket(&self.place.bucket)
                .key(self.full(key))
                .upload_id(upload)
                .set_if_none_match((put == Put::Create).then(|| "*".to_owned()))
                .multipart_upload(parts.clone());
            request.send().await.map(drop).map_err(S3Error::of)
        })
        .await
    }

    async fn send_part(&self, key: &str, upload: &str, number: i32, piece: Bytes) -> Result<CompletedPart, S3Error> {
        retrying(self.patience, || async {
            let _turn = self.turn().await;
            let request = self
                .client
                .upload_part()
                .bucket(&self.place.bucket)
                .key(self.full(key))
                .upload_id(upload)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .body(ByteStream::from(piece.clone()));
            let answer = request.send().await.map_err(S3Error::of)?;
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(answer.e_tag)
                .set_checksum_sha256(answer.checksum_sha256)
                .build())
        })
        .await
    }

    async fn abort_upload(&self, full: &str, upload: &str) -> Result<(), S3Error> {
        let _turn = self.turn().await;
        let request = self.client.abort_multipart_upload().bucket(&self.place.bucket).key(full).upload_id(upload);
        request.send().await.map(drop).map_err(S3Error::of)
    }

    /// Takes away uploads that were begun longer ago than `age` and never ended.
    pub(crate) async fn sweep_older_than(&self, age: Duration) -> Result<(), StoreError> {
        let failed = |error: S3Error| error.on("sweep", &self.full(""));
        let (mut key_marker, mut upload_marker) = (None, None);
        loop {
            let page = retrying(self.patience, || async {
                let _turn = self.turn().await;
                let request = self.client.list_multipart_uploads().bucket(&self.place.bucket).prefix(self.full(""));
                let request = request.set_key_marker(key_marker.clone()).set_upload_id_marker(upload_marker.clone());
                request.send().await.map_err(S3Error::of)
            });
            let page = match page.await {
                Ok(page) => page,
                // A server that cannot list them is swept by its own rules.
                Err(error) if error.status() == Some(501) => return Ok(()),
                Err(error) => return Err(failed(error)),
            };
            let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            for upload in page.uploads() {
                let begun = upload.initiated().and_then(|moment| SystemTime::try_from(*moment).ok());
                if let (Some(key), Some(id), Some(begun)) = (upload.key(), upload.upload_id(), begun)
                    && begun <= before
                {
                    match self.abort_upload(key, id).await {
                        Err(error) if error.status() != Some(404) => return Err(failed(error)),
                        _ => {}
                    }
                }
            }
            if !page.is_truncated().unwrap_or(false) || page.next_key_marker().is_none() {
                return Ok(());
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            upload_marker = page.next_upload_id_marker().map(str::to_owned);
        }
    }
}
