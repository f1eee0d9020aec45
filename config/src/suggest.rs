//! "Did you mean": the known word nearest to one that is not known.

/// The word nearest to `word`, if one is near: a third of its letters may differ, one at least.
pub fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Edits from `a` to `b`: letters inserted, removed, replaced or swapped with their neighbour, without
/// regard to case.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    // Rows of the table: the one before the previous (for swaps), the previous, the current.
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        let cases = [
            ("", "abc", 3, "insertions"),
            ("abc", "", 3, "removals"),
            ("weight", "weight", 0, "equal"),
            ("weigth", "weight", 1, "neighbours swapped"),
            ("WEIGHT", "weight", 0, "case"),
            ("adress", "address", 1, "one missing"),
            ("kitten", "sitting", 3, "the textbook's"),
        ];
        for (a, b, want, why) in cases {
            assert_eq!(distance(a, b), want, "{why}: {a} {b}");
            assert_eq!(distance(b, a), want, "{why}, the other way: {b} {a}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["address", "weight", "forward"];
        assert_eq!(nearest("forwrad", known), Some("forward"));
        assert_eq!(nearest("Adress", known), Some("address"));
        assert_eq!(nearest("scheduler", known), None);
        assert_eq!(nearest("", known), None);
    }
}
