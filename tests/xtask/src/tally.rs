//! Reads what a test runner prints: nextest, or libtest with `--show-output`.
//!
//! Tests that cannot run here print a line `skipped: REASON` and pass. The runners are told to show the output of
//! tests that pass, so that these lines are seen; the rest of that output is kept from the screen.

use std::collections::BTreeMap;

/// How tests came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// That passed, by the runner's count.
    pub(crate) passed: usize,
    /// That failed, hung or did not start.
    pub(crate) failed: usize,
    /// Of those that passed: how many skipped themselves, by reason.
    pub(crate) skipped: BTreeMap<String, usize>,
    /// Of those that passed: how many failed at the first try.
    pub(crate) flaky: usize,
    /// The runner's own closing lines.
    pub(crate) summaries: Vec<String>,
}

impl Tally {
    /// Adds another one's figures.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.flaky += other.flaky;
        for (reason, times) in &other.skipped {
            *self.skipped.entry(reason.clone()).or_default() += times;
        }
    }

    /// All in one line; who skipped himself did not pass.
    pub(crate) fn line(&self) -> String {
        let skipped: usize = self.skipped.values().sum();
        let passed = self.passed.saturating_sub(skipped);
        let flaky = match self.flaky {
            0 => String::new(),
            flaky => format!(" ({flaky} at the second try)"),
        };
        format!("{passed} passed{flaky}, {} failed, {skipped} skipped", self.failed)
    }
}

/// Which part of the output a line is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Runner,
    /// The output of a test that passed.
    Passed {
        /// It said why it skips itself.
        told: bool,
    },
}

/// Reads line by line.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    part: Part,
    tally: Tally,
    /// The program whose tests libtest runs.
    program: String,
}

impl Reader {
    /// Takes a line and says whether people should see it.
    pub(crate) fn shows(&mut self, line: &str) -> bool {
        let text = line.trim();
        if let Some(counts) = nextest_summary(text) {
            self.part = Part::Runner;
            self.count_nextest(counts);
            self.tally.summaries.push(text.to_owned());
            return true;
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.part = Part::Runner;
            if self.count_libtest(counts) {
                self.tally.summaries.push(format!("{}: {line}", self.program));
            }
            return true;
        }
        if text.starts_with("FLAKY ") {
            self.part = Part::Runner;
            self.tally.flaky += 1;
            self.tally.summaries.push(text.to_owned());
            return true;
        }
        if let Some(program) = text.strip_prefix("Running ").or_else(|| text.strip_prefix("Doc-tests ")) {
            self.program = program.split(" (").next().unwrap_or_default().to_owned();
        }
        if is_nextest_status(text) {
            let status = text.split_once(" [").map_or(text, |(status, _)| status);
            let passed = status.ends_with("PASS") || status == "LEAK";
            self.part = if passed { Part::Passed { told: false } } else { Part::Runner };
            return true;
        }
        match line {
            "successes:" => self.part = Part::Passed { told: false },
            "failures:" => self.part = Part::Runner,
            _ => {}
        }
        if text.starts_with('─') && self.part != Part::Runner && !line.starts_with(' ') {
            self.part = Part::Runner;
        }
        let Part::Passed { told } = &mut self.part else { return true };
        if line.starts_with("---- ") {
            *told = false;
        }
        if let Some(reason) = text.strip_prefix("skipped: ")
            && !core::mem::replace(told, true)
        {
            *self.tally.skipped.entry(reason.to_owned()).or_default() += 1;
        }
        false
    }

    /// What came of it all.
    pub(crate) fn finish(self) -> Tally {
        self.tally
    }

    /// `12 passed (1 slow), 2 failed, 1 timed out, 0 skipped`
    fn count_nextest(&mut self, counts: &str) {
        // Of those that passed it says in brackets how many did so slowly, or at the second try.
        let (before, after) = counts.split_once(" (").unwrap_or((counts, ""));
        let after = after.split_once(')').map_or("", |(_, after)| after.trim_start_matches(", "));
        for (number, what) in numbers(before, ", ").chain(numbers(after, ", ")) {
            match what {
                _ if what.starts_with("passed") => self.tally.passed += number,
                _ if what.starts_with("skipped") => {}
                _ => self.tally.failed += number,
            }
        }
    }

    /// `ok. 12 passed; 0 failed; 1 ignored; ...`; false: there were no tests.
    fn count_libtest(&mut self, counts: &str) -> bool {
        let mut any = false;
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for (number, what) in numbers(counts, "; ") {
            match what {
                "passed" => self.tally.passed += number,
                "failed" => self.tally.failed += number,
                _ => continue,
            }
            any |= number > 0;
        }
        any
    }
}

/// The counts in nextest's closing line, `Summary [   0.006s] 2 tests run: 2 passed, 0 skipped`.
fn nextest_summary(text: &str) -> Option<&str> {
    text.strip_prefix("Summary [")?.split_once(" run: ").map(|(_, counts)| counts)
}

