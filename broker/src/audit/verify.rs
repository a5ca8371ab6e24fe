//! Checking the chain of a log that somebody may have had in his hands.

#[cfg(any(test, fuzzing))]
use super::chain::End;
use super::chain::{Hash, Link, Linked, beginning};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read};

/// Longest line; a record is shorter.
const LINE_LIMIT: u64 = 2 << 20;

/// Problems that are told; one fault seldom comes alone.
const ENOUGH: usize = 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) file: String,
    /// Line, from 1; 0 if it is about no line.
    pub(crate) line: u64,
    /// What.
    pub(crate) reason: String,
}

/// What was read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Records.
    pub(crate) records: u64,
    /// Number of the first one, and of the last.
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
    /// What the first one says of the line before it: no hash at the beginning of a log.
    pub(crate) begins_after: Option<Hash>,
    /// Hash of the last one.
    pub(crate) hash: Option<Hash>,
    /// Records that gap records say could not be written.
    pub(crate) missed: u64,
    /// Lines that hold the first part of a record, of which the next record says so.
    pub(crate) half_lines: u64,
    /// Whether it ends in such a line.
    pub(crate) torn: bool,
}

/// Reads the files of a log, one after the other.
#[derive(Debug)]
pub(crate) struct Verifier {
    mixed: bool,
    /// What the next record must be hung up on; nothing before the first one.
    next: Option<Link>,
    /// Lines that are no records, but may be parts of the next one.
    halves: Vec<Problem>,
    summary: Summary,
    problems: Vec<Problem>,
}

/// What of a gap record counts.
#[derive(Deserialize)]
struct Missed {
    #[serde(default)]
    missed: u64,
}

/// What tells a record that is in no chain.
#[derive(Deserialize)]
struct Unchained<'a> {
    event: &'a str,
    sequence: Option<u64>,
    previous: Option<&'a str>,
}

impl Verifier {
    /// Lines that don't begin with `{` are passed over if `mixed`.
    pub(crate) fn new(mixed: bool) -> Self {
        Self { mixed, next: None, halves: Vec::new(), summary: Summary::default(), problems: Vec::new() }
    }

    /// Reads a file to its end, in bounded memory.
    pub(crate) fn read(&mut self, file: &str, mut reader: impl BufRead) {
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let read = reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut bytes);
            let about = |reason: String| Problem { file: file.to_owned(), line: number, reason };
            match read {
                Ok(0) => return,
                Ok(_) if bytes.len() as u64 == LINE_LIMIT && bytes.last() != Some(&b'\n') => {
                    return self.problem(about(format!("the line is longer than {LINE_LIMIT} bytes")));
                }
                Ok(_) => {
                    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                    self.line(line, about);
                }
                Err(cause) => return self.problem(about(cause.to_string())),
            }
        }
    }

    fn line(&mut self, line: &[u8], about: impl Fn(String) -> Problem) {
        let is_passed_over = self.mixed && (line.first() != Some(&b'{') || is_of_the_privileged_side(line));
        if line.is_empty() || is_passed_over {
            return;
        }
        let Ok(linked) = serde_json::from_slice::<Linked<'_>>(line) else {
            return self.no_record(line, about("this is no record".into()));
        };
        let found = Hash::parse(linked.previous).map(|previous| Link { sequence: linked.sequence, previous });
        // half a line is explained by the next record, which says so
        let halves = std::mem::take(&mut self.halves);
        if linked.torn {
            self.summary.half_lines += halves.len() as u64;
        } else {
            halves.into_iter().for_each(|half| self.problem(half));
        }
        if let Some(reason) = mistake(self.next, found) {
            self.problem(about(reason));
        }
        self.next = Some(Link::after(linked.sequence, line));
        let summary = &mut self.summary;
        if summary.records == 0 {
            summary.first = Some(linked.sequence);
            summary.begins_after = found.map(|found| found.previous);
        }
        summary.records += 1;
        summary.last = Some(linked.sequence);
        summary.hash = Some(Hash::of(line));
        let missed = serde_json::from_slice::<Missed>(line).map_or(0, |gap| gap.missed);
        summary.missed = summary.missed.saturating_add(missed);
    }

    /// A line that is no record: it may be the first part of one.
    fn no_record(&mut self, line: &[u8], problem: Problem) {
        let may_be_half = match self.next {
            Some(next) => next.begins(line),
            None => beginning(line).is_some(),
        };
        if may_be_half && self.halves.len() < ENOUGH {
            self.halves.push(problem);
        } else {
            self.problem(problem);
        }
    }

    /// Notes what is wrong.
    pub(crate) fn problem(&mut self, problem: Problem) {
        if self.problems.len() < ENOUGH {
            self.problems.push(problem);
        }
    }

    /// What was read, and what is wrong with it.
    pub(crate) fn finish(mut self, expected: Option<Hash>) -> (Summary, Vec<Problem>) {
        // nothing could be written behind them
        self.summary.torn = !self.halves.is_empty();
        let about = |reason: String| Problem { file: "the log".into(), line: 0, reason };
        match (expected, self.summary.hash) {
            (_, None) => self.problem(about("there is no record in it".into())),
            (Some(expected), Some(found)) if expected != found => self.problem(about(format!(
                "the last record has the hash {found}, not {expected}: records are missing at the end"
            ))),
            (Some(_) | None, Some(_)) => {}
        }
        (self.summary, self.problems)
    }
}

