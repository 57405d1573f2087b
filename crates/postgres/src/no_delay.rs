//! Small packets go at once. TCP holds one back until the one before was acknowledged, unless it is told otherwise, and
//! sqlx 0.9.0 does not tell it. A server that waits for more acknowledges 40 ms later: so long the end of each small
//! table's rows would wait. sqlx mended it since; with that release this file goes.

use std::net::TcpStream;
use std::os::fd::RawFd;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// For every TCP connection this process has. sqlx hands out none, so each is reached through a second handle, which
/// the kernel gives. Where it does not, as under some sandboxes, all works as before, and later.
pub(crate) fn for_all_connections() {
    for socket in sockets() {
        // What is no TCP refuses.
        let _ = socket.set_nodelay(true);
    }
}

/// A second handle to each open socket, as if each were TCP.
fn sockets() -> Vec<TcpStream> {
    let Ok(this) = pidfd_open(getpid(), PidfdFlags::empty()) else { return Vec::new() };
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let is_socket = |target: std::path::PathBuf| target.to_string_lossy().starts_with("socket:");
    open.flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(is_socket))
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<RawFd>().ok())
        .filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok())
        .map(TcpStream::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_held_back_on_the_way_to_a_server() {
        let Some(bench) = Bench::start().await else { return };
        let part = bench.part("postgres", &["postgres"]);
        let session = crate::connect(&part.databases()[0].settings, "test").await.unwrap();
        // Other tests of this process may be about to connect, to servers of their own.
        let to_ours = |socket: &TcpStream| socket.peer_addr().is_ok_and(|peer| peer.port() == bench.cluster.port());
        let ours: Vec<_> = sockets().into_iter().filter(to_ours).collect();
        assert!(!ours.is_empty());
        assert!(ours.iter().all(|socket| socket.nodelay().unwrap()));
        session.close().await;
    }
}
