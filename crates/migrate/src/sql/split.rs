use super::lexer::{Lexer, Token};

/// One statement of a file, without the semicolon that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// From the first token that is neither space nor comment.
    pub(crate) text: &'a str,
    /// The line it starts on, counted from 1.
    pub(crate) line: u32,
}

/// Why a file cannot be cut into statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SplitFault {
    pub(crate) line: u32,
    pub(crate) text: String,
}

/// Cuts a file into its statements. Semicolons in strings, comments, parentheses and the bodies of
/// `BEGIN ATOMIC` functions end nothing.
pub(crate) fn split(sql: &str) -> Result<Vec<Statement<'_>>, SplitFault> {
    let sql = sql.strip_prefix('\u{feff}').unwrap_or(sql);
    let mut splitter = Splitter { sql, statements: Vec::new(), open: None, lines: Lines::default() };
    for (token, start, end) in Lexer::new(sql) {
        splitter.take(token, start, end)?;
    }
    splitter.close()?;
    Ok(splitter.statements)
}

struct Splitter<'a> {
    sql: &'a str,
    statements: Vec<Statement<'a>>,
    open: Option<Open>,
    lines: Lines,
}

/// The statement that is being read.
struct Open {
    start: usize,
    line: u32,
    end: usize,
    words: u32,
    parentheses: u32,
    /// Whether it creates a function or procedure, whose body may be `BEGIN ATOMIC … END`.
    routine: bool,
    /// Whether it says CREATE OR REPLACE.
    replaces: bool,
    /// Whether the word before was BEGIN: alone it may be a name.
    begins: bool,
    atomic: u32,
    copies: bool,
    from_stdin: FromStdin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FromStdin {
    No,
    From,
    Stdin,
}

impl<'a> Splitter<'a> {
    fn take(&mut self, token: Token, start: usize, end: usize) -> Result<(), SplitFault> {
        match token {
            Token::Space | Token::Comment => return Ok(()),
            Token::Open(what) => {
                let line = self.lines.at(self.sql, start);
                return Err(SplitFault { line, text: format!("{what} opens and never ends") });
            }
            Token::Backslash => {
                let line = self.lines.at(self.sql, start);
                let command = self.sql.get(start..).and_then(|rest| rest.split_whitespace().next()).unwrap_or("\\");
                return Err(SplitFault { line, text: format!("`{command}` is a command of psql, not SQL") });
            }
            Token::Mark(b';') if self.open.as_ref().is_none_or(|open| open.parentheses == 0 && open.atomic == 0) => {
                return self.close();
            }
            _ => {}
        }
        let line = if self.open.is_none() { self.lines.at(self.sql, start) } else { 0 };
        let sql = self.sql;
        let open = self.open.get_or_insert_with(|| Open::at(start, line));
        open.end = end;
        match token {
            Token::Mark(b'(') => open.parentheses += 1,
            Token::Mark(b')') => open.parentheses = open.parentheses.saturating_sub(1),
            Token::Word => open.word(sql.get(start..end).unwrap_or_default()),
            _ => open.other(),
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), SplitFault> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if open.copies && open.from_stdin == FromStdin::Stdin {
            let text = "COPY … FROM STDIN carries its rows behind it, which only psql can send; write them as INSERT";
            return Err(SplitFault { line: open.line, text: text.to_owned() });
        }
        let text = self.sql.get(open.start..open.end).unwrap_or_default();
        self.statements.push(Statement { text, line: open.line });
        Ok(())
    }
}

impl Open {
    fn at(start: usize, line: u32) -> Self {
        Self {
            start,
            line,
            end: start,
            words: 0,
            parentheses: 0,
            routine: false,
            replaces: false,
            begins: false,
            atomic: 0,
            copies: false,
            from_stdin: FromStdin::No,
        }
    }

    fn word(&mut self, word: &str) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if self.words == 1 {
            self.replaces = is("or");
        }
        match self.words {
            0 => {
                self.copies = is("copy");
                self.routine = is("create");
            }
            1 => self.routine = self.routine && (is("function") || is("procedure") || is("or")),
            2 => self.routine = self.routine && (!self.replaces || is("replace")),
            3 => self.routine = self.routine && (!self.replaces || is("function") || is("procedure")),
            _ => {}
        }
        self.words += 1;
        if self.parentheses > 0 {
            return;
        }
        self.body(word);
        self.from_stdin = match self.from_stdin {
            FromStdin::No if is("from") => FromStdin::From,
            FromStdin::From if is("stdin") => FromStdin::Stdin,
            FromStdin::Stdin => FromStdin::Stdin,
            _ => FromStdin::No,
        };
    }

