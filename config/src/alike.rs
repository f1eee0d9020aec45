//! Problems that are alike, told together: what a program wrote a thousand times over is one thing to know.

use core::fmt::{self, Write as _};
use std::collections::HashMap;

use crate::problem::{Place, Problem, Problems, Severity};

/// So many of a kind are told one by one, and so many places are named where there are more. Errors have to be mended
/// at each place, so more of these are.
const fn told_of(severity: Severity) -> usize {
    match severity {
        Severity::Warning => 3,
        Severity::Error => 20,
    }
}

/// What problems of one kind have in common: their words without names, addresses and numbers.
fn shape(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    let mut outside = true;
    for quoted in text.split('"') {
        if outside {
            for word in quoted.split_whitespace() {
                shape.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "0" } else { word });
                shape.push(' ');
            }
        } else {
            shape.push_str("\"\" ");
        }
        outside = !outside;
    }
    shape
}

/// A text for each problem, in their order; for each kind of which there are many one text, where the first of them is,
/// with the places of a few and the number of the rest.
pub fn told(problems: &[Problem]) -> Vec<String> {
    let mut kinds: HashMap<(Severity, String, String), Vec<usize>> = HashMap::new();
    for (index, problem) in problems.iter().enumerate() {
        let kind = (problem.severity, shape(&problem.what), shape(&problem.fix));
        kinds.entry(kind).or_default().push(index);
    }
    let mut texts: Vec<(usize, String)> = Vec::new();
    for ((severity, ..), places) in kinds {
        let kind: Vec<&Problem> = places.iter().map(|index| &problems[*index]).collect();
        if kind.len() > told_of(severity) {
            texts.push((places[0], together(&kind)));
        } else {
            texts.extend(places.into_iter().zip(kind).map(|(index, problem)| (index, problem.to_string())));
        }
    }
    texts.sort_by_key(|(index, _)| *index);
    texts.into_iter().map(|(_, text)| text).collect()
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&told(self).join("\n"))
    }
}

/// Of one kind, and more than are told one by one.
fn together(kind: &[&Problem]) -> String {
    let first = kind[0];
    let mut text = format!("{}: {}\n  where: {}", first.severity, first.what, Place(first));
    let named = &kind[1..told_of(first.severity)];
    for (number, problem) in named.iter().enumerate() {
        let head = if number == 0 { "  also:  " } else { "         " };
        write!(text, "\n{head}{}", Place(problem)).expect("a String takes everything");
    }
    let more = kind.len() - 1 - named.len();
    write!(text, "\n         and {more} more like these\n  fix:   {}", first.fix)
        .expect("a String takes everything");
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::problem::Location;

    fn problem(line: usize, what: &str) -> Problem {
        let at = Location { line, context: format!("service tcp 192.0.2.{line}:80"), ..Location::default() };
        Problem::new(Path::new("edge.toml"), &at, what, "do otherwise")
    }

    fn warnings(lines: core::ops::RangeInclusive<usize>) -> Vec<Problem> {
        let what = |line| format!("check \"web {line}\" asks 10.0.0.{line}:80 for nothing");
        lines.map(|line| problem(line, &what(line)).warning()).collect()
    }

    #[test]
    fn many_of_a_kind_are_one_with_a_few_places_and_a_count() {
        let texts = told(&warnings(1..=1000));
        assert_eq!(
            texts,
            ["warning: check \"web 1\" asks 10.0.0.1:80 for nothing\n\
              \x20 where: edge.toml:1, service tcp 192.0.2.1:80\n\
              \x20 also:  edge.toml:2, service tcp 192.0.2.2:80\n\
              \x20        edge.toml:3, service tcp 192.0.2.3:80\n\
              \x20        and 997 more like these\n\
              \x20 fix:   do otherwise"]
        );
    }

    #[test]
    fn a_few_are_told_one_by_one_in_their_order() {
        let mut all = warnings(1..=3);
        all.insert(1, problem(7, "something else").warning());
        let each: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(told(&all), each);
    }

    #[test]
    fn kinds_keep_apart_and_stand_where_their_first_one_is() {
        let mut all = warnings(1..=4);
        all.insert(2, problem(9, "weight 9 is heavy").warning());
        all.push(problem(8, "check \"web 8\" asks 10.0.0.8:80 for nothing"));
        let texts = told(&all);
        assert_eq!(texts.len(), 3, "{texts:#?}");
        assert!(texts[0].starts_with("warning: check") && texts[0].contains("and 1 more"), "{}", texts[0]);
        assert!(texts[1].starts_with("warning: weight 9"), "{}", texts[1]);
        assert!(texts[2].starts_with("error: check"), "an error is no warning: {}", texts[2]);
    }

    #[test]
    fn errors_are_named_more_often() {
        let error = |line| problem(line, &format!("weight {line} is heavy"));
        let few: Problems = Problems((1..=20).map(error).collect());
        assert_eq!(few.to_string().matches("error: ").count(), 20);
        let many = Problems((1..=10_000).map(error).collect()).to_string();
        assert_eq!(many.matches("error: ").count(), 1, "{many}");
        assert_eq!(many.matches("edge.toml:").count(), 20, "{many}");
        assert!(many.contains("and 9980 more like these\n  fix:   do otherwise"), "{many}");
    }

    #[test]
    fn words_make_the_kind_and_names_do_not() {
        let alike = [
            ("check \"a b\" has no port", "check \"c\" has no port"),
            ("no route to 192.0.2.1", "no route to 2001:db8::1"),
            ("VIP 1 is in uvs0", "VIP 2 is in uvs1"),
        ];
        for (one, other) in alike {
            assert_eq!(shape(one), shape(other));
        }
        assert_ne!(shape("unknown key \"a\""), shape("unknown table \"a\""));
        assert_ne!(shape("\"a\" is wrong"), shape("a is wrong"));
    }
}
