//! An S3 server over a folder, for tests and the lab: signatures and checksums are really checked. It listens on
//! 127.0.0.1 only and prints the port it got as its one line of output.
//!
//! `s3_server --root FOLDER [--port N] [--milliseconds-away N]`, credentials in `S3_ACCESS_KEY` and `S3_SECRET_KEY`. A
//! folder in the root is a bucket. Conditional creation is not atomic here, and there are no versions or locks: see moto
//! for those. A server that is away takes so much longer to accept a connection and to answer each request.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

struct Options {
    root: PathBuf,
    port: u16,
    away: Duration,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut root = None;
    let mut port = 0;
    let mut away = Duration::ZERO;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--root" => root = Some(PathBuf::from(value)),
            "--port" => port = value.parse()?,
            "--milliseconds-away" => away = Duration::from_millis(value.parse()?),
            _ => return Err(format!("unknown option {word}; there are --root, --port, --milliseconds-away").into()),
        }
    }
    Ok(Options { root: root.ok_or("--root is missing")?, port, away })
}

fn credentials() -> Result<SimpleAuth, Box<dyn Error>> {
    let named = |name: &str| std::env::var(name).map_err(|_| format!("the environment variable {name} is missing"));
    Ok(SimpleAuth::from_single(named("S3_ACCESS_KEY")?, named("S3_SECRET_KEY")?))
}

/// A server that is here does not wait at all: even a sleep of nothing may last a millisecond.
async fn travel(away: Duration) {
    if !away.is_zero() {
        tokio::time::sleep(away).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let mut service =
        S3ServiceBuilder::new(s3s_fs::FileSystem::new(&options.root).map_err(|error| format!("{error:?}"))?);
    service.set_auth(credentials()?);
    let service = service.build();

    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    loop {
        // A client that hangs up between connect and accept is no reason to end.
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let (service, away) = (service.clone(), options.away);
        tokio::spawn(async move {
            travel(away).await;
            let answer = service_fn(move |request: Request<Incoming>| {
                let service = service.clone();
                async move {
                    travel(away).await;
                    service.call(request.map(Into::into)).await
                }
            });
            let connections = Builder::new(TokioExecutor::new());
            let _ = connections.serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}
