use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wiremock::matchers::{body_string_contains, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::{Expectation, Kind, Probe, Seen};

const PATIENCE: Duration = Duration::from_secs(60);

async fn look(kind: Kind) -> Seen {
    looking_for(kind, PATIENCE).await
}

async fn looking_for(kind: Kind, timeout: Duration) -> Seen {
    Probe { name: "p".to_owned(), service: None, timeout, kind }.look().await.seen
}

fn http(url: String, expect: Expectation) -> Kind {
    Kind::Http { url, headers: Vec::new(), expect }
}

/// A server that answers each connection by `answer` and then leaves it open for `open`, for as long as the test runs.
async fn server<F, R>(answer: F) -> String
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn request_of(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let count = stream.read(&mut bytes).await.unwrap_or(0);
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[tokio::test]
async fn http_is_judged_by_status_body_and_json() {
    let server = MockServer::start().await;
    let body = serde_json::json!({"status": "ok", "database": {"ok": false}});
    Mock::given(path("/health")).respond_with(ResponseTemplate::new(200).set_body_json(body)).mount(&server).await;
    Mock::given(path("/gone")).respond_with(ResponseTemplate::new(503)).mount(&server).await;
    Mock::given(path("/moved"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", "/health"))
        .mount(&server)
        .await;
    let at = |path: &str| format!("{}{path}", server.uri());
    let json = |pointer: &str, value| Expectation { json: vec![(pointer.to_owned(), value)], ..Expectation::default() };
    let bad = |words: &str| Seen::Bad(words.to_owned());

    assert_eq!(look(http(at("/health"), Expectation::default())).await, Seen::Good("status 200".to_owned()));
    assert_eq!(look(http(at("/gone"), Expectation::default())).await, bad("status 503"));
    assert_eq!(look(http(at("/moved"), Expectation::default())).await, bad("status 302"));
    let wanted = Expectation { status: vec![503], ..Expectation::default() };
    assert_eq!(look(http(at("/gone"), wanted)).await, Seen::Good("status 503".to_owned()));
    let wanted = Expectation { contains: Some("fine".to_owned()), ..Expectation::default() };
    assert_eq!(look(http(at("/health"), wanted)).await, bad("status 200, and the body does not hold `fine`"));
    assert_eq!(look(http(at("/health"), json("/status", "ok".into()))).await, Seen::Good("status 200".to_owned()));
    assert_eq!(look(http(at("/health"), json("/database/ok", true.into()))).await, bad("`/database/ok` is not true"));
    assert_eq!(look(http(at("/health"), json("/queue", true.into()))).await, bad("there is no `/queue`"));
}

#[tokio::test]
async fn secret_headers_are_sent_and_never_said() {
    let server = MockServer::start().await;
    Mock::given(header("authorization", "Bearer s3cret")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let headers = vec![("authorization".to_owned(), "Bearer s3cret".to_owned())];
    let probe = Probe {
        name: "api".to_owned(),
        service: None,
        timeout: PATIENCE,
        kind: Kind::Http { url: server.uri(), headers, expect: Expectation::default() },
    };
    assert_eq!(probe.look().await.seen, Seen::Good("status 200".to_owned()));
    assert!(!format!("{probe:?}").contains("s3cret"));
}

#[tokio::test]
async fn servers_that_misbehave_are_bad_and_never_hold_the_probe_up() {
    let hangs = server(|mut stream| async move {
        request_of(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let closes = server(|stream| async move { drop(stream) }).await;
    let short = server(|mut stream| async move {
        request_of(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok").await;
    })
    .await;
    let huge = server(|mut stream| async move {
        request_of(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n").await;
        let piece = vec![b'x'; 1 << 16];
        while stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    let drips = server(|mut stream| async move {
        request_of(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let reading = || Expectation { contains: Some("ok".to_owned()), ..Expectation::default() };
    let url = |address: &str| format!("http://{address}/");
    let brief = Duration::from_millis(300);

    assert_eq!(looking_for(http(url(&hangs), reading()), brief).await, Seen::Bad("no answer within 0.3 s".to_owned()));
    assert_eq!(looking_for(http(url(&drips), reading()), brief).await, Seen::Bad("no answer within 0.3 s".to_owned()));
    assert!(matches!(look(http(url(&closes), reading())).await, Seen::Bad(_)));
    assert!(
        matches!(look(http(url(&short), reading())).await, Seen::Bad(words) if words.starts_with("the body ended early"))
    );
    assert_eq!(look(http(url(&huge), reading())).await, Seen::Bad("the body is longer than 1 MiB".to_owned()));
}

#[tokio::test]
async fn nobody_there_is_bad() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    assert!(matches!(look(Kind::Tcp { address: address.clone() }).await, Seen::Bad(_)));
    assert!(matches!(look(http(format!("http://{address}"), Expectation::default())).await, Seen::Bad(_)));
    let listening = server(|_| async {}).await;
    assert!(matches!(look(Kind::Tcp { address: listening }).await, Seen::Good(_)));
}

#[tokio::test]
async fn redis_is_asked_with_its_password_which_no_answer_repeats() {
    let address = server(|mut stream| async move {
        loop {
            let request = request_of(&mut stream).await;
            let answer = match request.as_str() {
                "*2\r\n$4\r\nAUTH\r\n$5\r\np@ss!\r\n" => "+OK\r\n",
                text if text.contains("AUTH") => "-WRONGPASS p@ss!\r\n",
                "*1\r\n$4\r\nPING\r\n" => "+PONG\r\n",
                _ => return,
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let good = look(Kind::Redis { url: format!("redis://:p%40ss!@{address}"), password: None }).await;
    assert_eq!(good, Seen::Good("PONG".to_owned()));
    let bad = look(Kind::Redis { url: format!("redis://{address}"), password: Some("other".to_owned()) }).await;
    assert_eq!(bad, Seen::Bad("the password was refused".to_owned()));
    assert!(matches!(look(Kind::Redis { url: "http://x".to_owned(), password: None }).await, Seen::Bad(_)));
}

#[tokio::test]
async fn a_command_is_judged_by_its_exit_and_ended_with_its_time() {
    let words = |line: &str| Kind::Command { words: vec!["sh".into(), "-c".into(), line.into()], folder: "/".into() };
    assert_eq!(look(words("true")).await, Seen::Good("exit 0".to_owned()));
    assert_eq!(look(words("echo oh >&2; exit 3")).await, Seen::Bad("exit 3: oh".to_owned()));
    assert!(matches!(
        look(Kind::Command { words: vec!["/no/such".into()], folder: "/".into() }).await,
        Seen::Unknown(_)
    ));
    let late = looking_for(words("sleep 1000"), Duration::from_millis(200)).await;
    assert_eq!(late, Seen::Bad("no answer within 0.2 s".to_owned()));
}

#[tokio::test]
async fn a_token_is_asked_for_where_discovery_says() {
    let server = MockServer::start().await;
    let discovery = serde_json::json!({"token_endpoint": format!("{}/token", server.uri())});
    Mock::given(path("/realms/shop/.well-known/openid-configuration"))
        .respond_with(ResponseTemplate::new(200).set_body_json(discovery))
        .mount(&server)
        .await;
    let granted = serde_json::json!({"access_token": "t0ken", "token_type": "Bearer"});
    Mock::given(method("POST"))
        .and(path("/token"))
        .and(body_string_contains("client_secret=a%26b"))
        .respond_with(ResponseTemplate::new(200).set_body_json(granted))
        .mount(&server)
        .await;
    let ask = |secret: &str| Kind::Oidc {
        issuer: format!("{}/realms/shop", server.uri()),
        client: "shop".into(),
        secret: secret.into(),
    };
    assert_eq!(look(ask("a&b")).await, Seen::Good("a Bearer token was granted".to_owned()));
    assert!(matches!(look(ask("wrong")).await, Seen::Bad(words) if words.starts_with("token: ")));
}

/// A TLS server that presents one certificate to everybody.
async fn tls_server(certificate: &'static [u8]) -> String {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let key = PrivateKeyDer::try_from(include_bytes!("../../../fixtures/tls/key.der").as_slice()).unwrap();
    let config = ServerConfig::builder_with_provider(std::sync::Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate)], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_certificate_is_judged_by_its_expiry_though_nobody_trusts_it() {
    let look_at =
        |address: String, days_min| look(Kind::Tls { address, server_name: "shop.example".to_owned(), days_min });
    let good = tls_server(include_bytes!("../../../fixtures/tls/valid-for-decades.der")).await;
    let expired = tls_server(include_bytes!("../../../fixtures/tls/expired.der")).await;
    assert!(matches!(look_at(good.clone(), 14).await, Seen::Good(_)));
    assert!(matches!(look_at(good, 100_000).await, Seen::Bad(words) if words.contains("fewer than 100000")));
    assert_eq!(look_at(expired, 14).await, Seen::Bad("the certificate has expired".to_owned()));
    let plain = server(|stream| async move { drop(stream) }).await;
    assert!(matches!(look_at(plain, 14).await, Seen::Bad(_)));
}
