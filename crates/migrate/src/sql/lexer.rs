/// What a run of bytes is, as far as finding the ends of statements needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Space,
    Comment,
    /// A keyword or a name without quotes.
    Word,
    /// A name in double quotes.
    Name,
    /// A string of any kind, dollar quotes included.
    Text,
    Number,
    /// A backslash outside of everything: a command of psql, not SQL.
    Backslash,
    /// Any other single character.
    Mark(u8),
    /// Something that opens and never ends.
    Open(&'static str),
}

/// Cuts SQL into tokens the way PostgreSQL's own scanner does with `standard_conforming_strings` on.
pub(crate) struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql: sql.as_bytes(), at: 0 }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) -> Token {
        self.at += 2;
        let mut depth = 1u32;
        while depth > 0 {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Token::Open("a comment"),
            }
        }
        Token::Comment
    }

    /// From an opening quote to its end; a doubled quote stands for itself.
    fn quoted(&mut self, quote: u8, escapes: bool) -> bool {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            if byte == b'\\' && escapes {
                self.at += usize::from(self.peek(0).is_some());
            } else if byte == quote {
                if self.peek(0) != Some(quote) {
                    return true;
                }
                self.at += 1;
            }
        }
        false
    }

    /// An `E'…'` string goes on, escapes included, after white space that holds a line's end.
    fn escape_string(&mut self) -> Token {
        self.at += 1;
        loop {
            if !self.quoted(b'\'', true) {
                return Token::Open("a string");
            }
            let end = self.at;
            self.skip_while(is_space);
            let line_ended =
                self.sql.get(end..self.at).is_some_and(|gap| gap.iter().any(|b| matches!(b, b'\n' | b'\r')));
            if self.peek(0) != Some(b'\'') || !line_ended {
                self.at = end;
                return Token::Text;
            }
        }
    }

    /// `$tag$ … $tag$`, or nothing where the dollar opens no quote.
    fn dollar_quoted(&mut self) -> Option<Token> {
        let rest = self.sql.get(self.at..)?;
        let tag_end = 1 + rest.get(1..)?.iter().position(|&byte| !is_tag(byte))?;
        if rest.get(tag_end) != Some(&b'$') || rest.get(1).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let tag = rest.get(..=tag_end)?;
        let body = rest.get(tag_end + 1..)?;
        let Some(length) = find(body, tag) else {
            self.at = self.sql.len();
            return Some(Token::Open("a dollar-quoted string"));
        };
        self.at += tag.len() + length + tag.len();
        Some(Token::Text)
    }

    fn token(&mut self, first: u8) -> Token {
        match (first, self.peek(1)) {
            (byte, _) if is_space(byte) => {
                self.skip_while(is_space);
                Token::Space
            }
            (b'-', Some(b'-')) => {
                self.skip_while(|byte| byte != b'\n' && byte != b'\r');
                Token::Comment
            }
            (b'/', Some(b'*')) => self.block_comment(),
            (b'e' | b'E', Some(b'\'')) => self.escape_string(),
            (b'\'', _) => {
                if self.quoted(b'\'', false) {
                    Token::Text
                } else {
                    Token::Open("a string")
                }
            }
            (b'"', _) => {
                if self.quoted(b'"', false) {
                    Token::Name
                } else {
                    Token::Open("a quoted name")
                }
            }
            (byte, _) if is_word_start(byte) => {
                self.skip_while(is_word);
                Token::Word
            }
            (byte, _) if byte.is_ascii_digit() => {
                self.skip_while(|byte| is_word(byte) && byte != b'$');
                Token::Number
            }
            (b'$', _) => self.dollar_quoted().unwrap_or_else(|| self.mark(b'$')),
            (b'\\', _) => {
                self.at += 1;
                Token::Backslash
            }
            (byte, _) => self.mark(byte),
        }
    }

    fn mark(&mut self, byte: u8) -> Token {
        self.at += 1;
        Token::Mark(byte)
    }
}

impl Iterator for Lexer<'_> {
    /// A token, where it starts and where it ends.
    type Item = (Token, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let first = self.peek(0)?;
        let token = self.token(first);
        Some((token, start, self.at))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let next = from + haystack.get(from..)?.iter().position(|&byte| byte == b'$')?;
        if haystack.get(next..)?.starts_with(needle) {
            return Some(next);
        }
        from = next + 1;
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_tag(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit()
}
