//! Patterns for absolute paths: `*` and `?` within one component, `**` for whole components.

use crate::error::Reason;

/// What the kernel appends to the path of a file or cgroup that has been removed (d_path).
pub(crate) const DELETED: &str = " (deleted)";

/// A pattern for absolute paths.
#[derive(Debug)]
pub(crate) struct Glob {
    components: Vec<Component>,
    names_deleted: bool,
}

#[derive(Debug)]
enum Component {
    /// `**`: any number of components, none included.
    AnyDepth,
    /// Exactly one component.
    Name(Vec<Token>),
}

#[derive(Debug)]
enum Token {
    /// `*`: any characters.
    Any,
    /// `?`: one character.
    One,
    Character(char),
}

impl Glob {
    /// Reads a pattern. What could never match the path of a file, or would mean something else
    /// than in other programs, is an error.
    pub(crate) fn parse(pattern: &str) -> Result<Self, Reason> {
        let Some(rest) = pattern.strip_prefix('/') else {
            return Err(Reason::RelativePattern { pattern: pattern.to_owned() });
        };
        let mut components = Vec::new();
        if !rest.is_empty() {
            for name in rest.split('/') {
                components.push(component(name)?);
            }
        }
        if matches!(components.last(), Some(Component::AnyDepth)) {
            // `/apps/**` is what lies below /apps, not /apps itself
            components.push(Component::Name(vec![Token::Any]));
        }
        Ok(Self { components, names_deleted: pattern.ends_with(DELETED) })
    }

    /// Whether `path`, as the kernel shows it, is meant by this pattern beyond doubt. A removed
    /// file's path says little of what runs, so only a pattern that names that ending matches it.
    pub(crate) fn matches_certainly(&self, path: &str) -> bool {
        (self.names_deleted || !path.ends_with(DELETED)) && self.matches(path)
    }

    /// Whether `path`, as the kernel shows it, may be meant by this pattern: with or without the
    /// ending of a removed file, and always if it is no path at all.
    pub(crate) fn matches_possibly(&self, path: &str) -> bool {
        !path.starts_with('/')
            || self.matches(path)
            || path.strip_suffix(DELETED).is_some_and(|path| self.matches(path))
    }

    fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let names: Vec<Vec<char>> = match rest {
            "" => Vec::new(),
            _ => rest.split('/').map(|name| name.chars().collect()).collect(),
        };
        let is_any_depth = |component: &Component| matches!(component, Component::AnyDepth);
        match_sequence(&self.components, &names, is_any_depth, |component, name| match component {
            Component::AnyDepth => true,
            Component::Name(tokens) => match_name(tokens, name),
        })
    }
}

fn component(name: &str) -> Result<Component, Reason> {
    let fault = |problem| Err(Reason::BadPattern { component: name.to_owned(), problem });
    match name {
        "**" => return Ok(Component::AnyDepth),
        "" => return fault("a path has no empty component"),
        "." | ".." => return fault("the kernel shows paths without it"),
        _ if name.contains("**") => return fault("`**` must stand alone between slashes"),
        _ => {}
    }
    if name.contains(['[', ']', '{', '}']) {
        return fault("brackets and braces have no meaning here; write `?` for such a character");
    }
    let tokens = name.chars().map(|character| match character {
        '*' => Token::Any,
        '?' => Token::One,
        _ => Token::Character(character),
    });
    Ok(Component::Name(tokens.collect()))
}

fn match_name(tokens: &[Token], name: &[char]) -> bool {
    let is_any = |token: &Token| matches!(token, Token::Any);
    match_sequence(tokens, name, is_any, |token, character| match token {
        Token::Any | Token::One => true,
        Token::Character(expected) => expected == character,
    })
}

