//! Checks the syntax of UCI files (`/etc/config/*`) as libuci reads them. It judges; it does not keep values.

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// Lowercase fragment.
    pub(super) message: String,
}

/// Checks a whole file and stops at the first mistake, as libuci does.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    let mut in_section = false;
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let start = line;
        let mistake = |message: String| Mistake { line: start, message };
        let (words, after, newlines) = statement(rest).map_err(|message| mistake(message.to_owned()))?;
        rest = after;
        line += newlines;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["package", _] => {}
            ["config", kind] if is_name(kind) => in_section = true,
            ["config", kind, name] if is_name(kind) && is_name(name) => in_section = true,
            ["config", _] | ["config", _, _] => {
                return Err(mistake(
                    "section types and names have only letters, digits and `_`".into(),
                ));
            }
            ["option" | "list", _, _] if !in_section => {
                return Err(mistake("an option stands before the first `config` line".into()));
            }
            ["option" | "list", name, _] if is_name(name) => {}
            ["option" | "list", name, _] => {
                return Err(mistake(format!(
                    "option name `{name}` has more than letters, digits and `_`"
                )));
            }
            [keyword @ ("config" | "option" | "list" | "package"), values @ ..] => {
                return Err(mistake(format!(
                    "`{keyword}` with {} values; quote a value that has spaces",
                    values.len()
                )));
            }
            [word, ..] => {
                return Err(mistake(format!(
                    "a line begins with `{word}`, not config, option or list"
                )));
            }
        }
    }
    Ok(())
}

fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Splits off one statement: its words, what follows, and how many line ends it took.
fn statement(text: &str) -> Result<(Vec<String>, &str, usize), &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut newlines = 0;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        newlines += usize::from(character == '\n');
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => {
                let (_, escaped) = characters.next().ok_or("a backslash ends the file")?;
                newlines += usize::from(escaped == '\n');
                word.get_or_insert_default().push(escaped);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '\n' | ';') => {
                words.extend(word.take());
                return Ok((words, &text[at + 1..], newlines));
            }
            (None, '#') if word.is_none() => {
                let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
                let after = text.get(end + 1..).unwrap_or("");
                return Ok((words, after, newlines + usize::from(end < text.len())));
            }
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote that opens here is never closed");
    }
    words.extend(word);
    Ok((words, "", newlines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> (usize, String) {
        let Mistake { line, message } = check(text).expect_err(text);
        (line, message)
    }

    #[test]
    fn a_file_as_openwrt_ships_it_is_accepted() {
        check(
            "# comment\nconfig dnsmasq\n\toption nonegcache 0 # tail\n\tlist server '/a b/1.2.3.4'\n\n\
             config 'dhcp' \"lan\"\n\toption note 'two\nlines'\n\toption esc a\\ b\n",
        )
        .expect("valid");
    }

    #[test]
    fn mistakes_carry_their_line() {
        assert_eq!(
            mistake("option a b\n"),
            (1, "an option stands before the first `config` line".into())
        );
        assert_eq!(
            mistake("config a\n\n\toption name two words\n"),
            (3, "`option` with 3 values; quote a value that has spaces".into())
        );
        assert_eq!(
            mistake("config a\n\toption x 'open\n"),
            (2, "a quote that opens here is never closed".into())
        );
        assert_eq!(
            mistake("config a\n\toptoin x y\n"),
            (
                2,
                "a line begins with `optoin`, not config, option or list".into()
            )
        );
        assert_eq!(mistake("config a\n\toption note 'x\ny'\n\toption z\n").0, 4);
        assert_eq!(mistake("config a\n\toption a.b c\n").0, 2);
        assert_eq!(mistake("config a 'b c'\n").0, 1);
    }
}
