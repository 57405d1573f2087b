use zeroize::Zeroizing;

/// What opens a repository's master key. Never printed: `Debug` says only its kind.
#[derive(Clone)]
pub enum Secret {
    /// The content of a generated key file.
    KeyFile(Zeroizing<Vec<u8>>),
    Passphrase(Zeroizing<String>),
    RecoveryPhrase(Zeroizing<String>),
    /// For a repository that is not sealed.
    None,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KeyFile(_) => "Secret::KeyFile",
            Self::Passphrase(_) => "Secret::Passphrase",
            Self::RecoveryPhrase(_) => "Secret::RecoveryPhrase",
            Self::None => "Secret::None",
        })
    }
}
