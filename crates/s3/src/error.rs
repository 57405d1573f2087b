use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use backstay_repository::StoreError;

type Source = Box<dyn Error + Send + Sync>;

/// What an S3 server, or the way to it, answered: in words that say what to look at.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    #[error("there is no such bucket")]
    NoBucket,
    #[error("the bucket is in the region {region}")]
    WrongRegion { region: String },
    #[error("the clock of this host and that of the server differ too much")]
    ClockSkew,
    #[error("the server does not take these credentials ({code})")]
    BadCredentials { code: String },
    #[error("the credentials do not give the right ({code})")]
    NoRight { code: String },
    #[error("no credentials or no region could be had, or the request could not be made")]
    NotSent(#[source] Source),
    #[error("the server cannot be reached")]
    Unreachable(#[source] Source),
    #[error("the server did not answer in time")]
    TimedOut(#[source] Source),
    #[error("the server's answer broke off, or is not what was stored")]
    Broken(#[source] Source),
    #[error("the server answered {status} {code}")]
    Answered { status: u16, code: String },
    #[error("the server's answer is {got} bytes long and should be {wanted}")]
    Length { got: u64, wanted: u64 },
}

impl S3Error {
    /// What the SDK says, sorted by what a person has to do about it.
    pub(crate) fn of<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                let region = context.raw().headers().get("x-amz-bucket-region").map(str::to_owned);
                Self::answered(status, context.err().code().unwrap_or_default(), region)
            }
            SdkError::TimeoutError(_) => Self::TimedOut(Box::new(error)),
            SdkError::DispatchFailure(ref failure) if failure.is_timeout() => Self::TimedOut(Box::new(error)),
            // A connection that is cut before the answer is no I/O error to the SDK, but one of its own kind.
            SdkError::DispatchFailure(ref failure) if failure.is_io() || failure.as_other().is_some() => {
                Self::Unreachable(Box::new(error))
            }
            SdkError::ResponseError(ref context) => {
                let status = context.raw().status().as_u16();
                if status >= 400 { Self::answered(status, "", None) } else { Self::Broken(Box::new(error)) }
            }
            other => Self::NotSent(Box::new(other)),
        }
    }

    fn answered(status: u16, code: &str, region: Option<String>) -> Self {
        let owned = || if code.is_empty() { format!("status {status}") } else { code.to_owned() };
        match (status, code) {
            (_, "NoSuchBucket") => Self::NoBucket,
            (301 | 307, _)
            | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                Self::WrongRegion { region: region.unwrap_or_else(|| "another one than configured".to_owned()) }
            }
            (_, "RequestTimeTooSkewed" | "RequestExpired") => Self::ClockSkew,
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired",
            )
            | (401, _) => Self::BadCredentials { code: owned() },
            (403, _) => Self::NoRight { code: owned() },
            _ => Self::Answered { status, code: code.to_owned() },
        }
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same request may well succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Broken(_) | Self::Length { .. } => true,
            // 409 is what a conditional write gets while another one goes on.
            Self::Answered { status: 501, .. } => false,
            Self::Answered { status, .. } => matches!(status, 408 | 409 | 429 | 500..=599),
            _ => false,
        }
    }

    pub(crate) fn on(self, action: &'static str, key: &str) -> StoreError {
        let key = key.to_owned();
        match &self {
            Self::Answered { status: 507, .. } => StoreError::Full { key },
            Self::Answered { code, .. } if code == "QuotaExceeded" || code == "XMinioStorageFull" => {
                StoreError::Full { key }
            }
            Self::NoRight { .. } | Self::BadCredentials { .. } => {
                StoreError::Denied { action, key, source: Box::new(self) }
            }
            _ => StoreError::Failed { action, key, source: Box::new(self) },
        }
    }
}
