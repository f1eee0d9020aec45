//! Options made of words, for schedulers that have some of their own.

use alloc::string::String;

/// The words of a scheduler's options, with commas between them: each a key, and what stands after its `=`.
///
/// ```
/// let words: Vec<_> = uvs_sdk::words("window=30, port").collect();
/// assert_eq!(words, [("window", Some("30")), ("port", None)]);
/// ```
pub fn words(options: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let words = options.split(',').map(str::trim_ascii).filter(|word| !word.is_empty());
    words.map(|word| match word.split_once('=') {
        Some((key, value)) => (key.trim_ascii(), Some(value.trim_ascii())),
        None => (word, None),
    })
}

/// The sentence against an option: that the scheduler does not know it or cannot use its value, and what it `takes`.
///
/// ```
/// let said = uvs_sdk::refuse_option("chbl", "loda", Some("2"), "load=PERCENT and port");
/// assert_eq!(said, "chbl cannot use the option \"loda=2\"; it takes load=PERCENT and port, with commas between them");
/// ```
pub fn refuse_option(scheduler: &str, key: &str, value: Option<&str>, takes: &str) -> String {
    let (sign, value) = value.map_or(("", ""), |value| ("=", value));
    // Pushes: what formats text would be a fifth of a component.
    let mut error = String::new();
    let parts = [
        scheduler,
        " cannot use the option \"",
        key,
        sign,
        value,
        "\"; it takes ",
        takes,
        ", with commas between them",
    ];
    for part in parts {
        error.push_str(part);
    }
    error
}
