//! Bytes as text and back: `\n \r \t \a \b \0 \\ \" \xHH`, and `\R(N,text)` for a text N times.

/// The longest text that `\R` may make: above every limit that cases test, below what hurts.
const MAX_REPEAT: usize = 1 << 24;

/// Bytes for a text with escapes.
///
/// # Errors
/// An escape that is not one of the module's list.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let c = rest.chars().next().ok_or("a backslash at the end")?;
        rest = &rest[c.len_utf8()..];
        match c {
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'a' => out.push(7),
            'b' => out.push(8),
            '0' => out.push(0),
            '\\' | '"' => out.push(c as u8),
            'x' => {
                let hex = rest.get(..2).ok_or("\\x wants two digits")?;
                out.push(u8::from_str_radix(hex, 16).map_err(|_| format!("\\x{hex} is no byte"))?);
                rest = &rest[2..];
            }
            'R' => rest = repeat(rest, &mut out)?,
            _ => return Err(format!("unknown escape \\{c}")),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Appends the text of `(N,text)` N times and returns what follows.
fn repeat<'a>(text: &'a str, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let wrong = || "\\R wants (N,text)".to_owned();
    let body = text.strip_prefix('(').ok_or_else(wrong)?;
    let (body, rest) = body.split_once(')').ok_or_else(wrong)?;
    let (count, unit) = body.split_once(',').ok_or_else(wrong)?;
    let (count, unit): (usize, _) = (count.parse().map_err(|_| wrong())?, unescape(unit)?);
    if count.saturating_mul(unit.len()) > MAX_REPEAT {
        return Err(format!("\\R makes more than {MAX_REPEAT} bytes"));
    }
    (0..count).for_each(|_| out.extend_from_slice(&unit));
    Ok(rest)
}

/// The text for bytes: printable ASCII and UTF-8 as they are, long runs of one byte as `\R`, the rest as escapes.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunk_by(|a, b| a == b) {
        let one: String = escape_byte(chunk[0]);
        if chunk.len() > 64 {
            out.push_str(&format!("\\R({},{one})", chunk.len()));
        } else {
            (0..chunk.len()).for_each(|_| out.push_str(&one));
        }
    }
    out
}

fn escape_byte(byte: u8) -> String {
    match byte {
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'"' => "\\\"".to_owned(),
        0x20..=0x7e => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}
