//! Lines taken apart: comments, braces, words, and the words of commands.

/// A piece of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Words, not yet split.
    Statement(String),
    /// `{`
    Open,
    /// `}`
    Close,
}

/// A line without its comment, and whether that began inside a word.
pub(crate) fn without_comment(text: &str) -> (&str, bool) {
    let mut quoted = false;
    let mut before = ' ';
    for (index, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '#' | '!' if !quoted && before != '\\' => {
                let glued = !(before.is_whitespace() || "#!{}".contains(before));
                return (&text[..index], glued);
            }
            _ => {}
        }
        before = letter;
    }
    (text, false)
}

/// Statements and the braces between them. Quotes protect braces.
pub(crate) fn braces(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut quoted = false;
    let mut start = 0;
    for (index, letter) in text.char_indices() {
        let brace = match letter {
            '"' => {
                quoted = !quoted;
                continue;
            }
            '{' if !quoted => Token::Open,
            '}' if !quoted => Token::Close,
            _ => continue,
        };
        statement(&text[start..index], &mut tokens);
        tokens.push(brace);
        start = index + 1;
    }
    statement(&text[start..], &mut tokens);
    tokens
}

fn statement(text: &str, tokens: &mut Vec<Token>) {
    let text = text.trim();
    if !text.is_empty() {
        tokens.push(Token::Statement(text.to_owned()));
    }
}

/// The words of a statement, and whether a quote was left open: then what follows it is lost.
pub(crate) fn words(text: &str) -> (Vec<String>, bool) {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                take(&mut word, &mut words);
                let mut inside = String::new();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some(letter) => inside.push(letter),
                        None => return (words, true),
                    }
                }
                words.push(inside);
            }
            ' ' | '\t' | '\r' | '\x0b' | '\x0c' => take(&mut word, &mut words),
            '\\' if matches!(letters.peek(), Some('#' | '!')) => word.extend(letters.next()),
            letter => word.push(letter),
        }
    }
    take(&mut word, &mut words);
    (words, false)
}

fn take(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        words.push(core::mem::take(word));
    }
}

/// Words as of a shell without its expansions: quotes of both kinds join with what stands beside them, a backslash
/// keeps the next character.
pub(crate) fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(letter),
            (_, '\\') => word.get_or_insert_default().extend(letters.next()),
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What stands behind the first word of a statement, as it is written.
pub(crate) fn rest(statement: &str) -> &str {
    statement.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_begin_anywhere_but_in_double_quotes() {
        let cases = [
            ("a b # c", "a b ", false),
            ("a b!c", "a b", true),
            ("a \"b # c\" d", "a \"b # c\" d", false),
            ("a 'b # c'", "a 'b ", false),
            ("a \\# b # c", "a \\# b ", false),
            ("{#x", "{", false),
            ("#", "", false),
        ];
        for (line, kept, glued) in cases {
            assert_eq!(without_comment(line), (kept, glued), "{line:?}");
        }
    }

    #[test]
    fn quotes_begin_words_of_their_own() {
        let all = |line: &str| words(line);
        let strings = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(all("a b\tc"), (strings(&["a", "b", "c"]), false));
        assert_eq!(all("a\"b c\"d \"\""), (strings(&["a", "b c", "d", ""]), false));
        assert_eq!(all("a \"b c"), (strings(&["a"]), true), "what follows an open quote is lost");
        assert_eq!(all("path /\\#top"), (strings(&["path", "/#top"]), false));
    }

    #[test]
    fn commands_are_split_as_by_a_shell() {
        assert_eq!(shell_words("\"/bin/x 'a b' c\""), ["/bin/x 'a b' c"]);
        assert_eq!(shell_words("/bin/x 'a b' c\\ d \"e\"f"), ["/bin/x", "a b", "c d", "ef"]);
    }

    #[test]
    fn braces_cut_lines() {
        let text = |text: &str| Token::Statement(text.to_owned());
        assert_eq!(
            braces("a 1 { b \"{\" } c"),
            [text("a 1"), Token::Open, text("b \"{\""), Token::Close, text("c")]
        );
    }
}
