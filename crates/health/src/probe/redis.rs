use std::sync::Arc;

use backstay_model::with_causes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Seen;

const LINE_BYTES_MAX: u64 = 4096;

/// `AUTH` where the URL has a password, then `PING`.
pub async fn look(url: &str, password: Option<&str>) -> Seen {
    match ask(url, password).await {
        Ok(()) => Seen::Good("PONG".to_owned()),
        Err(words) => Seen::Bad(words),
    }
}

struct Address {
    tls: bool,
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
}

async fn ask(url: &str, password: Option<&str>) -> Result<(), String> {
    let mut address = parse(url)?;
    if let Some(password) = password {
        address.password = Some(password.to_owned());
    }
    let stream =
        TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|error| with_causes(&error))?;
    if address.tls {
        let name = ServerName::try_from(address.host.clone()).map_err(|_| "the host is no server's name".to_owned())?;
        let stream = TlsConnector::from(Arc::new(trusting_the_machine()))
            .connect(name, stream)
            .await
            .map_err(|error| with_causes(&error))?;
        converse(stream, &address).await
    } else {
        converse(stream, &address).await
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, address: &Address) -> Result<(), String> {
    let mut stream = BufReader::new(stream);
    if let Some(password) = &address.password {
        let words: Vec<&str> = ["AUTH"].into_iter().chain(address.user.as_deref()).chain([password.as_str()]).collect();
        // The server's own words may repeat what it was sent.
        if say(&mut stream, &words).await? != "+OK" {
            return Err("the password was refused".to_owned());
        }
    }
    match say(&mut stream, &["PING"]).await?.as_str() {
        "+PONG" => Ok(()),
        other => Err(format!("PING was answered with `{other}`")),
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, words: &[&str]) -> Result<String, String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.get_mut().write_all(request.as_bytes()).await.map_err(|error| with_causes(&error))?;
    stream.get_mut().flush().await.map_err(|error| with_causes(&error))?;
    let mut line = String::new();
    let mut limited = tokio::io::AsyncReadExt::take(stream, LINE_BYTES_MAX);
    limited.read_line(&mut line).await.map_err(|error| with_causes(&error))?;
    if line.ends_with('\n') { Ok(line.trim_end().to_owned()) } else { Err("the connection was closed".to_owned()) }
}

fn parse(url: &str) -> Result<Address, String> {
    // The URL may hold a password, so that no message repeats it.
    let wrong = || "the URL is not redis://host:port or rediss://host:port".to_owned();
    let url = reqwest::Url::parse(url).map_err(|_| wrong())?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(wrong()),
    };
    let some = |text: &str| (!text.is_empty()).then(|| unescaped(text));
    Ok(Address {
        tls,
        host: url.host_str().ok_or_else(wrong)?.to_owned(),
        port: url.port().unwrap_or(6379),
        user: some(url.username()),
        password: url.password().and_then(some),
    })
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'%').then(|| tail.get(..2)).flatten().and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn trusting_the_machine() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}
