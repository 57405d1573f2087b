use backstay_model::with_causes;
use serde::Deserialize;

use super::{Seen, http};

#[derive(Deserialize)]
struct Discovery {
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Granted {
    token_type: String,
}

/// Asks for a token with client credentials, as the application would. The token itself is dropped.
pub async fn look(issuer: &str, client: &str, secret: &str) -> Seen {
    match ask(issuer, client, secret).await {
        Ok(words) => Seen::Good(words),
        Err(words) => Seen::Bad(words),
    }
}

async fn ask(issuer: &str, client: &str, secret: &str) -> Result<String, String> {
    let http = http::client()?;
    let page = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let failed =
        |what: &'static str| move |error: reqwest::Error| format!("{what}: {}", with_causes(&error.without_url()));
    let found =
        http.get(page).send().await.and_then(reqwest::Response::error_for_status).map_err(failed("discovery"))?;
    let discovery: Discovery = found.json().await.map_err(failed("discovery"))?;
    // The body by hand: form encoding is three fields, and a feature more of the library otherwise.
    let body = format!("grant_type=client_credentials&client_id={}&client_secret={}", escaped(client), escaped(secret));
    let answer = http
        .post(discovery.token_endpoint)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed("token"))?;
    let granted: Granted = answer.json().await.map_err(failed("token"))?;
    Ok(format!("a {} token was granted", granted.token_type))
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
