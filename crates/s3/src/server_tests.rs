//! The suite every store must pass, on the S3 servers of the lab.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::config::SharedCredentialsProvider;
use backstay_repository::{Allowances, Creation, Put, Store, StoreError, conformance};
use bytes::Bytes;

use crate::{Place, S3Store};

const OWN: (&str, &str) = ("BACKSTAY_S3_ENDPOINT", "the S3 store on a server that checks signatures");
const MOTO: (&str, &str) = ("BACKSTAY_MOTO_ENDPOINT", "the S3 store on a server with atomic creation");

pub(crate) fn config() -> aws_config::SdkConfig {
    let named = |variable: &str, otherwise: &str| std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned());
    let credentials = Credentials::new(
        named("AWS_ACCESS_KEY_ID", "backstay-lab"),
        named("AWS_SECRET_ACCESS_KEY", "backstay-lab-secret"),
        None,
        None,
        "lab",
    );
    aws_config::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(aws_sdk_s3::config::SharedAsyncSleep::new(Sleep))
        .build()
}

pub(crate) fn store(endpoint: String, bucket: &str, prefix: &str) -> S3Store {
    let place = Place {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(endpoint),
        path_style: true,
        ..Place::default()
    };
    S3Store::with_config(&config(), place)
}

#[derive(Debug)]
struct Sleep;

impl aws_sdk_s3::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_s3::config::Sleep {
        aws_sdk_s3::config::Sleep::new(tokio::time::sleep(duration))
    }
}

/// A store in a bucket of its own. Nothing where the server is not there.
async fn fresh((variable, what): (&str, &str)) -> Option<S3Store> {
    let endpoint = backstay_testkit::server_from(variable, what)?;
    let bucket = format!("backstay-{:016x}", rand::random::<u64>());
    let store = store(endpoint, &bucket, "some/where");
    store.client.create_bucket().bucket(&bucket).send().await.unwrap();
    Some(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_server_holds_what_every_store_must() {
    let Some(store) = fresh(OWN).await else { return };
    // It looks and then writes, so two at the same moment may both succeed.
    conformance(Arc::new(store), Allowances { races: true, ..Allowances::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_holds_what_every_store_must() {
    let Some(store) = fresh(MOTO).await else { return };
    conformance(Arc::new(store), Allowances::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_finds_out_whether_creation_holds_and_leaves_nothing() {
    let Some(store) = fresh(MOTO).await else { return };
    assert_eq!(store.probe().await.unwrap(), Creation::Holds);
    assert!(store.list("probe").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_goes_in_parts_and_left_overs_are_swept() {
    for server in [OWN, MOTO] {
        let Some(store) = fresh(server).await else { continue };
        let large: Bytes = (0..=250u8).cycle().take(20 << 20).collect::<Vec<_>>().into();
        store.put("large", large.clone(), Put::Create).await.unwrap();
        assert!(store.get("large").await.unwrap() == large);
        let other = Bytes::from(vec![7; 17 << 20]);
        let again = store.put("large", other, Put::Create).await;
        assert!(matches!(again, Err(StoreError::AlreadyThere { .. })), "{again:?}");
        assert!(store.get("large").await.unwrap() == large);
        // An upload that died.
        let begun = store.client.create_multipart_upload().bucket(&store.place.bucket).key("some/where/dead");
        begun.send().await.unwrap();
        store.sweep().await.unwrap();
        store.sweep_older_than(Duration::ZERO).await.unwrap();
        if server == MOTO {
            let left = store.client.list_multipart_uploads().bucket(&store.place.bucket).send().await.unwrap();
            assert!(left.uploads().is_empty(), "{left:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_said_as_such() {
    let Some(endpoint) = backstay_testkit::server_from(OWN.0, OWN.1) else { return };
    let error = store(endpoint, "backstay-not-there", "").list("x").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "there is no such bucket");
}
