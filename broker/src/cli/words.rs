//! Words as users of the original write them: short flags in a bundle (`-zc`), and flags whose word may be
//! left out (`-z`, `-zLZ4`, `-z zstd`, `-e aes-256-cbc`). Here they become words of which each means one
//! thing.

use super::{CIPHERS, COMPRESSIONS};
use std::ffi::{OsStr, OsString};

/// Flags that stand alone.
const ALONE: &str = "hVvnNmfc";
/// Flags with a word that must follow, in the same word or as the next.
const WITH_WORD: &str = "pdSGlgt";

/// A flag whose word may be left out.
struct Optional {
    short: char,
    long: &'static str,
    /// Length of its shortest form.
    least: usize,
    words: &'static [&'static str],
}

const OPTIONAL: [Optional; 2] = [
    Optional { short: 'z', long: "--compress", least: "--co".len(), words: COMPRESSIONS },
    Optional { short: 'e', long: "--encrypt", least: "--e".len(), words: CIPHERS },
];

/// The words of a command line, its first one included, one flag to each. What isn't understood stays as it is.
pub(super) fn expand(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut line = line.into_iter().peekable();
    let mut words: Vec<OsString> = line.next().into_iter().collect();
    while let Some(word) = line.next() {
        if word == "--" {
            words.push(word);
            words.extend(line);
            break;
        }
        let (mut flags, wants) = match word.to_str() {
            Some(text) if text.starts_with("--") => whole(text),
            Some(text) if text.len() > 1 && text.starts_with('-') => bundle(text),
            _ => (vec![word], Wants::Nothing),
        };
        match wants {
            Wants::Nothing => {}
            Wants::Word => flags.extend(line.next()),
            Wants::PerhapsWord => {
                if let (Some(flag), Some(next)) = (flags.last_mut(), line.next_if(is_no_flag)) {
                    flag.push("=");
                    flag.push(next);
                }
            }
        }
        words.append(&mut flags);
    }
    words
}

/// What the last flag of a word does with the next word.
enum Wants {
    Nothing,
    Word,
    PerhapsWord,
}

fn is_no_flag(word: &OsString) -> bool {
    !word.as_encoded_bytes().starts_with(b"-")
}

/// A long flag.
fn whole(text: &str) -> (Vec<OsString>, Wants) {
    // a long name may be cut short, as far as it stands for no other: --co, --e
    let is_optional =
        OPTIONAL.iter().any(|optional| text.len() >= optional.least && optional.long.starts_with(text));
    (vec![text.into()], if is_optional { Wants::PerhapsWord } else { Wants::Nothing })
}

/// A bundle of short flags, the hyphen before it included.
fn bundle(text: &str) -> (Vec<OsString>, Wants) {
    let mut flags = Vec::new();
    let mut rest = text.get(1..).unwrap_or_default();
    while let Some(short) = rest.chars().next() {
        let (flag, behind) = rest.split_at(short.len_utf8());
        let flag = OsString::from(format!("-{flag}"));
        if ALONE.contains(short) {
            flags.push(flag);
            rest = behind;
        } else if WITH_WORD.contains(short) {
            flags.push(flag);
            if behind.is_empty() {
                return (flags, Wants::Word);
            }
            flags.push(OsStr::new(behind).to_owned());
            return (flags, Wants::Nothing);
        } else if let Some(optional) = OPTIONAL.iter().find(|optional| optional.short == short) {
            let word = optional.words.iter().find(|word| word.eq_ignore_ascii_case(behind));
            if word.is_some() {
                flags.push(format!("{}={behind}", optional.long).into());
                return (flags, Wants::Nothing);
            }
            flags.push(optional.long.into());
            if behind.is_empty() {
                return (flags, Wants::PerhapsWord);
            }
            rest = behind;
        } else {
            // nobody knows it: the error names it
            flags.push(format!("-{rest}").into());
            return (flags, Wants::Nothing);
        }
    }
    (flags, Wants::Nothing)
}

#[cfg(test)]
mod tests {
    use super::expand;

    fn expanded(line: &str) -> String {
        let words = expand(line.split(' ').map(Into::into));
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn bundles_and_optional_words_become_one_flag_a_word() {
        for (line, words) in [
            ("memcr -zc -l 9000", "memcr --compress -c -l 9000"),
            ("memcr -cz -l 9000", "memcr -c --compress -l 9000"),
            ("memcr -zLZ4 -l 9000", "memcr --compress=LZ4 -l 9000"),
            ("memcr -z zstd -l x", "memcr --compress=zstd -l x"),
            ("memcr -cz zstd", "memcr -c --compress=zstd"),
            ("memcr -e aes-256-cbc -z", "memcr --encrypt=aes-256-cbc --compress"),
            ("memcr -eaes-128-gcm", "memcr --encrypt=aes-128-gcm"),
            ("memcr -ze -p5", "memcr --compress --encrypt -p 5"),
            ("memcr --compress lz4 --encrypt -n", "memcr --compress=lz4 --encrypt -n"),
            ("memcr --compress=lz4 x", "memcr --compress=lz4 x"),
            ("memcr --comp zstd --enc", "memcr --comp=zstd --enc"),
            ("memcr -np 5", "memcr -n -p 5"),
            ("memcr -d -zc -z", "memcr -d -zc --compress"),
            ("memcr -nX5 -z", "memcr -n -X5 --compress"),
            ("memcr - -- -zc", "memcr - -- -zc"),
        ] {
            assert_eq!(expanded(line), words, "{line}");
        }
    }

    #[test]
    fn words_that_are_no_text_stay_as_they_are() {
        use std::os::unix::ffi::OsStringExt;
        let odd = std::ffi::OsString::from_vec(vec![b'-', 0xff]);
        assert_eq!(expand(["memcr".into(), odd.clone()]), ["memcr".into(), odd]);
    }
}
