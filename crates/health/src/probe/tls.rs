use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use backstay_model::with_causes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Seen;

const DAY_SECONDS: i64 = 86_400;

/// Says when the presented certificate expires, also where nobody would trust it.
pub async fn look(address: &str, server_name: &str, days_min: i64) -> Seen {
    match expiry(address, server_name).await {
        Err(words) => Seen::Bad(words),
        Ok(seconds) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let days = (seconds - i64::try_from(now).unwrap_or(i64::MAX)).div_euclid(DAY_SECONDS);
            if days < 0 {
                Seen::Bad("the certificate has expired".to_owned())
            } else if days < days_min {
                Seen::Bad(format!("the certificate expires in {days} days, fewer than {days_min}"))
            } else {
                Seen::Good(format!("the certificate is good for {days} days"))
            }
        }
    }
}

async fn expiry(address: &str, server_name: &str) -> Result<i64, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| with_causes(&error))?;
    let stream = connect_to_anybody(stream, server_name).await?;
    let (_, session) = stream.get_ref();
    let certificate =
        session.peer_certificates().and_then(|chain| chain.first()).ok_or("no certificate was presented")?;
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| format!("the certificate is unreadable: {error}"))?;
    Ok(parsed.validity().not_after.timestamp())
}

/// A handshake that trusts whoever answers: for looking at a certificate, never for sending anything.
async fn connect_to_anybody<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server_name: &str,
) -> Result<TlsStream<S>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| with_causes(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let name =
        ServerName::try_from(server_name.to_owned()).map_err(|_| format!("`{server_name}` is no server's name"))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| with_causes(&error))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
