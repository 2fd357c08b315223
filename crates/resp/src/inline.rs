//! Inline requests: a line of words, split as redis-server splits it (`sdssplitargs`).
//!
//! The words are put into a buffer of their own as the array of bulk strings that they mean, so that everything
//! behind the decoder knows one form of request only.

use crate::ProtocolError;

/// Splits `line` (without its line end) into words. No words is an empty request.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while at < line.len() && is_blank(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(words);
        }
        let (word, next) = word(line, at)?;
        words.push(word);
        at = next;
    }
}

fn word(line: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), ProtocolError> {
    let mut word = Vec::new();
    while at < line.len() && !is_blank(line[at]) && line[at] != 0 {
        let end = match line[at] {
            b'"' => double_quoted(line, at + 1, &mut word)?,
            b'\'' => single_quoted(line, at + 1, &mut word)?,
            byte => {
                word.push(byte);
                at += 1;
                continue;
            }
        };
        // A closing quote must be followed by a blank or the end.
        return match line.get(end) {
            Some(&byte) if !is_blank(byte) => Err(ProtocolError::UnbalancedQuotes),
            _ => Ok((word, end)),
        };
    }
    // redis-server's lines are C strings: a NUL ends them.
    let next = if line.get(at) == Some(&0) { line.len() } else { at };
    Ok((word, next))
}

fn double_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match &line[at.min(line.len())..] {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', ..] => return Ok(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                at += 2;
            }
            [byte, ..] => {
                word.push(*byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match &line[at.min(line.len())..] {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', ..] => return Ok(at + 1),
            [b'\\', b'\'', ..] => {
                word.push(b'\'');
                at += 2;
            }
            [byte, ..] => {
                word.push(*byte);
                at += 1;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, ProtocolError> {
        Ok(split(line.as_bytes())?
            .into_iter()
            .map(|w| String::from_utf8_lossy(&w).into_owned())
            .collect())
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("  SET  a\tb ").unwrap(), ["SET", "a", "b"]);
        assert_eq!(
            words(r#"SET a "x\x41\n\"y" 'it\'s'"#).unwrap(),
            ["SET", "a", "xA\n\"y", "it's"]
        );
        assert_eq!(words(r#"ECHO "\xzz""#).unwrap(), ["ECHO", "xzz"]);
        assert_eq!(words(r#"ECHO """#).unwrap(), ["ECHO", ""]);
        assert!(words("").unwrap().is_empty());
        for bad in ["SET \"a", "SET 'a", "SET \"a\"b", "SET 'a'b"] {
            assert_eq!(words(bad), Err(ProtocolError::UnbalancedQuotes), "{bad}");
        }
    }
}
