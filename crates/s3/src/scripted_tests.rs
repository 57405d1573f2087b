//! A server that answers as it is told, to see what is tried again and what is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstay_repository::{Put, Store, StoreError};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::S3Store;

/// Answers one request after the other; the last answer is given again and again.
async fn scripted(answers: &'static [&'static str]) -> (S3Store, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await;
            let number = count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answers[number.min(answers.len() - 1)].as_bytes()).await;
        }
    });
    (crate::server_tests::store(endpoint, "bucket", ""), asked)
}

async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await.unwrap_or(0);
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let body = text[..head].lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if request.len() >= head + 4 + body.unwrap_or(0usize) {
                return;
            }
        }
        if length == 0 {
            return;
        }
    }
}

const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_MANY: &str = "HTTP/1.1 429 Slow\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_SLOW: &str = "HTTP/1.1 408 Slow\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BROKEN_OFF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhal";
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nwhole";
const FAILED_CONDITION: &str = "HTTP/1.1 412 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_until_it_succeeds() {
    let (store, asked) = scripted(&[BUSY, TOO_MANY, TOO_SLOW, BROKEN_OFF, GOOD]).await;
    assert_eq!(store.get("key").await.unwrap(), "whole");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_was_lost_is_ours_if_the_bytes_are() {
    let (store, _) = scripted(&["", FAILED_CONDITION, GOOD]).await;
    store.put("key", Bytes::from_static(b"whole"), Put::Create).await.unwrap();
    let (store, _) = scripted(&[FAILED_CONDITION, GOOD]).await;
    let other = store.put("key", Bytes::from_static(b"other"), Put::Create).await;
    assert!(matches!(other, Err(StoreError::AlreadyThere { .. })), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_must_mend_is_said_and_not_tried_again() {
    for (answer, wanted) in [
        (
            "HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "the bucket is in the region eu-west-1",
        ),
        (
            "HTTP/1.1 403 No\r\ncontent-length: 54\r\nconnection: close\r\n\r\n<Error><Code>AccessDenied</Code><Message/></Error>    ",
            "the credentials do not give the right (AccessDenied)",
        ),
        (
            "HTTP/1.1 403 No\r\ncontent-length: 60\r\nconnection: close\r\n\r\n<Error><Code>SignatureDoesNotMatch</Code><Message/></Error>  ",
            "the server does not take these credentials (SignatureDoesNotMatch)",
        ),
    ] {
        let (store, asked) = scripted(Box::leak(Box::new([answer]))).await;
        let error = store.put("key", Bytes::from_static(b"x"), Put::Replace).await.unwrap_err();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), wanted);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{wanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_ends_in_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = crate::server_tests::store(endpoint, "bucket", "");
    let error = store.get("key").await.unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the server cannot be reached");
}
