//! What pg_restore lists of an archive.

use std::collections::{HashMap, HashSet};

use crate::TableFacts;

/// Primary keys, unique ones, exclusions.
const KEY: &str = "CONSTRAINT ";
const INDEX: &str = "INDEX ";

/// A line such as `4567; 1259 16404 TABLE app orders shop`, and what it depends on.
pub(super) struct Entry {
    pub number: String,
    /// `TABLE app orders shop`: kind, schema, name and owner.
    what: String,
    /// The numbers of others.
    needs: Vec<String>,
    /// Whether it comes after the rows, as pg_restore parts an archive.
    pub after_rows: bool,
}

impl Entry {
    pub(super) fn is_one_of(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.what.starts_with(kind))
    }

    pub(super) fn is_key(&self) -> bool {
        self.is_one_of(&[KEY])
    }

    /// Whether it looks as if this were its name.
    fn may_be(&self, name: &str) -> bool {
        self.what.contains(&format!(" {name} "))
    }
}

pub(super) fn parse(list: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in list.lines() {
        let Some((number, rest)) = line.split_once(';') else { continue };
        if let (Some(needs), Some(entry)) = (rest.trim_start().strip_prefix("depends on:"), entries.last_mut()) {
            entry.needs = needs.split_whitespace().map(str::to_owned).collect();
        } else if let Some(what) = rest.trim_start().splitn(3, ' ').nth(2).filter(|_| !number.is_empty()) {
            let (number, what) = (number.to_owned(), what.to_owned());
            entries.push(Entry { number, what, needs: Vec::new(), after_rows: false });
        }
    }
    entries
}

/// The same, told by another list which of them come after the rows.
pub(super) fn parse_both(list: &str, after_rows: &str) -> Vec<Entry> {
    let after_rows: HashSet<_> = parse(after_rows).into_iter().map(|entry| entry.number).collect();
    let mark = |entry: Entry| Entry { after_rows: after_rows.contains(&entry.number), ..entry };
    parse(list).into_iter().map(mark).collect()
}

/// Entries as pg_restore wants them listed.
pub(super) fn listed<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    entries.into_iter().map(|entry| format!("{};\n", entry.number)).collect()
}

/// The indexes and keys that can be built as soon as the rows of one table are in, by the place of that table. Not those
/// that need anything else: what calls a user's function, say, may read rows of other tables. The largest comes first.
pub(super) fn by_table<'a>(entries: &'a [Entry], tables: &[TableFacts]) -> HashMap<usize, Vec<&'a Entry>> {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, table) in tables.iter().enumerate() {
        // As pg_restore writes names: on one line.
        let name = format!("{} {}", table.schema, table.name).replace(['\n', '\r'], " ");
        places.entry(name).or_default().push(place);
    }
    // A name may have spaces, and so may its owner.
    let place = |entry: &Entry| {
        let name = entry.what.strip_prefix("TABLE ")?;
        let ends = name.match_indices(' ').filter_map(|(end, _)| places.get(name.get(..end)?));
        let found: Vec<_> = ends.flatten().collect();
        <[_; 1]>::try_from(found).ok().map(|[place]| *place)
    };
    let of_tables: HashMap<_, _> = entries.iter().filter_map(|entry| Some((&entry.number, place(entry)?))).collect();
    let mut found: HashMap<usize, Vec<&Entry>> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.is_one_of(&[KEY, INDEX])) {
        if let Some((first, others)) = entry.needs.split_first()
            && others.iter().all(|other| other == first)
            && let Some(place) = of_tables.get(first)
        {
            found.entry(*place).or_default().push(entry);
        }
    }
    for (place, entries) in &mut found {
        let large = tables.get(*place).map_or(&[][..], |table| &table.large_indexes);
        entries.sort_by_key(|entry| large.iter().position(|name| entry.may_be(name)).unwrap_or(large.len()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(names: &[(&str, &str)]) -> Vec<TableFacts> {
        let table = |(schema, name): &(&str, &str)| TableFacts {
            schema: (*schema).to_owned(),
            name: (*name).to_owned(),
            ..TableFacts::default()
        };
        names.iter().map(table).collect()
    }

    fn found(list: &str, names: &[(&str, &str)]) -> Vec<(usize, Vec<String>)> {
        found_in(list, &tables(names))
    }

    fn found_in(list: &str, tables: &[TableFacts]) -> Vec<(usize, Vec<String>)> {
        let entries = parse(list);
        let numbers = |entries: Vec<&Entry>| entries.into_iter().map(|entry| entry.number.clone()).collect();
        let mut found: Vec<_> =
            by_table(&entries, tables).into_iter().map(|(place, found)| (place, numbers(found))).collect();
        found.sort();
        found
    }

    #[test]
    fn what_needs_its_table_alone_is_told_from_what_needs_more() {
        let list = ";\n; Archive created at 2024-01-01\n;\n\
                    221; 1255 16436 FUNCTION public f(integer) owner\n\
                    214; 1259 16427 TABLE public a owner\n216; 1259 16441 TABLE public p1 owner\n;\tdepends on: 215\n\
                    218; 1259 16461 MATERIALIZED VIEW public mv owner\n;\tdepends on: 214\n\
                    3224; 2606 16435 CONSTRAINT public a a_b_key owner\n;\tdepends on: 214\n\
                    3242; 2606 16455 FK CONSTRAINT public r r_a_fkey owner\n;\tdepends on: 214\n\
                    3225; 1259 16437 INDEX public a_f_idx owner\n;\tdepends on: 214 221 214\n\
                    3226; 1259 16439 INDEX public a_two owner\n;\tdepends on: 214 214\n\
                    3231; 1259 16449 INDEX public p1_k_idx owner\n;\tdepends on: 216 216 3228\n\
                    3236; 1259 16467 INDEX public mv_id_idx owner\n;\tdepends on: 218\n\
                    3240; 2620 16469 TRIGGER public a t owner\n;\tdepends on: 214\n";
        let names = [("public", "p1"), ("public", "a"), ("public", "mv")];
        assert_eq!(found(list, &names), [(1, vec!["3224".to_owned(), "3226".to_owned()])]);
    }

    #[test]
    fn the_largest_index_comes_first() {
        let list = "7; 1259 1 TABLE s t owner\n8; 2606 2 CONSTRAINT s t t_pkey owner\n;\tdepends on: 7\n\
                    9; 1259 3 INDEX s t_a owner\n;\tdepends on: 7\n10; 1259 4 INDEX s t_b owner\n;\tdepends on: 7\n";
        let mut tables = tables(&[("s", "t")]);
        assert_eq!(found_in(list, &tables), [(0, ["8", "9", "10"].map(str::to_owned).to_vec())]);
        tables[0].large_indexes = vec!["t_b".to_owned(), "t_pkey".to_owned()];
        assert_eq!(found_in(list, &tables), [(0, ["10", "8", "9"].map(str::to_owned).to_vec())]);
    }

    #[test]
    fn a_table_that_may_be_one_of_two_is_none() {
        let list = "7; 1259 1 TABLE s t own er\n8; 1259 2 INDEX s i own er\n;\tdepends on: 7\n";
        assert_eq!(found(list, &[("s", "t")]), [(0, vec!["8".to_owned()])]);
        assert_eq!(found(list, &[("s", "t\nown")]), [(0, vec!["8".to_owned()])]);
        assert_eq!(found(list, &[("s", "t"), ("s", "t\nown")]), []);
        assert_eq!(found(list, &[("s t", "own"), ("s", "t own")]), []);
    }
}
