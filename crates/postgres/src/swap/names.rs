use backstay_model::RunId;
use sha2::{Digest, Sha256};

/// What PostgreSQL keeps of a name.
const NAME_BYTES_MAX: usize = 63;
const STAGED: &str = "__staged_";
const KEPT: &str = "__before_";
const HASH_DIGITS: usize = 8;

/// Where `run` builds its copy of `database`.
pub(crate) fn staged_name(database: &str, run: &RunId) -> String {
    named(database, STAGED, run)
}

/// Where `run` keeps what was live as `database`.
pub(crate) fn kept_name(database: &str, run: &RunId) -> String {
    named(database, KEPT, run)
}

/// What a database is by its name, and for which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Staged,
    Kept,
}

/// The run a database was named by, if Backstay named it.
pub(crate) fn run_of(database: &str) -> Option<(Place, RunId)> {
    [(STAGED, Place::Staged), (KEPT, Place::Kept)].into_iter().find_map(|(infix, place)| {
        let (_, run) = database.rsplit_once(infix)?;
        Some((place, run.parse().ok()?))
    })
}

fn named(database: &str, infix: &str, run: &RunId) -> String {
    let suffix = format!("{infix}{run}");
    let room = NAME_BYTES_MAX - suffix.len();
    if database.len() <= room {
        return format!("{database}{suffix}");
    }
    // Cut names may be alike; their digests are not.
    let digest = hex::encode(Sha256::digest(database.as_bytes()));
    let digest = digest.get(..HASH_DIGITS).unwrap_or_default();
    let mut end = room - HASH_DIGITS - 1;
    while !database.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{digest}{suffix}", database.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        "20251022_153000_4f2a".parse().unwrap()
    }

    #[test]
    fn a_name_says_what_it_is_for() {
        assert_eq!(staged_name("shop", &run()), "shop__staged_20251022_153000_4f2a");
        assert_eq!(run_of("shop__staged_20251022_153000_4f2a"), Some((Place::Staged, run())));
        assert_eq!(run_of(&kept_name("My \"Shop\"", &run())), Some((Place::Kept, run())));
        assert_eq!(run_of("shop__staged_20251022"), None);
        assert_eq!(run_of("shop"), None);
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (a, b) = ("ä".repeat(31) + "a", "ä".repeat(31) + "b");
        let (staged_a, staged_b) = (staged_name(&a, &run()), staged_name(&b, &run()));
        assert!(staged_a.len() <= 63 && staged_b.len() <= 63);
        assert_ne!(staged_a, staged_b);
        assert_ne!(staged_a, kept_name(&a, &run()));
        assert_eq!(run_of(&staged_a), Some((Place::Staged, run())));
        assert_eq!(staged_name(&"x".repeat(34), &run()).len(), 63);
        assert_eq!(staged_name(&"x".repeat(35), &run()).len(), 63);
    }
}
