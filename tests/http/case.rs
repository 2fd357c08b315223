//! Case files: a name, the bytes of a request, Envoy's answer, and redplane's where it differs, with the reason.

use std::fs;
use std::path::{Path, PathBuf};

/// One request and its stated answers.
pub(crate) struct Case {
    pub(crate) file: PathBuf,
    pub(crate) name: String,
    /// The listener that it is sent to, as the file says.
    pub(crate) listener: String,
    /// As written: lines of a head, then `\n` and the body; see [`Case::bytes`].
    pub(crate) request: String,
    pub(crate) envoy: String,
    /// Why redplane's answer is another one, and which.
    pub(crate) redplane: Option<(String, String)>,
}

impl Case {
    /// The bytes that are sent. Lines end with CRLF; `\xNN`, `\n`, `\r`, `\0` stand for bytes, a line that ends with
    /// `\` has no line end of its own, `{N*text}` is the text N times.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for line in self.request.lines() {
            let (line, ends) = match line.strip_suffix('\\') {
                Some(line) => (line, false),
                None => (line, true),
            };
            unescape(&repeated(line), &mut out);
            if ends {
                out.extend_from_slice(b"\r\n");
            }
        }
        out
    }
}

fn repeated(line: &str) -> String {
    let Some((before, rest)) = line.split_once('{') else {
        return line.to_owned();
    };
    let parsed = rest.split_once('}').and_then(|(inside, after)| {
        let (count, text) = inside.split_once('*')?;
        Some((count.parse::<usize>().ok()?, text, after))
    });
    match parsed {
        Some((count, text, after)) => format!("{before}{}{}", text.repeat(count), repeated(after)),
        None => line.to_owned(),
    }
}

fn unescape(line: &str, out: &mut Vec<u8>) {
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let (byte, length) = match rest.as_bytes().first() {
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b'0') => (0, 1),
            Some(b'x') => (u8::from_str_radix(&rest[1..3], 16).expect("two hex digits"), 3),
            _ => (b'\\', 0),
        };
        out.push(byte);
        rest = &rest[length..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// All cases, in the order of files and lines.
pub(crate) fn read_folder(folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Case> {
    let text = fs::read_to_string(file).expect("a case file can be read");
    let head = text.split("== ").next().unwrap_or_default();
    let listener = head.lines().find_map(|line| line.strip_prefix("listener: "));
    let blocks = text.split("\n== ").skip(usize::from(!text.starts_with("== ")));
    blocks
        .map(|block| one(file, listener.unwrap_or("http"), block.trim_start_matches("== ")))
        .collect()
}

fn one(file: &Path, listener: &str, block: &str) -> Case {
    let (name, rest) = block.split_once('\n').expect("a case has a request");
    let mut parts = rest.split("\n-- ");
    let request = parts.next().unwrap_or_default().to_owned();
    let mut case = Case {
        file: file.to_owned(),
        name: name.trim().to_owned(),
        listener: listener.to_owned(),
        request,
        envoy: String::new(),
        redplane: None,
    };
    for part in parts {
        let (title, answer) = part.split_once('\n').unwrap_or((part, ""));
        match title.split_once(": ") {
            None if title == "envoy" => case.envoy = answer.trim_end().to_owned(),
            Some(("redplane", reason)) => {
                case.redplane = Some((reason.to_owned(), answer.trim_end().to_owned()));
            }
            _ => panic!("{}: {}: what is `{title}`?", file.display(), case.name),
        }
    }
    case
}

/// Writes the answers back.
pub(crate) fn write_folder(folder: &Path, cases: &[Case]) {
    let mut files: Vec<&PathBuf> = cases.iter().map(|case| &case.file).collect();
    files.dedup();
    for file in files {
        let text = fs::read_to_string(file).expect("a case file can be read");
        let head = text.split("== ").next().unwrap_or_default();
        let mut out = head.to_owned();
        for case in cases.iter().filter(|case| case.file == *file) {
            out.push_str(&format!(
                "== {}\n{}\n-- envoy\n{}\n",
                case.name, case.request, case.envoy
            ));
            if let Some((reason, answer)) = &case.redplane {
                out.push_str(&format!("-- redplane: {reason}\n{answer}\n"));
            }
            out.push('\n');
        }
        fs::write(folder.join(file.file_name().expect("a name")), out).expect("a case file can be written");
    }
}
