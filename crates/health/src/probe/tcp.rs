use tokio::net::TcpStream;

use super::{Seen, chain};

pub async fn look(address: &str) -> Seen {
    match TcpStream::connect(address).await {
        Ok(_) => Seen::Good("connected".to_owned()),
        Err(error) => Seen::Bad(chain(&error)),
    }
}
