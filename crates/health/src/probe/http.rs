use std::time::{Duration, Instant};

use backstay_model::with_causes;
use reqwest::redirect::Policy;

use super::Seen;

/// Enough for any health page, and a limit on one that never ends.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What an answer must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// These status codes; without any, 200 to 299.
    pub status: Vec<u16>,
    /// The body holds this text.
    pub contains: Option<String>,
    /// The values at these JSON pointers (`/database/ok`) are these.
    pub json: Vec<(String, serde_json::Value)>,
    pub latency_max: Option<Duration>,
}

pub async fn look(url: &str, headers: &[(String, String)], expect: &Expectation) -> Seen {
    match ask(url, headers, expect).await {
        Ok(words) => Seen::Good(words),
        Err(words) => Seen::Bad(words),
    }
}

async fn ask(url: &str, headers: &[(String, String)], expect: &Expectation) -> Result<String, String> {
    let client = client()?;
    let start = Instant::now();
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|error| with_causes(&error.without_url()))?;
    let status = response.status().as_u16();
    let wanted = if expect.status.is_empty() { (200..300).contains(&status) } else { expect.status.contains(&status) };
    if !wanted {
        return Err(format!("status {status}"));
    }
    let body = if expect.contains.is_some() || !expect.json.is_empty() { read(response).await? } else { Vec::new() };
    let took = start.elapsed();
    if let Some(text) = &expect.contains
        && !String::from_utf8_lossy(&body).contains(text.as_str())
    {
        return Err(format!("status {status}, and the body does not hold `{text}`"));
    }
    for (pointer, value) in &expect.json {
        agree(&body, pointer, value)?;
    }
    match expect.latency_max {
        Some(limit) if took > limit => Err(format!("took {} ms, more than {}", took.as_millis(), limit.as_millis())),
        _ => Ok(format!("status {status}")),
    }
}

/// A redirect is an answer of its own: following it would look at something else.
pub(super) fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().map_err(|error| with_causes(&error))
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let early = |error: reqwest::Error| format!("the body ended early: {}", with_causes(&error.without_url()));
    while let Some(piece) = response.chunk().await.map_err(early)? {
        body.extend_from_slice(&piece);
        if body.len() > BODY_BYTES_MAX {
            return Err("the body is longer than 1 MiB".to_owned());
        }
    }
    Ok(body)
}

fn agree(body: &[u8], pointer: &str, wanted: &serde_json::Value) -> Result<(), String> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON".to_owned())?;
    match value.pointer(pointer) {
        Some(found) if found == wanted => Ok(()),
        // The value itself is not repeated: a health page may say more than a log should.
        Some(_) => Err(format!("`{pointer}` is not {wanted}")),
        None => Err(format!("there is no `{pointer}`")),
    }
}
