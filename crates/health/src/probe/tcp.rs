use backstay_model::with_causes;
use tokio::net::TcpStream;

use super::Seen;

pub async fn look(address: &str) -> Seen {
    match TcpStream::connect(address).await {
        Ok(_) => Seen::Good("connected".to_owned()),
        Err(error) => Seen::Bad(with_causes(&error)),
    }
}
