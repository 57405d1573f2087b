//! What is still to be done while a copy is filled: rows first, then the indexes of tables whose rows are in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::archive::Means;
use super::entries::Entry;
use super::rows::Job;
use crate::TableFacts;

/// The server builds an index on a table of this size by several processes.
const LARGE_BYTES: u64 = 8 << 20;
/// Such an index counts as two workers.
const HANDS_FOR_LARGE: usize = 2;
/// Indexes on small tables that are built in one transaction, about: the server holds locks on all of them.
const SMALL_AT_ONCE: usize = 100;
/// What the server takes as a value.
const MEMORY_KIB_MAX: i64 = i32::MAX as i64;

pub(super) enum Task<'a> {
    Rows(Job<'a>),
    Indexes(Indexes<'a>),
}

/// Indexes and keys to build in one go, by so many hands.
pub(super) struct Indexes<'a> {
    pub entries: Vec<&'a Entry>,
    pub hands: usize,
    /// How many of the server's processes build one of them. A key gains little by a second one, for what takes longest
    /// is done by one in the end; so it gets one where others are busy.
    pub processes: usize,
    /// The table of a key: nothing else can be built on it meanwhile.
    key_of: Option<Place>,
}

impl Indexes<'_> {
    /// Of what is granted for one index: as much memory as that many hands would have, and no more processes.
    pub(super) fn means(&self, granted: Means) -> Means {
        let number = |count: usize| i64::try_from(count).unwrap_or(1);
        Means {
            memory_kib: granted.memory_kib.saturating_mul(number(self.hands)).min(MEMORY_KIB_MAX),
            helpers: granted.helpers.min(number(self.processes) - 1),
        }
    }
}

/// Hands out tasks to as many workers as there are hands.
pub(super) struct Queue<'a> {
    hands: usize,
    state: Mutex<State<'a>>,
    changed: Notify,
}

struct State<'a> {
    rows: VecDeque<Job<'a>>,
    /// Those that something is still to be built on.
    tables: BTreeMap<Place, Table<'a>>,
    busy: usize,
}

/// The size of a table and its place among the tables of the facts. The largest comes first.
type Place = (Reverse<u64>, usize);

#[derive(Default)]
struct Table<'a> {
    /// Streams of rows that are not in yet.
    streams: usize,
    keys: VecDeque<&'a Entry>,
    indexes: VecDeque<&'a Entry>,
    key_begun: bool,
}

enum Look<'a> {
    Task(Task<'a>),
    NotYet,
    Done,
}

impl<'a> Queue<'a> {
    /// Rows of the largest stream come first. `indexes` are those on tables by the place of the table in `tables`.
    pub(super) fn new(
        hands: usize,
        mut rows: Vec<Job<'a>>,
        indexes: HashMap<usize, Vec<&'a Entry>>,
        tables: &[TableFacts],
    ) -> Self {
        rows.sort_by_key(|job| Reverse(job.root.bytes));
        let mut streams: HashMap<usize, usize> = HashMap::new();
        for job in &rows {
            *streams.entry(job.place).or_default() += 1;
        }
        let tables = indexes.into_iter().filter_map(|(at, entries)| {
            let (keys, indexes): (VecDeque<_>, VecDeque<_>) = entries.into_iter().partition(|entry| entry.is_key());
            let streams = streams.get(&at).copied().unwrap_or_default();
            Some((place(at, tables.get(at)?), Table { streams, keys, indexes, key_begun: false }))
        });
        let state = State { rows: rows.into(), tables: tables.collect(), busy: 0 };
        Self { hands: hands.max(1), state: Mutex::new(state), changed: Notify::new() }
    }

