//! Patterns with `*` and `?`, and the policy variables in them.

/// One place of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// `*`: any text, also none.
    Any,
    /// `?`: any one character.
    One,
    /// This character.
    Is(char),
}

/// A pattern.
pub type Pattern = Vec<Token>;

/// Reads a text in which `*` and `?` stand for others.
pub fn pattern(text: &str) -> Pattern {
    let token = |c| match c {
        '*' => Token::Any,
        '?' => Token::One,
        c => Token::Is(c),
    };
    text.chars().map(token).collect()
}

/// Reads a text in which every character stands for itself.
pub fn literal(text: &str) -> Pattern {
    text.chars().map(Token::Is).collect()
}

/// The same without regard to case.
pub fn lower(tokens: &[Token]) -> Pattern {
    let one = |token: &Token| match token {
        Token::Is(c) => Token::Is(c.to_ascii_lowercase()),
        Token::Any | Token::One => *token,
    };
    tokens.iter().map(one).collect()
}

/// Whether all that fits `other` fits `pattern`. Of a text without wildcards: whether it fits.
///
/// Whoever wrote the policy chose the pattern, so it takes no more steps than both lengths multiplied.
pub fn covers(pattern: &[Token], other: &[Token]) -> bool {
    let fits = |p: Token, t: Token| match p {
        Token::Any => false,
        Token::One => t != Token::Any,
        Token::Is(_) => p == t,
    };
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < other.len() {
        match pattern.get(p) {
            Some(Token::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(&one) if fits(one, other[t]) => (p, t) = (p + 1, t + 1),
            // The last star takes one more.
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|token| *token == Token::Any)
}

/// Whether some text fits both.
fn overlap(one: &[Token], other: &[Token]) -> bool {
    // after[j]: whether the rests of `one` from i + 1 and of `other` from j overlap.
    let mut after = vec![false; other.len() + 1];
    for i in (0..=one.len()).rev() {
        let mut here = vec![false; other.len() + 1];
        for j in (0..=other.len()).rev() {
            here[j] = match (one.get(i), other.get(j)) {
                (None, None) => true,
                (Some(Token::Any), _) if after[j] => true,
                (_, Some(Token::Any)) if here[j + 1] => true,
                (Some(Token::Any), Some(_)) => here[j + 1],
                (Some(_), Some(Token::Any)) => after[j],
                (Some(Token::Is(a)), Some(Token::Is(b))) => a == b && after[j + 1],
                (Some(_), Some(_)) => after[j + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
        after = here;
    }
    after[0]
}

/// Whether a text, or what is known of it (its own wildcards stand for what is not), fits a pattern; `None`
/// where that depends on what is not known.
pub fn fits(pattern: &[Token], text: &[Token]) -> Option<bool> {
    if covers(pattern, text) {
        return Some(true);
    }
    if overlap(pattern, text) { None } else { Some(false) }
}

/// Whether a text has the six parts of an ARN, or is `*`.
pub fn is_arn(tokens: &[Token]) -> bool {
    tokens == [Token::Any] || tokens.iter().filter(|t| **t == Token::Is(':')).count() >= 5
}

fn parts(tokens: &[Token]) -> Vec<Pattern> {
    let mut parts: Vec<Pattern> =
        tokens.splitn(6, |t| *t == Token::Is(':')).map(<[Token]>::to_vec).collect();
    if parts.len() > 1 {
        parts.resize(6, vec![Token::Any]);
    }
    parts
}

/// The same for ARNs, part by part: a wildcard does not reach over a colon (IAM guide, "ARN condition operators"),
/// but in the last part. A pattern that has fewer parts is completed with wildcards (IAM guide, "Resource": so
/// does AWS there; of conditions nobody says so, see [`is_arn`]).
pub fn fits_arn(pattern: &[Token], arn: &[Token]) -> Option<bool> {
    if pattern == [Token::Any] {
        return Some(true);
    }
    let (pattern, arn) = (parts(pattern), parts(arn));
    if pattern.len() != arn.len() {
        return Some(false);
    }
    super::all(pattern.iter().zip(&arn).map(|(p, a)| fits(p, a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_no_more_time_than_its_length_is_worth() {
        let bad = pattern(&format!("{}z", "a*".repeat(2_000)));
        assert!(!covers(&bad, &literal(&"a".repeat(2_000))));
        assert_eq!(fits(&bad, &pattern(&format!("{}*", "a".repeat(200)))), None);
    }

    #[test]
    fn texts_and_patterns_fit_as_far_as_they_are_known() {
        let (yes, no, perhaps) = (Some(true), Some(false), None);
        for (one, text, want) in [
            ("", "", yes),
            ("*", "", yes),
            ("a*c", "abbc", yes),
            ("a*c", "abbcd", no),
            ("a?c", "abc", yes),
            ("a?c", "ac", no),
            ("*b*", "abc", yes),
            ("a", "A", no),
            // What is known of a text.
            ("*", "a*", yes),
            ("a*", "ab*", yes),
            ("ab*", "a*", perhaps),
            ("a?", "a*", perhaps),
            ("a*", "?b", perhaps),
            ("b*", "a*", no),
            ("*b", "a*", perhaps),
            ("a", "ab*", no),
            ("?", "?", yes),
        ] {
            assert_eq!(fits(&pattern(one), &pattern(text)), want, "{one} {text}");
        }
    }

    #[test]
    fn arns_fit_part_by_part() {
        let (yes, no, perhaps) = (Some(true), Some(false), None);
        let db = "arn:aws:rds:eu-west-1:111122223333:db:orders";
        for (one, arn, want) in [
            ("*", db, yes),
            ("arn:*:rds:*:*:db:*", db, yes),
            ("arn:aws:rds:*", db, yes),
            ("arn:aws:rds", db, yes),
            ("arn:aws:*", db, yes),
            ("arn:aws:ec2:*", db, no),
            ("arn:*:db:*", db, no),
            ("arn:aws:rds:eu-west-1:111122223333:*", db, yes),
            ("arn:aws:rds:eu-west-1:*orders", db, no),
            ("arn:aws:rds:*:*:db:o?ders", db, yes),
            ("arn:aws:rds:*:*:db:Orders", db, no),
            ("arn:aws:rds:*:*:cluster:*", db, no),
            ("arn:aws:rds:*:*:db:prod-*", "arn:aws:rds:eu-west-1:111122223333:db:*", perhaps),
            ("arn:aws:rds:us-*:*:db:prod-*", "arn:aws:rds:eu-west-1:111122223333:db:*", no),
            ("orders", db, no),
        ] {
            assert_eq!(fits_arn(&pattern(one), &pattern(arn)), want, "{one} {arn}");
        }
    }
}
