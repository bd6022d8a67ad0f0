//! Text from outside, made fit for one line of a log or of an error.

/// At most `max` characters of `text` on one line, without control characters.
///
/// A registry chooses what it answers; what is printed of it must not start new lines, move the
/// cursor of a terminal or fill a log.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty())
    {
        if length > 0 && length < max {
            line.push(' ');
            length += 1;
        }
        for character in word.chars() {
            if length >= max {
                line.push('…');
                return line;
            }
            line.push(character);
            length += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn stays_on_one_line_and_short() {
        assert_eq!(one_line(" two\n\twords\u{1b}[31m red ", 80), "two words [31m red");
        assert_eq!(one_line("äöü and more", 3), "äöü…");
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(one_line("", 3), "");
        assert_eq!(one_line(&"x".repeat(1 << 20), 200).chars().count(), 201);
    }
}