    /// The next task, once there is one that may begin; nothing when all are begun.
    pub(super) async fn next(&self) -> Option<Task<'a>> {
        loop {
            let changed = self.changed.notified();
            let found = self.state().look(self.hands);
            match found {
                Look::Task(task) => return Some(task),
                Look::Done => return None,
                Look::NotYet => changed.await,
            }
        }
    }

    pub(super) fn loaded(&self, job: &Job<'_>) {
        self.change(|state| {
            state.busy -= 1;
            if let Some(table) = state.tables.get_mut(&place(job.place, job.table)) {
                table.streams -= 1;
            }
        });
    }

    /// These rows come later, and what is built on them later still.
    pub(super) fn put_off(&self, job: &Job<'_>) {
        self.change(|state| {
            state.busy -= 1;
            state.tables.remove(&place(job.place, job.table));
        });
    }

    pub(super) fn built(&self, indexes: &Indexes<'_>) {
        self.change(|state| {
            state.busy -= indexes.hands;
            if let Some(table) = indexes.key_of.and_then(|place| state.tables.get_mut(&place)) {
                table.key_begun = false;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State<'a>)) {
        change(&mut self.state());
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(at: usize, table: &TableFacts) -> Place {
    (Reverse(table.bytes), at)
}

impl<'a> State<'a> {
    fn look(&mut self, hands: usize) -> Look<'a> {
        if let Some(job) = self.rows.pop_front() {
            self.busy += 1;
            return Look::Task(Task::Rows(job));
        }
        let free = hands - self.busy;
        let for_large = HANDS_FOR_LARGE.min(hands);
        let large = if free >= for_large { self.large(for_large) } else { None };
        let indexes = if free >= 1 { large.or_else(|| self.small()) } else { None };
        self.tables.retain(|_, table| !table.keys.is_empty() || !table.indexes.is_empty());
        match indexes {
            Some(indexes) => {
                self.busy += indexes.hands;
                Look::Task(Task::Indexes(indexes))
            }
            None if self.tables.is_empty() => Look::Done,
            None => Look::NotYet,
        }
    }

    /// The next on the largest table that is ready: its keys one by one, then its indexes, side by side.
    fn large(&mut self, hands: usize) -> Option<Indexes<'a>> {
        let mut large = self.tables.iter_mut().take_while(|((Reverse(bytes), _), _)| *bytes >= LARGE_BYTES);
        let (place, table) = large.find(|(_, table)| table.streams == 0 && !table.key_begun)?;
        let key = table.keys.pop_front();
        table.key_begun = key.is_some();
        let entry = key.or_else(|| table.indexes.pop_front())?;
        let processes = if key.is_some() && self.busy > 0 { 1 } else { hands };
        Some(Indexes { entries: vec![entry], hands, processes, key_of: key.map(|_| *place) })
    }

    /// All on as many small tables as make a batch.
    fn small(&mut self) -> Option<Indexes<'a>> {
        let mut entries = Vec::new();
        let small = self.tables.iter_mut().filter(|((Reverse(bytes), _), _)| *bytes < LARGE_BYTES);
        for (_, table) in small.filter(|(_, table)| table.streams == 0) {
            if entries.len() >= SMALL_AT_ONCE {
                break;
            }
            entries.extend(table.keys.drain(..).chain(table.indexes.drain(..)));
        }
        (!entries.is_empty()).then_some(Indexes { entries, hands: 1, processes: 1, key_of: None })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::entries::{by_table, parse};
    use super::*;

    fn table(name: &str, bytes: u64) -> TableFacts {
        TableFacts { schema: "s".to_owned(), name: name.to_owned(), bytes, ..TableFacts::default() }
    }

    /// What is handed out now, by number.
    fn next<'a>(queue: &Queue<'a>) -> Option<Option<Indexes<'a>>> {
        let indexes = |task| match task {
            Task::Indexes(indexes) => indexes,
            Task::Rows(_) => panic!("there are no rows"),
        };
        queue.next().now_or_never().map(|task| task.map(indexes))
    }

    fn numbers(indexes: &Indexes<'_>) -> Vec<String> {
        indexes.entries.iter().map(|entry| entry.number.clone()).collect()
    }

    #[test]
    fn a_key_is_built_alone_on_its_table_and_indexes_side_by_side() {
        let list = "1; 1259 1 TABLE s large owner\n2; 1259 2 TABLE s small owner\n3; 1259 3 TABLE s tiny owner\n\
                    5; 1259 5 INDEX s large_a owner\n;\tdepends on: 1\n6; 1259 6 INDEX s large_b owner\n;\tdepends on: 1\n\
                    4; 2606 4 CONSTRAINT s large large_pkey owner\n;\tdepends on: 1\n\
                    7; 2606 7 CONSTRAINT s small small_pkey owner\n;\tdepends on: 2\n\
                    8; 1259 8 INDEX s tiny_a owner\n;\tdepends on: 3\n";
        let entries = parse(list);
        let mut tables = [table("small", 5), table("large", LARGE_BYTES), table("tiny", 1)];
        tables[1].large_indexes = vec!["large_b".to_owned()];
        let queue = Queue::new(4, Vec::new(), by_table(&entries, &tables), &tables);
        let key = next(&queue).flatten().unwrap();
        assert_eq!((numbers(&key), key.hands), (vec!["4".to_owned()], 2));
        let small = next(&queue).flatten().unwrap();
        assert_eq!((numbers(&small), small.hands), (vec!["7".to_owned(), "8".to_owned()], 1));
        assert!(next(&queue).is_none(), "the key is not built");
        queue.built(&key);
        let largest = next(&queue).flatten().unwrap();
        assert_eq!(numbers(&largest), ["6"]);
        assert!(next(&queue).is_none(), "three hands are busy");
        queue.built(&small);
        assert_eq!(numbers(&next(&queue).flatten().unwrap()), ["5"]);
        assert!(next(&queue).unwrap().is_none());
    }

    #[test]
    fn a_key_takes_one_process_beside_others_and_an_index_as_many_as_it_has_hands() {
        let list = "1; 1259 1 TABLE s one owner\n2; 1259 2 TABLE s two owner\n\
                    3; 2606 3 CONSTRAINT s one one_pkey owner\n;\tdepends on: 1\n\
                    4; 2606 4 CONSTRAINT s two two_pkey owner\n;\tdepends on: 2\n\
                    5; 1259 5 INDEX s one_a owner\n;\tdepends on: 1\n";
        let entries = parse(list);
        let tables = [table("one", 2 * LARGE_BYTES), table("two", LARGE_BYTES)];
        let queue = Queue::new(4, Vec::new(), by_table(&entries, &tables), &tables);
        let alone = next(&queue).flatten().unwrap();
        let beside = next(&queue).flatten().unwrap();
        queue.built(&alone);
        let index = next(&queue).flatten().unwrap();
        let seen = [alone, beside, index].map(|one| (numbers(&one).join(" "), one.hands, one.processes));
        assert_eq!(seen, [("3".to_owned(), 2, 2), ("4".to_owned(), 2, 1), ("5".to_owned(), 2, 2)]);
    }

    #[test]
    fn an_index_gets_the_memory_of_its_hands_and_no_more_processes_than_the_server_grants() {
        let means = |processes, memory_kib, helpers| {
            let indexes = Indexes { entries: Vec::new(), hands: 2, processes, key_of: None };
            let means = indexes.means(Means { memory_kib, helpers });
            (means.memory_kib, means.helpers)
        };
        assert_eq!(means(2, 100, 2), (200, 1));
        assert_eq!(means(1, 100, 2), (200, 0));
        assert_eq!(means(2, MEMORY_KIB_MAX, 0), (MEMORY_KIB_MAX, 0));
    }

    #[test]
    fn one_hand_builds_one_after_another() {
        let list = "1; 1259 1 TABLE s large owner\n5; 1259 5 INDEX s large_a owner\n;\tdepends on: 1\n\
                    6; 1259 6 INDEX s large_b owner\n;\tdepends on: 1\n";
        let entries = parse(list);
        let tables = [table("large", LARGE_BYTES)];
        let queue = Queue::new(1, Vec::new(), by_table(&entries, &tables), &tables);
        let first = next(&queue).flatten().unwrap();
        assert_eq!((numbers(&first), first.hands), (vec!["5".to_owned()], 1));
        assert!(next(&queue).is_none());
        queue.built(&first);
        assert_eq!(numbers(&next(&queue).flatten().unwrap()), ["6"]);
    }
}
