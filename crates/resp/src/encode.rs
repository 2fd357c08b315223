//! Encoders: each appends to the caller's buffer and allocates nothing else.

/// `+text`. The text must hold neither CR nor LF; [`line_safe`] makes it so.
pub fn simple(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'+');
    line_safe(out, text);
    out.extend_from_slice(b"\r\n");
}

/// `-text`, control characters as blanks.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    line_safe(out, text);
    out.extend_from_slice(b"\r\n");
}

/// `:n`.
pub fn integer(out: &mut Vec<u8>, n: i64) {
    header(out, b':', n);
}

/// `$len` and the payload.
pub fn bulk(out: &mut Vec<u8>, payload: &[u8]) {
    header(out, b'$', payload.len() as i64);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// `$-1`: RESP2's null bulk string.
pub fn null_bulk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"$-1\r\n");
}

/// `_`: RESP3's null.
pub fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"_\r\n");
}

/// The header of a map of `pairs`, which is a flat array in RESP2.
pub fn map(out: &mut Vec<u8>, pairs: usize, resp3: bool) {
    match resp3 {
        true => header(out, b'%', pairs as i64),
        false => header(out, b'*', 2 * pairs as i64),
    }
}

/// Text for people: a verbatim string in RESP3, a bulk string in RESP2.
pub fn text(out: &mut Vec<u8>, payload: &[u8], resp3: bool) {
    if !resp3 {
        return bulk(out, payload);
    }
    header(out, b'=', payload.len() as i64 + 4);
    out.extend_from_slice(b"txt:");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// `*n`: the elements follow.
pub fn array(out: &mut Vec<u8>, n: usize) {
    header(out, b'*', n as i64);
}

/// A whole request: an array of bulk strings.
pub fn request(out: &mut Vec<u8>, args: &[&[u8]]) {
    array(out, args.len());
    for arg in args {
        bulk(out, arg);
    }
}

/// `kind` and `n` as a line.
pub fn header(out: &mut Vec<u8>, kind: u8, n: i64) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends `text` with control characters as blanks, so that it cannot end its line.
pub fn line_safe(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(
        text.iter()
            .map(|&byte| if byte.is_ascii_control() { b' ' } else { byte }),
    );
}
