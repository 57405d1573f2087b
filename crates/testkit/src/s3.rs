use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What the server of [`S3Server`] knows its clients by: access key and secret.
pub const S3_CREDENTIALS: (&str, &str) = ("backstay-lab", "backstay-lab-secret");

/// An S3 server in this process, over a folder of its own; signatures and checksums are really checked.
/// Conditional creation is not atomic here. It can be killed in the middle, and started again.
#[derive(Debug)]
pub struct S3Server {
    folder: TempDir,
    port: u16,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl S3Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let serving = Mutex::new(Some(tokio::spawn(serve(listener, service(folder.path())))));
        Self { folder, port, serving }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Makes a bucket, and returns the folder it lies in.
    pub fn bucket(&self, name: &str) -> std::path::PathBuf {
        let bucket = self.folder.path().join(name);
        fs::create_dir_all(&bucket).expect("a bucket");
        bucket
    }

    /// Ends it where it stands: connections are cut, and what it was doing is not finished.
    pub async fn kill(&self) {
        let serving = self.serving.lock().expect("no test panicked here").take();
        if let Some(serving) = serving {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Starts it again, over the same folder and at the same address.
    pub async fn revive(&self) {
        self.kill().await;
        // What was cut may hold the address for a moment.
        let mut listener = TcpListener::bind(("127.0.0.1", self.port)).await;
        for _ in 0..600 {
            if listener.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            listener = TcpListener::bind(("127.0.0.1", self.port)).await;
        }
        let serving = tokio::spawn(serve(listener.expect("the port again"), service(self.folder.path())));
        *self.serving.lock().expect("no test panicked here") = Some(serving);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Ok(Some(serving)) = self.serving.get_mut().map(Option::take) {
            serving.abort();
        }
    }
}

fn service(root: &Path) -> S3Service {
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a folder to serve"));
    service.set_auth(SimpleAuth::from_single(S3_CREDENTIALS.0, S3_CREDENTIALS.1));
    service.build()
}

async fn serve(listener: TcpListener, service: S3Service) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        // A client that hangs up between connect and accept is no reason to end.
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let service = service.clone();
        connections.spawn(async move {
            let connection = Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(socket), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
