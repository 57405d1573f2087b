use std::collections::{BTreeMap, BTreeSet};

/// Services so that each comes after all it depends on; those that depend on each other in a circle
/// come in the order of their names.
pub(super) fn dependencies_first(depends_on: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut ordered: Vec<String> = Vec::new();
    let mut waiting: BTreeSet<&String> = depends_on.keys().collect();
    while let Some(first) = waiting.first().copied() {
        let is_free = |service: &&&String| {
            let needed = depends_on.get(**service).into_iter().flatten();
            needed.filter(|one| *one != **service).all(|one| !waiting.contains(one))
        };
        let next = waiting.iter().find(is_free).copied().unwrap_or(first);
        waiting.remove(next);
        ordered.push(next.clone());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_circles_end() {
        let graph = |edges: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
            edges.iter().map(|(a, b)| ((*a).to_owned(), b.iter().map(|one| (*one).to_owned()).collect())).collect()
        };
        let order = dependencies_first(&graph(&[("api", &["queue", "db"]), ("proxy", &["api"]), ("queue", &[])]));
        assert_eq!(order, ["queue", "api", "proxy"]);
        assert_eq!(dependencies_first(&graph(&[("a", &["b"]), ("b", &["a"])])), ["a", "b"]);
    }
}