/// Whether it is a record of the launcher or of a worker, on standard error: these are in no chain.
fn is_of_the_privileged_side(line: &[u8]) -> bool {
    let Ok(Unchained { event, sequence: None, previous: None }) = serde_json::from_slice(line) else {
        return false;
    };
    matches!(
        event,
        "launcher-violation"
            | "worker-violation"
            | "launcher-fault"
            | "worker-fault"
            | "worker-forbidden-call"
    )
}

/// What is wrong with a record that must be hung up there.
fn mistake(next: Option<Link>, found: Option<Link>) -> Option<String> {
    let Some(found) = found else { return Some("its `previous` is no hash".into()) };
    let next = next.filter(|next| *next != found)?;
    Some(match (found.sequence, next.sequence) {
        (1, _) if found.previous == Hash::NONE => {
            "a new chain begins here: the log before it was taken away, or ended in something else than a record"
                .into()
        }
        (found, next) if found == next => format!("the record before this one, number {}, was changed", next - 1),
        (found, next) if found > next => {
            format!("number {found} comes after number {}: records are missing between them", next.saturating_sub(1))
        }
        (found, next) => {
            format!("number {found} comes after number {}: it was put in, or moved", next.saturating_sub(1))
        }
    })
}

/// Whatever a log holds: it is read to its end, and what is told of it fits together; see `crate::fuzzing`.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_anything(bytes: &[u8]) {
    let mut verifier = Verifier::new(bytes.first() == Some(&b'#'));
    verifier.read("log", bytes);
    let (summary, problems) = verifier.finish(None);
    assert!(problems.len() <= ENOUGH);
    assert_eq!(summary.hash.is_some(), summary.records > 0);
    assert!(summary.records > 0 || !problems.is_empty());
    assert!(summary.records <= bytes.split(|byte| *byte == b'\n').count() as u64);
    // a daemon goes on where a log that is whole ends
    let end = End::of(bytes, true);
    if problems.is_empty() && bytes.first() != Some(&b'#') {
        assert_eq!(end.link.map(|link| link.previous), summary.hash);
        assert!(end.torn || !summary.torn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines of a good log, from this number on.
    fn log(count: u64, mut link: Link) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            let Link { sequence, previous } = link;
            let line = format!(
                r#"{{"schema":1,"sequence":{sequence},"previous":"{previous}","reason":"x{sequence}"}}"#
            );
            link = Link::after(sequence, line.as_bytes());
            lines.push(line);
        }
        lines
    }

    fn verified(lines: &[String]) -> (Summary, Vec<Problem>) {
        let mut verifier = Verifier::new(false);
        verifier.read("log", format!("{}\n", lines.join("\n")).as_bytes());
        verifier.finish(None)
    }

    /// The line and reason of the first problem.
    fn first_problem(lines: &[String]) -> (u64, String) {
        let (_, problems) = verified(lines);
        problems.first().map(|problem| (problem.line, problem.reason.clone())).expect("it is not whole")
    }

    #[test]
    fn a_whole_log_is_whole_and_can_be_in_several_files() {
        let lines = log(9, Link::FIRST);
        let (summary, problems) = verified(&lines);
        assert_eq!(
            (summary.records, summary.first, summary.last, problems),
            (9, Some(1), Some(9), Vec::new())
        );
        assert_eq!(summary.hash, Some(Hash::of(lines[8].as_bytes())));
        let mut verifier = Verifier::new(false);
        verifier.read("old", format!("{}\n", lines[..4].join("\n")).as_bytes());
        verifier.read("new", format!("{}\n", lines[4..].join("\n")).as_bytes());
        assert_eq!(verifier.finish(summary.hash), (summary, Vec::new()));
        // a later file alone says where it begins
        assert_eq!(verified(&lines[4..]).0.first, Some(5));
    }

    #[test]
    fn every_change_of_every_byte_is_noticed_but_in_the_last_record() {
        let lines = log(3, Link::FIRST);
        for number in 0..lines.len() {
            for at in 0..lines[number].len() {
                let mut changed = lines.clone();
                let mut bytes = changed[number].clone().into_bytes();
                bytes[at] ^= 1;
                changed[number] = String::from_utf8(bytes).unwrap();
                let (summary, problems) = verified(&changed);
                let is_noticed = !problems.is_empty() || summary.hash != Some(Hash::of(lines[2].as_bytes()));
                assert!(is_noticed, "{}", changed[number]);
                assert!(number == 2 || !problems.is_empty(), "{}", changed[number]);
            }
        }
    }

    #[test]
    fn it_is_told_what_was_done_to_a_log() {
        let lines = log(6, Link::FIRST);
        let mut removed = lines.clone();
        removed.remove(2);
        assert_eq!(first_problem(&removed).0, 3);
        assert!(first_problem(&removed).1.contains("missing between"));
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        assert!(first_problem(&swapped).1.contains("missing between"));
        let mut repeated = lines.clone();
        repeated.insert(4, lines[1].clone());
        assert!(first_problem(&repeated).1.contains("put in"));
        let changed = [&[lines[0].replace("x1", "y1")], &lines[1..]].concat();
        assert_eq!(first_problem(&changed), (2, "the record before this one, number 1, was changed".into()));
        let anew = [lines.clone(), log(2, Link::FIRST)].concat();
        assert!(first_problem(&anew).1.contains("a new chain begins"));
        let foreign = [&lines[..2], &["hello".to_owned()], &lines[2..]].concat();
        assert_eq!(first_problem(&foreign), (3, "this is no record".into()));
        assert!(first_problem(&[]).1.contains("no record in it"));
        // the end can be cut off by whoever likes, unless its hash is known
        assert!(verified(&lines[..4]).1.is_empty());
        let mut verifier = Verifier::new(false);
        verifier.read("log", lines[..4].join("\n").as_bytes());
        assert!(
            verifier.finish(Some(Hash::of(lines[5].as_bytes()))).1[0].reason.contains("missing at the end")
        );
    }

    #[test]
    fn half_a_line_is_explained_by_the_record_behind_it_and_by_nothing_else() {
        let lines = log(2, Link::FIRST);
        let Link { sequence, previous } = Link::after(2, lines[1].as_bytes());
        let record =
            |torn| format!(r#"{{"sequence":{sequence},"previous":"{previous}","missed":4,"torn":{torn}}}"#);
        let half = "{\"schema\":1,\"seq".to_owned();
        let (summary, problems) = verified(&[&lines[..], &[half.clone(), record(true)]].concat());
        assert_eq!((problems, summary.missed), (Vec::new(), 4));
        assert_eq!(first_problem(&[&lines[..], &[half.clone(), record(false)]].concat()).0, 3);
        // a disk can be full several times
        let longer = format!(r#"{{"schema":1,"sequence":3,"previous":"{previous}","ti"#);
        let (summary, problems) = verified(&[&lines[..], &[half.clone(), longer, record(true)]].concat());
        assert_eq!((problems, summary.half_lines), (Vec::new(), 2));
        // what is no part of a record is not explained by it
        for foreign in ["hello", "{\"schema\":1,\"sequence\":2", "{}"] {
            assert_eq!(first_problem(&[&lines[..], &[foreign.into(), record(true)]].concat()).0, 3);
        }
        // at the end, nothing could be written behind it
        for (end, good) in [(&half, true), (&"hello".to_owned(), false)] {
            for newline in ["", "\n"] {
                let mut verifier = Verifier::new(false);
                verifier.read("log", format!("{}\n{end}{newline}", lines.join("\n")).as_bytes());
                let (summary, problems) = verifier.finish(None);
                assert_eq!((summary.torn, problems.is_empty(), summary.records), (good, good, 2));
            }
        }
    }

    #[test]
    fn a_record_that_lacks_nothing_but_its_end_is_one() {
        let lines = log(3, Link::FIRST);
        let mut verifier = Verifier::new(false);
        verifier.read("old", lines[..2].join("\n").as_bytes());
        verifier.read("new", format!("\n{}", lines[2]).as_bytes());
        let (summary, problems) = verifier.finish(Some(Hash::of(lines[2].as_bytes())));
        assert_eq!((summary.torn, summary.last, problems), (false, Some(3), Vec::new()));
    }

    #[test]
    fn records_of_the_privileged_side_are_in_no_chain_and_nothing_else_is_passed_over_for_one() {
        let lines = log(2, Link::FIRST);
        let of_launcher =
            r#"{"schema":1,"time":"x","event":"launcher-violation","pid":7,"job":null,"message":"y"}"#;
        let verified = |mixed, between: &str| {
            let mut verifier = Verifier::new(mixed);
            verifier.read("log", format!("{}\n{between}\n{}\n", lines[0], lines[1]).as_bytes());
            verifier.finish(None).1.is_empty()
        };
        assert!(verified(true, of_launcher) && !verified(false, of_launcher));
        assert!(verified(true, &of_launcher.replace("launcher", "worker")));
        assert!(!verified(true, &of_launcher.replace("launcher-violation", "stop")));
        assert!(!verified(true, &of_launcher.replace("\"pid\"", "\"sequence\"")));
    }

    #[test]
    fn lines_of_the_operational_log_are_passed_over_if_that_is_wanted() {
        let lines = log(2, Link::FIRST);
        let text = format!("INFO hello\n{}\n\n  WARN\n{}\n", lines[0], lines[1]);
        for (mixed, good) in [(true, true), (false, false)] {
            let mut verifier = Verifier::new(mixed);
            verifier.read("log", text.as_bytes());
            assert_eq!(verifier.finish(None).1.is_empty(), good);
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let mut verifier = Verifier::new(false);
        verifier.read("log", std::io::BufReader::new(std::io::repeat(b'{')));
        assert!(verifier.finish(None).1[0].reason.contains("longer than"));
    }

    proptest! {
        /// Whatever lines are lost, repeated, cut or torn: it is read to its end, and agrees with who continues it.
        #[test]
        fn a_log_that_is_whole_is_one_that_can_be_continued(
            edits in prop::collection::vec((0..6_usize, 0..400_usize, any::<bool>()), 0..12)
        ) {
            let (mut lines, mut text) = (Vec::new(), String::new());
            let mut link = Link::FIRST;
            for (kind, cut, ended) in edits {
                let Link { sequence, previous } = link;
                let torn = kind == 1;
                let line = format!(r#"{{"schema":1,"sequence":{sequence},"previous":"{previous}","torn":{torn}}}"#);
                match kind {
                    0 | 1 => {
                        text.push_str(&line);
                        link = Link::after(sequence, line.as_bytes());
                        lines.push(line);
                    }
                    2 => text.push_str(&line[..cut.min(line.len())]),
                    3 => text.push_str(lines.get(cut % (lines.len() + 1)).map_or("", String::as_str)),
                    4 => text.push_str("hello"),
                    _ => {}
                }
                text.push_str(if ended { "\n" } else { "" });
            }
            read_anything(text.as_bytes());
        }
    }
}
