//! `~SEQ` and `~LST`: a line that stands for several.

/// What one round gives the names of a sequence.
type Round = Vec<(String, String)>;

/// Rounds of one sequence.
const ROUNDS_MAX: usize = 100_000;

/// All rounds of the sequence that a line begins with, and the rest of the line. `None`: it begins with none.
pub(crate) fn parse(text: &str) -> Option<Result<(Vec<Round>, &str), String>> {
    let (hex, lists, inside) = if let Some(inside) = text.strip_prefix("~SEQx(") {
        (true, false, inside)
    } else if let Some(inside) = text.strip_prefix("~SEQ(") {
        (false, false, inside)
    } else if let Some(inside) = text.strip_prefix("~LST(") {
        (false, true, inside)
    } else {
        return None;
    };
    let Some((arguments, rest)) = inside.split_once(')') else {
        return Some(Err("a sequence without its )".to_owned()));
    };
    let rounds = if lists { list(arguments) } else { numbers(arguments, hex) };
    Some(rounds.map(|rounds| (rounds, rest.trim_start())))
}

/// `v[, start[, step]], end`.
fn numbers(arguments: &str, hex: bool) -> Result<Vec<Round>, String> {
    let parts: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let fault = || format!("~SEQ({arguments}) is no sequence: it is ~SEQ(NAME, START, STEP, END)");
    let (name, values) = parts.split_first().ok_or_else(fault)?;
    if name.is_empty() {
        return Err(fault());
    }
    let values: Vec<i64> = values.iter().map(|text| number(text)).collect::<Option<_>>().ok_or_else(fault)?;
    let (start, step, end) = match values[..] {
        [end] => (if end < 0 { -1 } else { 1 }, None, end),
        [start, end] => (start, None, end),
        [start, step, end] => (start, Some(step), end),
        _ => return Err(fault()),
    };
    let step = step.unwrap_or(if end < start { -1 } else { 1 });
    if step == 0 || (step > 0) != (end >= start) && end != start {
        return Err(format!("~SEQ({arguments}) never gets to its end"));
    }
    let mut rounds = Vec::new();
    let mut at = start;
    while (step > 0 && at <= end) || (step < 0 && at >= end) {
        if rounds.len() >= ROUNDS_MAX {
            return Err(format!("~SEQ({arguments}) has more than {ROUNDS_MAX} rounds"));
        }
        let value = if hex { format!("{at:x}") } else { at.to_string() };
        rounds.push(vec![((*name).to_owned(), value)]);
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok(rounds)
}

/// As C reads one: 0x for 16, a leading 0 for 8.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i64::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(&digits[1..], 8)
    } else {
        digits.parse()
    };
    value.ok().filter(|value| *value >= 0).map(|value| if negative { -value } else { value })
}

/// `v, a, b` or `{v, w}, {a, b}, {c, d}`.
fn list(arguments: &str) -> Result<Vec<Round>, String> {
    let fault =
        || format!("~LST({arguments}) is no list: it is ~LST(NAME, A, B) or ~LST({{N, M}}, {{A, B}})");
    let groups = groups(arguments).ok_or_else(fault)?;
    let (names, values) = groups.split_first().ok_or_else(fault)?;
    if names.iter().any(String::is_empty) || values.iter().any(|group| group.len() != names.len()) {
        return Err(fault());
    }
    Ok(values.iter().map(|group| names.iter().cloned().zip(group.iter().cloned()).collect()).collect())
}

/// What stands between commas: one text, or several in braces.
fn groups(arguments: &str) -> Option<Vec<Vec<String>>> {
    let mut groups = Vec::new();
    let mut rest = arguments.trim();
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('{') {
            let (group, after) = inside.split_once('}')?;
            groups.push(group.split(',').map(|text| text.trim().to_owned()).collect());
            rest = after.trim_start();
            if rest.is_empty() {
                break;
            }
            rest = rest.strip_prefix(',')?.trim_start();
        } else {
            let (one, after) = rest.split_once(',').unwrap_or((rest, ""));
            groups.push(vec![one.trim().to_owned()]);
            rest = after.trim_start();
        }
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let (rounds, _) = parse(text).unwrap().unwrap();
        rounds
            .into_iter()
            .map(|round| round.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("/"))
            .collect()
    }

    #[test]
    fn sequences_count_and_lists_name() {
        assert_eq!(values("~SEQ(i, 3) x"), ["1", "2", "3"]);
        assert_eq!(values("~SEQ(i, 3, 1) x"), ["3", "2", "1"]);
        assert_eq!(values("~SEQ(i, -3) x"), ["-1", "-2", "-3"]);
        assert_eq!(values("~SEQ(i, 0, 5, 10) x"), ["0", "5", "10"]);
        assert_eq!(values("~SEQx(i, 9, 0x0b) x"), ["9", "a", "b"]);
        assert_eq!(values("~LST(i, a, b) x"), ["a", "b"]);
        assert_eq!(values("~LST({i, j}, {a, 1}, {b, 2}) x"), ["a/1", "b/2"]);
        assert_eq!(parse("~SEQ(i, 2) a ~SEQ").unwrap().unwrap().1, "a ~SEQ");
        assert!(parse("SEQ(i, 2)").is_none());
    }

    #[test]
    fn what_has_no_end_is_refused() {
        for text in ["~SEQ(i, 1, 0, 5)", "~SEQ(i, 1, -1, 5)", "~SEQ(i, 0, 99999999)", "~SEQ(i)", "~SEQ(i, 1"]
        {
            assert!(parse(text).unwrap().is_err(), "{text}");
        }
        let end = i64::MAX;
        assert!(parse(&format!("~SEQ(i, {}, {end})", end - 2)).unwrap().is_ok(), "no overflow");
    }
}
