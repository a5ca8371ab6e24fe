//! Records as JSON in which nothing can deceive a reader: what a terminal obeys, or what changes the order of what is seen, is
//! written as `\u....`. Programs read the same strings as ever.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

/// Appends `record` to `line`.
pub(crate) fn write(line: &mut Vec<u8>, record: &impl Serialize) -> io::Result<()> {
    record.serialize(&mut Serializer::with_formatter(line, Visible)).map_err(io::Error::from)
}

struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|(_, character)| is_deceiving(*character))
        {
            CompactFormatter.write_string_fragment(writer, rest.get(..at).unwrap_or_default())?;
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = rest.get(at + character.len_utf8()..).unwrap_or_default();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

/// Control characters (those below U+0020 JSON escapes anyway), ends of lines that are none in JSON, marks that turn the
/// direction of writing, and what is not seen at all.
fn is_deceiving(character: char) -> bool {
    matches!(character,
        '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_a_reader_is_escaped_and_programs_read_what_was_meant() {
        let name = "/a\n\u{1b}[2J\u{7f}\u{85}\u{202e}gpj.exe\u{2028}\u{feff}\u{e0041} \"ü\" \\";
        let mut line = Vec::new();
        write(&mut line, &name).unwrap();
        let text = String::from_utf8(line).unwrap();
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), name);
        assert!(text.chars().all(|character| !character.is_control() && !is_deceiving(character)), "{text}");
        assert!(
            text.contains("\\u202egpj.exe\\u2028") && text.contains("\\udb40\\udc41") && text.contains('ü')
        );
    }
}
