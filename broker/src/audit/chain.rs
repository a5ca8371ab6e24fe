//! The chain of records: each has a number, and the SHA-256 of the line before it. So a record that was changed, taken
//! out or put in shows in what follows; only the last records of a log can be cut off unseen, by whoever doesn't know
//! the last hash.

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use std::fmt;

/// The SHA-256 of a line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    /// What stands before the first record of a log.
    pub(crate) const NONE: Self = Self([0; 32]);

    pub(crate) fn of(line: &[u8]) -> Self {
        let mut bytes = [0; 32];
        for (byte, value) in bytes.iter_mut().zip(digest(&SHA256, line).as_ref()) {
            *byte = *value;
        }
        Self(bytes)
    }

    /// Its bytes.
    pub(crate) fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// From 64 hexadecimal digits in lower case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let mut digits = text.bytes().map(|digit| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        });
        for byte in &mut bytes {
            *byte = digits.next()?? << 4 | digits.next()??;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Where the next record is hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) sequence: u64,
    /// The hash of the line before it.
    pub(crate) previous: Hash,
}

/// What of a record the chain is made of.
#[derive(Debug, Deserialize)]
pub(crate) struct Linked<'a> {
    pub(crate) sequence: u64,
    pub(crate) previous: &'a str,
    /// Whether there may be half a line before it.
    #[serde(default)]
    pub(crate) torn: bool,
}

impl Link {
    /// The beginning of a log.
    pub(crate) const FIRST: Self = Self { sequence: 1, previous: Hash::NONE };

    /// Behind a record with this number, which is this line (without its end).
    pub(crate) fn after(sequence: u64, line: &[u8]) -> Self {
        Self { sequence: sequence.saturating_add(1), previous: Hash::of(line) }
    }

    /// Behind this line, if it is a record.
    pub(crate) fn after_line(line: &[u8]) -> Option<Self> {
        let linked: Linked<'_> = serde_json::from_slice(line).ok()?;
        Hash::parse(linked.previous)?;
        Some(Self::after(linked.sequence, line))
    }

    /// Whether `line` can be the first part of a record that is hung up here, and nothing else.
    pub(crate) fn begins(self, line: &[u8]) -> bool {
        let Self { sequence, previous } = self;
        let rest = format!(r#","sequence":{sequence},"previous":"{previous}","#);
        beginning(line)
            .is_some_and(|after| after.iter().zip(rest.as_bytes()).all(|(one, other)| one == other))
    }
}

/// What a line holds after its schema, if it begins as every record does or is a part of that.
pub(crate) fn beginning(line: &[u8]) -> Option<&[u8]> {
    const START: &[u8] = br#"{"schema":"#;
    let Some(after) = line.strip_prefix(START) else { return START.starts_with(line).then_some(&[]) };
    let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    after.get(digits..)
}

/// How a log ends that is to be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Where to go on; `None` if there are lines, and the last is neither a record nor a part of one.
    pub(crate) link: Option<Link>,
    /// Whether the next record needs a line of its own made first: there is a part of a record at the end.
    pub(crate) torn: bool,
}

impl End {
    /// From the last bytes of a log; `whole` if they are all.
    pub(crate) fn of(tail: &[u8], whole: bool) -> Self {
        let mut lines = tail.rsplit(|byte| *byte == b'\n').peekable();
        let mut halves = Vec::new();
        let mut link = whole.then_some(Link::FIRST);
        let unended = lines.peek().is_some_and(|line| !line.is_empty());
        while let Some(line) = lines.next() {
            if lines.peek().is_none() && !whole {
                // its beginning may lie before the tail
                link = None;
            } else if let Some(after) = Link::after_line(line) {
                // one that lacks nothing but its end is there
                link = Some(after);
                break;
            } else if !line.is_empty() {
                halves.push(line);
            }
        }
        // there are several parts if the disk was full several times
        let link = link.filter(|link| halves.iter().all(|half| link.begins(half)));
        Self { link, torn: unended || link.is_some() && !halves.is_empty() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sequence: u64) -> String {
        format!(r#"{{"schema":1,"sequence":{sequence},"previous":"{}","event":"stop"}}"#, Hash::NONE)
    }

    #[test]
    fn a_hash_is_the_sha256_of_the_line_in_hexadecimal() {
        let hash = Hash::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(Hash::parse(text), Some(hash));
        for bad in [&text[1..], &text.to_uppercase(), &format!("{text}0"), "", &text.replace('b', "g")] {
            assert_eq!(Hash::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_log_goes_on_behind_its_last_whole_line() {
        let (one, two) = (line(1), line(2));
        let goes_on = |text: &str, whole| End::of(text.as_bytes(), whole);
        let behind = |line: &String, sequence| Some(Link::after(sequence, line.as_bytes()));
        assert_eq!(goes_on("", true), End { link: Some(Link::FIRST), torn: false });
        assert_eq!(goes_on("{\"sche", true), End { link: Some(Link::FIRST), torn: true });
        assert_eq!(goes_on(&format!("{one}\n"), true), End { link: behind(&one, 1), torn: false });
        assert_eq!(goes_on(&format!("{one}\n{two}\n"), true), End { link: behind(&two, 2), torn: false });
        assert_eq!(
            goes_on(&format!("ema\":1}}\n{two}\n{{"), false),
            End { link: behind(&two, 2), torn: true }
        );
        // several parts of a record, as a disk that was full more than once leaves them
        let half = format!(r#"{{"schema":1,"sequence":3,"previous":"{}"#, Hash::of(two.as_bytes()));
        for end in ["", "\n"] {
            assert_eq!(
                goes_on(&format!("{one}\n{two}\n{{\"sch\n\n{half}{end}"), true),
                End { link: behind(&two, 2), torn: true }
            );
        }
        // a record that lacks nothing but its end is there
        assert_eq!(goes_on(&format!("{one}\n{two}"), true), End { link: behind(&two, 2), torn: true });
        // what is no record, or is cut off at its beginning, can't be gone on from
        for (text, whole) in
            [(format!("{one}\nhello\n"), true), (format!("{one}\n"), false), ("{".into(), false)]
        {
            assert_eq!(goes_on(&text, whole).link, None, "{text}");
        }
    }
}