/// Matches `text` against `pattern`, some elements of which are stars that stand for any number of
/// elements. When an element doesn't fit, only the last star need take one more: what an earlier
/// one could take instead, the last can too. So it takes at most pattern times text comparisons.
fn match_sequence<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    matches_one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // after the last star: where in the pattern, and where in the text its next try begins
    let mut retry = None;
    while let Some(element) = text.get(at_text) {
        match pattern.get(at_pattern) {
            Some(star) if is_star(star) => {
                at_pattern += 1;
                retry = Some((at_pattern, at_text + 1));
            }
            Some(expected) if matches_one(expected, element) => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => {
                let Some((after_star, next_text)) = retry else { return false };
                (at_pattern, at_text) = (after_star, next_text);
                retry = Some((after_star, next_text + 1));
            }
        }
    }
    pattern.iter().skip(at_pattern).all(is_star)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn a_star_stays_within_a_component() {
        assert!(matches("/usr/bin/*", "/usr/bin/app"));
        assert!(matches("/usr/*/app", "/usr/bin/app"));
        assert!(matches("/usr/bin/app*", "/usr/bin/app"));
        assert!(matches("/usr/bin/a*p-*.bin", "/usr/bin/app-p-1.bin"));
        assert!(!matches("/usr/bin/*", "/usr/bin/sub/app"));
        assert!(!matches("/usr/bin/*", "/usr/bin"));
        assert!(!matches("/usr/*", "/usr/bin/app"));
    }

    #[test]
    fn a_question_mark_is_one_character_and_no_slash() {
        assert!(matches("/opt/caf?", "/opt/café"));
        assert!(!matches("/opt/caf?", "/opt/caf"));
        assert!(!matches("/opt?app", "/opt/app"));
    }

    #[test]
    fn two_stars_between_slashes_are_any_number_of_components() {
        assert!(matches("/opt/**/app", "/opt/app"));
        assert!(matches("/opt/**/app", "/opt/a/app"));
        assert!(matches("/opt/**/app", "/opt/app/b/app"));
        assert!(!matches("/opt/**/app", "/opt/myapp"));
        assert!(matches("/**/bin/**/a*", "/usr/bin/local/bin/app"));
    }

    #[test]
    fn two_stars_at_the_end_are_all_that_lies_below() {
        assert!(matches("/apps/**", "/apps/a"));
        assert!(matches("/apps/**", "/apps/a/b"));
        assert!(!matches("/apps/**", "/apps"));
        assert!(!matches("/apps/**", "/apps2/a"));
        assert!(matches("/**", "/a/b"));
        assert!(!matches("/**", "/"));
    }

    #[test]
    fn a_lone_slash_is_the_root_only() {
        assert!(matches("/", "/"));
        assert!(!matches("/", "/a"));
        assert!(!matches("/*", "/"));
    }

    #[test]
    fn a_backslash_is_an_ordinary_character() {
        assert!(matches(r"/system.slice/a\x2db.service", r"/system.slice/a\x2db.service"));
    }

    #[test]
    fn what_is_no_absolute_path_matches_nothing_for_certain_and_anything_possibly() {
        for path in ["", "app", "(unreachable)/app"] {
            let glob = Glob::parse("/**").unwrap();
            assert!(!glob.matches_certainly(path));
            assert!(glob.matches_possibly(path));
        }
    }

    #[test]
    fn a_deleted_file_is_certain_only_by_its_ending_and_possible_with_either_name() {
        let path = "/usr/bin/app (deleted)";
        for pattern in ["/usr/bin/*", "/usr/bin/app", "/usr/bin/app*", "/**"] {
            let glob = Glob::parse(pattern).unwrap();
            assert!(!glob.matches_certainly(path), "{pattern}");
            assert!(glob.matches_possibly(path), "{pattern}");
        }
        let glob = Glob::parse("/usr/bin/* (deleted)").unwrap();
        assert!(glob.matches_certainly(path) && glob.matches_possibly(path));
        assert!(!glob.matches_possibly("/usr/bin/app"));
    }

    #[test]
    fn many_stars_and_a_long_path_take_no_exponential_time() {
        let stars = format!("/{}b", "*a".repeat(100));
        let depths = format!("{}/*a*b", "/**/a".repeat(100));
        assert!(!matches(&stars, &format!("/{}", "a".repeat(4000))));
        assert!(!matches(&depths, &"/a".repeat(2000)));
    }
}
