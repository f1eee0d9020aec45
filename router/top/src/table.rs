//! What a view lists: columns, rows, and how they are sorted and filtered. Nothing of how it looks.

use std::cmp::Ordering;

use crate::figures;

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Columns of characters that it takes; the first column takes what the others leave, and this at least.
    pub width: u16,
    /// Where there is no room for all, those with the largest number are left out first; 0 never is.
    pub rank: u8,
}

/// What stands in a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// There is nothing to say yet, or ever.
    #[default]
    Nothing,
    /// Words.
    Text(String),
    /// A number of things.
    Count(u64),
    /// In a second.
    Rate(f64),
    /// A time in nanoseconds.
    Nanos(f64),
    /// A time in seconds.
    Age(f64),
    /// So many of so many.
    Of(u64, u64),
    /// A time of day, and its place in the order of time.
    Moment(u64, String),
}

impl Value {
    /// As it is shown.
    pub fn text(&self) -> String {
        match self {
            Self::Nothing => "-".to_owned(),
            Self::Text(text) | Self::Moment(_, text) => text.clone(),
            Self::Count(count) => figures::count(*count),
            Self::Rate(rate) => figures::rate(*rate),
            Self::Nanos(ns) => figures::nanos(*ns),
            Self::Age(seconds) => figures::age(*seconds),
            Self::Of(some, all) => format!("{some}/{all}"),
        }
    }

    /// Whether it stands at the right side of its column.
    pub const fn is_figure(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Moment(..))
    }

    #[allow(clippy::cast_precision_loss, reason = "figures that differ by less need no order")]
    fn figure(&self) -> f64 {
        match self {
            Self::Nothing | Self::Text(_) => -1.0,
            Self::Count(count) | Self::Moment(count, _) => *count as f64,
            Self::Rate(figure) | Self::Nanos(figure) | Self::Age(figure) => *figure,
            // What lacks most comes first when sorted upwards.
            Self::Of(some, all) => *some as f64 / (*all).max(1) as f64,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => natural(a, b),
            _ => self.figure().total_cmp(&other.figure()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// As people sort: digits as the number that they are.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (in_a, in_b) = (digits(a), digits(b));
        if in_a > 0 && in_b > 0 {
            let (of_a, of_b) = (a[..in_a].trim_start_matches('0'), b[..in_b].trim_start_matches('0'));
            match of_a.len().cmp(&of_b.len()).then_with(|| of_a.cmp(of_b)) {
                Ordering::Equal => (a, b) = (&a[in_a..], &b[in_b..]),
                unequal => return unequal,
            }
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            (None, None) => return Ordering::Equal,
            (x, y) if x == y => (a, b) = (rest_a.as_str(), rest_b.as_str()),
            (x, y) => return x.cmp(&y),
        }
    }
}

/// How a row is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    #[default]
    Plain,
    /// Of no weight now.
    Dim,
    /// Something is not as it should be.
    Warn,
    /// Something does not work.
    Bad,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// What it is known by: the selection stays on it whatever the order.
    pub key: String,
    /// One for each column.
    pub cells: Vec<Value>,
    /// How it is marked.
    pub tone: Tone,
    /// What is said below the list while it is selected.
    pub note: Option<String>,
}

/// All that a view lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Its columns.
    pub columns: &'static [Column],
    /// Its rows.
    pub rows: Vec<Row>,
}

/// By which column, and which end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column's index.
    pub column: usize,
    /// The largest first.
    pub descending: bool,
}

impl Table {
    /// Leaves the rows that have `filter` in one of their texts, in any case of letters, sorted.
    pub fn arrange(&mut self, filter: &str, sort: Sort) {
        let filter = filter.to_lowercase();
        if !filter.is_empty() {
            self.rows.retain(|row| {
                let text =
                    |cell: &Value| matches!(cell, Value::Text(text) if text.to_lowercase().contains(&filter));
                row.cells.iter().any(text) || row.key.to_lowercase().contains(&filter)
            });
        }
        let nothing = Value::Nothing;
        let cell = |row: &Row| row.cells.get(sort.column).unwrap_or(&nothing).clone();
        let mut keyed: Vec<(Value, Row)> =
            std::mem::take(&mut self.rows).into_iter().map(|row| (cell(&row), row)).collect();
        keyed.sort_by(|(a, row_a), (b, row_b)| {
            let order = a.compare(b);
            let order = if sort.descending { order.reverse() } else { order };
            // The same whatever is told first, so that nothing jumps.
            order.then_with(|| natural(&row_a.key, &row_b.key))
        });
        self.rows = keyed.into_iter().map(|(_, row)| row).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, Value)]) -> Table {
        let row = |(key, value): &(&str, Value)| Row {
            key: (*key).to_owned(),
            cells: vec![Value::from(*key), value.clone()],
            ..Row::default()
        };
        Table { columns: &[], rows: rows.iter().map(row).collect() }
    }

    fn keys(table: &Table) -> Vec<&str> {
        table.rows.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn addresses_are_sorted_as_people_do() {
        let mut names =
            ["tcp 10.0.0.10:80", "tcp 10.0.0.9:8080", "tcp 10.0.0.9:80", "fwmark 7", "tcp 10.0.0.009:80"];
        names.sort_by(|a, b| natural(a, b));
        let want =
            ["fwmark 7", "tcp 10.0.0.9:80", "tcp 10.0.0.009:80", "tcp 10.0.0.9:8080", "tcp 10.0.0.10:80"];
        assert_eq!(names, want);
        assert_eq!(natural("é1", "é02"), Ordering::Less);
    }

    #[test]
    fn rows_are_sorted_by_any_column_both_ways_and_stay_in_order() {
        let rows = [
            ("b", Value::Rate(3.0)),
            ("a", Value::Nothing),
            ("d", Value::Rate(7.0)),
            ("c", Value::Rate(3.0)),
        ];
        let cases =
            [(0, false, "abcd"), (0, true, "dcba"), (1, false, "abcd"), (1, true, "dbca"), (9, true, "abcd")];
        for (column, descending, want) in cases {
            let mut table = table(&rows);
            table.arrange("", Sort { column, descending });
            assert_eq!(keys(&table).concat(), want, "column {column}, descending {descending}");
        }
        let mut table =
            table(&[("all", Value::Of(3, 3)), ("none", Value::Of(0, 3)), ("some", Value::Of(2, 3))]);
        table.arrange("", Sort { column: 1, descending: false });
        assert_eq!(keys(&table), ["none", "some", "all"]);
    }

    #[test]
    fn a_filter_looks_at_every_text() {
        let rows = [("tcp 10.0.0.1:80", Value::from("WLC")), ("udp 10.0.0.1:53", Value::from("rr"))];
        for (filter, want) in [("", 2), ("10.0.0.1", 2), ("wlc", 1), ("UDP", 1), ("sctp", 0)] {
            let mut table = table(&rows);
            table.arrange(filter, Sort { column: 0, descending: false });
            assert_eq!(table.rows.len(), want, "{filter:?}");
        }
    }
}
