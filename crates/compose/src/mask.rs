use std::collections::{BTreeMap, BTreeSet};

const COVER: &str = "***";
/// Shorter values are covered nowhere: they would cover ordinary words too.
const SECRET_BYTES_MIN: usize = 4;

const TELLING: [&str; 11] =
    ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH", "DSN", "URL", "URI", "CONNECTION", "PRIVATE"];

/// Covers what must not be shown: the values of variables whose names tell of a secret, and what
/// stands before the `@` of an address.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    values: BTreeSet<String>,
}

impl Mask {
    pub fn of<'a>(environments: impl IntoIterator<Item = &'a BTreeMap<String, String>>) -> Self {
        let mut values = BTreeSet::new();
        for (name, value) in environments.into_iter().flatten() {
            let name = name.to_ascii_uppercase();
            if TELLING.iter().any(|word| name.contains(word)) && value.len() >= SECRET_BYTES_MIN {
                values.insert(value.clone());
                values.extend(user_of(value).map(str::to_owned));
            }
        }
        Self { values }
    }

    pub fn apply(&self, text: &str) -> String {
        let mut longest_first: Vec<&String> = self.values.iter().collect();
        longest_first.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let covered = longest_first.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), COVER));
        covered.split_inclusive(char::is_whitespace).map(without_user).collect()
    }
}

/// The password of an address such as `postgres://name:password@host/`.
fn user_of(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password).filter(|password| password.len() >= SECRET_BYTES_MIN)
}

fn without_user(word: &str) -> String {
    let Some((before, rest)) = word.split_once("://") else { return word.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{before}://{COVER}@{host}"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_covered_and_ordinary_words_are_not() {
        let environment = BTreeMap::from([
            ("DATABASE_URL".to_owned(), "postgres://shop:hunter22@db/shop".to_owned()),
            ("API_KEY".to_owned(), "k-1234".to_owned()),
            ("MODE".to_owned(), "production".to_owned()),
        ]);
        let mask = Mask::of([&environment]);
        let said = "production: hunter22 refused for k-1234 at redis://u:other-secret@cache:6379/0 again\n";
        let shown = mask.apply(said);
        assert_eq!(shown, "production: *** refused for *** at redis://***@cache:6379/0 again\n");
    }
}
