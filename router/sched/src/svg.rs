//! Plain SVG without scripts, styles from elsewhere or fonts of its own: it looks the same in a browser, in a README
//! and on paper. For `uvs sched simulate`, and for benches.

use core::fmt::Write as _;

/// What is written.
pub const INK: &str = "#24292f";
/// What is written beside it.
pub const SOFT: &str = "#6a737d";
const FONT: &str = "font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif\"";

/// A picture that is being drawn. Places and sizes are pixels, from the top left; colours are those of CSS.
#[derive(Clone, Debug)]
pub struct Page(String);

impl Page {
    /// An empty one, white.
    pub fn new((width, height): (f64, f64)) -> Self {
        let mut page = Self(String::new());
        page.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" {FONT}>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        ));
        page
    }

    /// The document.
    pub fn finish(self) -> String {
        self.0 + "</svg>\n"
    }

    fn put(&mut self, line: core::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }

    /// A line of text at its base line; `anchor` is `start`, `middle` or `end`, `weight` one of fonts.
    pub fn text(
        &mut self,
        (x, y): (f64, f64),
        anchor: &str,
        size: f64,
        colour: &str,
        weight: &str,
        text: &str,
    ) {
        let text = escaped(text);
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" font-weight=\"{weight}\" \
             fill=\"{colour}\">{text}</text>"
        ));
    }

    /// Strong words and, in the same line, soft ones: the renderer knows how wide the first are.
    pub fn title(&mut self, (x, y): (f64, f64), size: f64, strong: &str, soft: &str) {
        let [strong, soft] = [strong, soft].map(escaped);
        let small = size.min(13.0);
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"600\" fill=\"{INK}\">{strong}<tspan \
             dx=\"8\" font-size=\"{small}\" font-weight=\"400\" fill=\"{SOFT}\">{soft}</tspan></text>"
        ));
    }

    /// A straight line; `dashes` is empty, or lengths as in `4 3`.
    pub fn line(
        &mut self,
        (x1, y1): (f64, f64),
        (x2, y2): (f64, f64),
        colour: &str,
        width: f64,
        dashes: &str,
    ) {
        let dashes =
            if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
        self.put(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"{dashes}/>"
        ));
    }

    /// A line through points.
    pub fn curve(&mut self, points: impl IntoIterator<Item = (f64, f64)>, colour: &str) {
        let points: Vec<String> = points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\" \
             stroke-linecap=\"round\"/>",
            points.join(" ")
        ));
    }

    /// A filled rectangle with rounded corners.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str, radius: f64) {
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius}\" \
             fill=\"{colour}\"/>"
        ));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_element() {
        let mut page = Page::new((100.0, 50.0));
        page.text((0.0, 0.0), "start", 12.0, INK, "400", "a<b>&c");
        let text = page.finish();
        assert!(text.contains(">a&lt;b&gt;&amp;c</text>\n</svg>\n"), "{text}");
    }
}