/// `PASS [   0.005s] (1/2) package test`, and the like.
fn is_nextest_status(text: &str) -> bool {
    let Some((status, rest)) = text.split_once(" [") else { return false };
    let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " +-".contains(c);
    !status.is_empty() && status.chars().all(is_word) && rest.contains("s] ")
}

fn numbers<'a>(counts: &'a str, separator: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    counts.split(separator).filter_map(|count| {
        let (number, what) = count.split_once(' ')?;
        Some((number.parse().ok()?, what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left on the screen, and the tally.
    fn read(output: &str) -> (Vec<&str>, Tally) {
        let mut reader = Reader::default();
        let shown = output.lines().filter(|line| reader.shows(line)).collect();
        (shown, reader.finish())
    }

    #[test]
    fn nextest() {
        let output = "
        PASS [   0.004s] (1/4) uvs-lab::hosts a_cable
  stdout ───

    running 1 test
    test a_cable ... ok

    test result: ok. 1 passed; 0 failed; 0 ignored

  stderr ───
    skipped: needs root
    skipped: needs root

        SLOW [> 60.000s] (   ) uvs-lab::hosts b
        FAIL [   0.005s] (2/4) uvs-lab::hosts c
  stderr ───
    skipped: this one failed
     TIMEOUT [ 240.000s] (3/4) uvs-lab::hosts b
        PASS [   0.004s] (4/4) uvs-lab::hosts d
  stderr ───
    quiet
────────────
     Summary [ 241.006s] 4 tests run: 2 passed (1 slow), 1 failed, 1 timed out, 7 skipped
        FAIL [   0.005s] (2/4) uvs-lab::hosts c
";
        let (shown, tally) = read(output);
        assert_eq!((tally.passed, tally.failed), (2, 2));
        assert_eq!(tally.skipped, BTreeMap::from([("needs root".to_owned(), 1)]), "once for each test");
        assert_eq!(tally.line(), "1 passed, 2 failed, 1 skipped");
        assert_eq!(tally.summaries.len(), 1);
        let shown = shown.join("\n");
        for (text, is_shown) in
            [("SLOW", true), ("this one failed", true), ("Summary", true), ("quiet", false), ("PASS", true)]
        {
            assert_eq!(shown.contains(text), is_shown, "{text:?} in\n{shown}");
        }
    }

    #[test]
    fn who_passes_at_the_second_try_is_told_and_has_not_failed() {
        let output = "
  TRY 1 FAIL [   0.085s] (───) uvs-lab::hosts a
  stdout ───
    skipped: not by this try
  TRY 2 PASS [   0.005s] (1/3) uvs-lab::hosts a
  stderr ───
    quiet
        PASS [   0.004s] (2/3) uvs-lab::hosts b
────────────
     Summary [   0.091s] 3 tests run: 3 passed (1 slow, 1 flaky), 1 failed, 0 skipped
   FLAKY 2/2 [   0.005s] (1/3) uvs-lab::hosts a
";
        let (shown, tally) = read(output);
        assert_eq!(tally.line(), "3 passed (1 at the second try), 1 failed, 0 skipped");
        assert_eq!(tally.summaries.len(), 2, "who it was is said with the counts: {:?}", tally.summaries);
        let shown = shown.join("\n");
        assert!(shown.contains("TRY 1 FAIL") && shown.contains("not by this try"), "{shown}");
        assert!(!shown.contains("quiet"), "{shown}");
    }

    #[test]
    fn libtest() {
        let output = "
     Running tests/hosts.rs (target/debug/deps/hosts-1)

running 3 tests
test a ... ok

successes:

---- a stdout ----
skipped: needs root

---- b stdout ----
skipped: needs root

successes:
    a
    b

failures:

---- c stdout ----
skipped: but it failed

failures:
    c

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running unittests src/main.rs (target/debug/deps/main-1)

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests uvs_lab
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let (shown, tally) = read(output);
        assert_eq!((tally.passed, tally.failed), (5, 1));
        assert_eq!(tally.skipped, BTreeMap::from([("needs root".to_owned(), 2)]));
        assert_eq!(tally.line(), "3 passed, 1 failed, 2 skipped");
        assert!(
            tally.summaries[0].starts_with("tests/hosts.rs: test result: FAILED."),
            "{:?}",
            tally.summaries
        );
        assert!(
            tally.summaries[1].starts_with("uvs_lab: test result: ok. 3 passed"),
            "{:?}",
            tally.summaries
        );
        assert_eq!(tally.summaries.len(), 2, "programs without tests are left out");
        assert!(shown.contains(&"skipped: but it failed"));
    }

    #[test]
    fn a_sum_keeps_the_reasons_apart() {
        let one = Tally { passed: 2, skipped: [("a".to_owned(), 1)].into(), ..Tally::default() };
        let other =
            Tally { failed: 3, skipped: [("a".to_owned(), 1), ("b".to_owned(), 1)].into(), ..one.clone() };
        let mut sum = one;
        sum.add(&other);
        assert_eq!(sum.line(), "1 passed, 3 failed, 3 skipped");
        assert_eq!(sum.skipped, BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
    }
}
