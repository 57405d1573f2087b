//! Small packets go at once. TCP holds one back until the one before was acknowledged, unless it is told otherwise, and
//! sqlx 0.9.0 does not tell it. A server that waits for more acknowledges 40 ms later: so long the end of each small
//! table's rows would wait. sqlx mended it since; with that release this file goes.

use crate::sockets;

/// For every TCP connection this process has. Where they cannot be reached all works as before, and later.
pub(crate) fn for_all_connections() {
    for socket in sockets::open() {
        // What is no TCP refuses.
        let _ = socket.set_nodelay(true);
    }
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
        let to_ours =
            |socket: &std::net::TcpStream| socket.peer_addr().is_ok_and(|peer| peer.port() == bench.cluster.port());
        let ours: Vec<_> = sockets::open().into_iter().filter(to_ours).collect();
        assert!(!ours.is_empty());
        assert!(ours.iter().all(|socket| socket.nodelay().unwrap()));
        session.close().await;
    }
}
