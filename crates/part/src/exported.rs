use backstay_repository::ExportEntry;

/// What a part puts into an archive that needs no Backstay. It comes from what was recorded alone: the
/// live system need not be there.
///
/// Among the entries is a `restore.sh` that puts everything back with ordinary tools: told `check` it only
/// looks whether that would work, told `restore` it does it. It replaces nothing, and fails at the first step
/// that does not succeed.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// Their names are relative to the part's own folder of the archive.
    pub entries: Vec<ExportEntry>,
    /// What lies there and how to use it without `restore.sh`: a line each, for the archive's README.
    pub notes: Vec<String>,
    /// What in it is secret, in words for a person.
    pub secrets: Vec<String>,
    /// What the snapshot holds and the archive does not, or what it needs from elsewhere.
    pub not_covered: Vec<String>,
}