    /// Follows the nesting of an SQL-standard function body: CASE ends with END too.
    fn body(&mut self, word: &str) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if !self.routine {
            return;
        }
        let opens = self.begins && is("atomic");
        self.begins = is("begin");
        if opens || (self.atomic > 0 && is("case")) {
            self.atomic += 1;
        } else if is("end") {
            self.atomic = self.atomic.saturating_sub(1);
        }
    }

    fn other(&mut self) {
        self.begins = false;
        if self.from_stdin == FromStdin::From {
            self.from_stdin = FromStdin::No;
        }
    }
}

/// Counts lines forward, so that a long file is walked once.
#[derive(Default)]
struct Lines {
    counted_to: usize,
    ends: u32,
}

impl Lines {
    fn at(&mut self, sql: &str, offset: usize) -> u32 {
        let gap = sql.as_bytes().get(self.counted_to..offset).unwrap_or_default();
        let ends = gap.iter().filter(|&&byte| byte == b'\n').count();
        self.ends = self.ends.saturating_add(u32::try_from(ends).unwrap_or(u32::MAX));
        self.counted_to = offset;
        self.ends + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql).unwrap().into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_inside_of_something_end_nothing() {
        for one in [
            "select ';'",
            "select 'it''s; so'",
            "select E'a\\'; b'",
            "select E'a'\n  'b\\'; c'",
            "select \"a;b\"",
            "select $$;$$",
            "select $a$ $b$ ; $a$",
            "do $body$ begin perform 1; end $body$",
            "create rule r as on insert to t do also (insert into a values (1); insert into b values (2))",
            "create function f() returns int language sql begin atomic select 1; select case when true then 2 end; end",
            "create or replace procedure p() begin atomic insert into t values (1); end",
            "select a$b, c from t",
            "select 1 /* ; /* ; */ ; */ + 1",
            "select 1 -- ;\n + 1",
            "select U&'d\\0061;t'",
            "prepare p as select $1",
        ] {
            assert_eq!(texts(&format!("{one};")), [one], "{one}");
            assert_eq!(texts(&format!("-- before ;\n{one} ; select 2")), [one, "select 2"], "{one}");
        }
    }

    #[test]
    fn begin_and_end_as_names_elsewhere_do_not_open_a_body() {
        assert_eq!(texts("create table t (\"begin\" int); create view v as select 1 as end; select 1").len(), 3);
        assert_eq!(texts("begin; select 1; end;"), ["begin", "select 1", "end"]);
        assert_eq!(
            texts("create or replace view v as select begin from t; commit"),
            ["create or replace view v as select begin from t", "commit"]
        );
        assert_eq!(texts("create function begin() returns int language sql return 1; select 1").len(), 2);
    }

    #[test]
    fn lines_are_those_of_the_file_whatever_ends_them() {
        let lines = |sql| split(sql).unwrap().iter().map(|statement| statement.line).collect::<Vec<_>>();
        assert_eq!(lines("\u{feff}select 1;\r\n-- x\r\nselect\r\n2;\r\n;;\r\nselect 3"), [1, 3, 6]);
        assert_eq!(lines(""), [0; 0]);
        assert_eq!(lines("-- nothing\n;\n"), [0; 0]);
    }

    #[test]
    fn what_cannot_be_cut_says_where_and_why() {
        let fault = |sql| split(sql).unwrap_err();
        assert_eq!(fault("select 1;\nselect 'a").line, 2);
        assert!(fault("select $a$ b").text.contains("dollar-quoted"));
        assert!(fault("/* /* */").text.contains("comment"));
        assert!(fault("\n\n\\i other.sql\n").text.contains("\\i"));
        let copy = fault("select 1;\ncopy t (a, b) from stdin;\n1\t2\n\\.\n");
        assert_eq!(copy.line, 2);
        assert!(copy.text.contains("INSERT"));
        assert_eq!(texts("copy t from '/tmp/x'; copy (select 1 from stdin) to stdout").len(), 2);
    }
}
