//! How it looks: rows to cells of the screen. Nothing here but ASCII, so that every terminal and locale shows it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::app::{App, Link};
use crate::figures;
use crate::rows::View;
use crate::table::{Column, Tone, Value};

/// Colours, or only what every terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Whether colours may be used.
    pub colours: bool,
}

impl Palette {
    fn tone(self, tone: Tone) -> Style {
        let coloured = |colour| if self.colours { Style::new().fg(colour) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Dim => Style::new().add_modifier(Modifier::DIM),
            Tone::Warn => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn heading(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colours { style.fg(Color::Cyan) } else { style }
    }
}

/// Below this it makes no sense.
const SMALLEST: (u16, u16) = (40, 8);

/// Rows that are not the list's: two of figures, views, headings; the note and the keys.
const FRAME: u16 = 6;

/// How many rows a list has on a screen of that height.
pub fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(FRAME)).max(1)
}

/// Draws all of it.
pub fn draw(app: &mut App, palette: Palette, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("uvs top needs {} x {}", SMALLEST.0, SMALLEST.1);
        put(buffer, area.x, area.y, area.width, &text, Style::new());
        return;
    }
    app.fit(page(area.height));
    let line = |row: u16| Rect { y: area.y + row, height: 1, ..area };
    first(app, palette, line(0), buffer);
    totals(app, palette, line(1), buffer);
    views(app, palette, line(2), buffer);
    let body = Rect { y: area.y + 3, height: area.height - 5, ..area };
    if app.help {
        help(palette, body, buffer);
    } else {
        list(app, palette, body, buffer);
    }
    note(app, palette, line(area.height - 2), buffer);
    keys(app, palette, line(area.height - 1), buffer);
}

/// Writes as much as there is room for.
fn put(buffer: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
    let clean: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    buffer.set_stringn(x, y, &clean, width.into(), style).0
}

/// Writes `left` and `right` on one line; where both have no room, `right` is left out.
fn both(buffer: &mut Buffer, at: Rect, left: &str, right: &str, style: Style) {
    put(buffer, at.x, at.y, at.width, left, style);
    let (taken, wanted) = (left.chars().count(), right.chars().count());
    if taken + 2 + wanted <= usize::from(at.width) {
        let width = u16::try_from(wanted).unwrap_or(at.width);
        put(buffer, at.x + at.width - width, at.y, width, right, style);
    }
}

/// Who it is, and how it stands with it.
fn first(app: &App, palette: Palette, at: Rect, buffer: &mut Buffer) {
    let Some(now) = app.now() else {
        let text = match &app.link {
            Link::Down(why) => format!("no director; trying again ({why})"),
            Link::Asking | Link::Up => "asking the director...".to_owned(),
        };
        put(buffer, at.x, at.y, at.width, &text, palette.tone(Tone::Bad));
        return;
    };
    match &app.link {
        Link::Down(_) => {
            let text = "no director; trying again. Below is what it said last.";
            both(buffer, at, text, figures::time_of_day(&now.time), palette.tone(Tone::Bad));
        }
        _ => {
            let left = format!(
                "uvs {}  up {}  pid {}  {}",
                now.version,
                figures::clock(now.uptime_s),
                now.pid,
                now.config
            );
            let paused = if app.paused { "PAUSED  " } else { "" };
            let right = format!("{paused}{} UTC", figures::time_of_day(&now.time));
            // The time is what tells that it is alive: rather that than all of a path.
            let room = usize::from(at.width).saturating_sub(right.len() + 2);
            let left: String = left.chars().take(room).collect();
            both(buffer, at, &left, &right, palette.heading());
        }
    }
}

/// The director as a whole.
fn totals(app: &App, palette: Palette, at: Rect, buffer: &mut Buffer) {
    let Some(now) = app.now() else { return };
    let rate = |of: fn(&crate::rates::Rates) -> f64| {
        app.pair().map_or("-".to_owned(), |pair| figures::rate(of(&pair.total())))
    };
    let drops = app.pair().map(|pair| pair.drops());
    let connections = now.limits.iter().find(|limit| limit.name == "connections");
    let cached = app.pair().and_then(|pair| pair.cached());
    let mut parts = vec![
        ("conn/s", rate(|it| it.connections)),
        ("pkt/s", format!("{} in {} out", rate(|it| it.packets_in), rate(|it| it.packets_out))),
        ("bit/s", format!("{} in {} out", rate(|it| it.bits_in), rate(|it| it.bits_out))),
        ("drop/s", drops.map_or("-".to_owned(), figures::rate)),
    ];
    if let Some(limit) = connections {
        parts.push(("conns", figures::count(limit.used)));
    }
    if let Some(cached) = cached {
        parts.push(("cached/s", figures::rate(cached)));
    }
    let end = at.x + at.width;
    let mut x = at.x;
    for (name, value) in parts {
        let width = u16::try_from(name.len() + 1 + value.len()).unwrap_or(u16::MAX);
        if x + width > end {
            break;
        }
        let tone =
            if name == "drop/s" && drops.is_some_and(|it| it > 0.0) { Tone::Warn } else { Tone::Plain };
        x = put(buffer, x, at.y, end - x, name, Style::new().add_modifier(Modifier::DIM)) + 1;
        x = put(buffer, x, at.y, end - x, &value, palette.tone(tone)) + 2;
    }
}

/// The names of the views, or where there is no room for all the one that is shown.
fn views(app: &App, palette: Palette, at: Rect, buffer: &mut Buffer) {
    let names: Vec<String> =
        View::ALL.iter().enumerate().map(|(index, view)| format!("{} {}", index + 1, view.title())).collect();
    let whole: usize = names.iter().map(|name| name.len() + 2).sum();
    let mut x = at.x;
    let end = at.x + at.width;
    for (view, name) in View::ALL.iter().zip(names) {
        let is_shown = *view == app.view;
        let name = match (whole <= usize::from(at.width) + 1, is_shown) {
            (false, false) => name[..1].to_owned(),
            _ => name,
        };
        let style = if is_shown { palette.heading().add_modifier(Modifier::REVERSED) } else { Style::new() };
        x = put(buffer, x, at.y, end.saturating_sub(x), &name, style) + 2;
    }
}

/// Which columns are shown in so much room, and how wide.
fn layout(columns: &[Column], room: u16) -> Vec<(usize, u16)> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let wide =
        |shown: &[usize]| -> u16 { shown.iter().map(|&index| columns[index].width + 1).sum::<u16>() - 1 };
    while wide(&shown) > room {
        let least = shown.iter().enumerate().max_by_key(|(_, index)| (columns[**index].rank, **index));
        match least {
            Some((at, &index)) if columns[index].rank > 0 && shown.len() > 1 => drop(shown.remove(at)),
            _ => break,
        }
    }
    let spare = room.saturating_sub(wide(&shown));
    let width = |index: usize| if index == 0 { columns[index].width + spare } else { columns[index].width };
    shown.into_iter().map(|index| (index, width(index))).collect()
}

fn list(app: &App, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let table = app.table();
    let columns = layout(table.columns, area.width);
    let sort = app.sort();
    // The headings stand above their figures.
    let is_figure =
        |index: usize| table.rows.iter().any(|row| row.cells.get(index).is_some_and(Value::is_figure));
    let mut x = area.x;
    for &(index, width) in &columns {
        let title = table.columns[index].title;
        let mark = match (index == sort.column, sort.descending) {
            (false, _) => "",
            (true, false) => "^",
            (true, true) => "v",
        };
        let title = match (mark, title.len() < usize::from(width)) {
            ("", _) => title.to_owned(),
            (_, true) => format!("{title}{mark}"),
            // There is room for the mark or for the last letter.
            (_, false) => format!("{}{mark}", &title[..title.len() - 1]),
        };
        let style = if index == sort.column {
            palette.heading().add_modifier(Modifier::UNDERLINED)
        } else {
            palette.heading()
        };
        cell(buffer, x, area.y, width, &title, is_figure(index), style);
        x += width + 1;
    }
    if table.rows.is_empty() {
        let text = empty(app);
        put(buffer, area.x, area.y + 1, area.width, &text, Style::new().add_modifier(Modifier::DIM));
        return;
    }
    let height = usize::from(area.height - 1);
    for (line, row) in table.rows.iter().enumerate().skip(app.place.first).take(height) {
        let y = area.y + 1 + u16::try_from(line - app.place.first).unwrap_or(u16::MAX);
        let mut style = palette.tone(row.tone);
        if line == app.place.selected {
            style = style.add_modifier(Modifier::REVERSED);
            buffer.set_style(Rect { y, height: 1, ..area }, style);
        }
        let mut x = area.x;
        for &(index, width) in &columns {
            let value = row.cells.get(index).cloned().unwrap_or_default();
            cell(buffer, x, y, width, &value.text(), value.is_figure() && is_figure(index), style);
            x += width + 1;
        }
    }
}

/// Of what is too long the end is left out, and a `~` tells so.
fn cell(buffer: &mut Buffer, x: u16, y: u16, width: u16, text: &str, right: bool, style: Style) {
    let (len, room) = (text.chars().count(), usize::from(width));
    let text = match len > room {
        true => text.chars().take(room.saturating_sub(1)).chain(['~']).collect(),
        false => text.to_owned(),
    };
    let lead = if right { width.saturating_sub(u16::try_from(len).unwrap_or(width)) } else { 0 };
    put(buffer, x + lead, y, width - lead, &text, style);
}

/// Why there is nothing in the list.
fn empty(app: &App) -> String {
    if app.now().is_none() {
        return String::new();
    }
    if !app.filter.is_empty() {
        return format!("nothing has \"{}\" in it; Esc shows all", app.filter);
    }
    let of = app
        .service
        .as_deref()
        .filter(|_| app.view.is_of_services())
        .map_or(String::new(), |of| format!(" of {of}"));
    match app.view {
        View::Services => "no services".to_owned(),
        View::Destinations => format!("no destinations{of}"),
        View::Checks => format!("no health checks{of}"),
        View::Schedulers => format!("no schedulers{of}"),
        View::Drops => "nothing was dropped".to_owned(),
        View::Interfaces => "no interfaces".to_owned(),
        View::Events => "nothing has happened".to_owned(),
    }
}

/// More about the selected row, or what is wrong with the director as a whole.
fn note(app: &App, palette: Palette, at: Rect, buffer: &mut Buffer) {
    let notice = app.now().and_then(|now| now.notices.first());
    let (text, style) = match (notice, app.selected()) {
        (Some(notice), _) => (notice.clone(), palette.tone(Tone::Bad)),
        (None, Some(row)) if !app.help => (row.note.clone().unwrap_or_default(), palette.tone(row.tone)),
        _ => return,
    };
    put(buffer, at.x, at.y, at.width, &text, style);
}

/// What can be typed, and how much is listed.
fn keys(app: &App, palette: Palette, at: Rect, buffer: &mut Buffer) {
    if app.typing {
        let text = format!("Filter: {}_  (Enter keeps it, Esc clears it)", app.filter);
        put(buffer, at.x, at.y, at.width, &text, palette.heading());
        return;
    }
    let rows = app.table().rows.len();
    let mut right = String::new();
    if let Some(service) = app.service.as_deref().filter(|_| app.view.is_of_services()) {
        right.push_str(&format!("{service}  "));
    }
    if !app.filter.is_empty() {
        right.push_str(&format!("/{}  ", app.filter));
    }
    right.push_str(&match rows {
        0 => "0 of 0".to_owned(),
        rows => format!("{} of {rows}", app.place.selected + 1),
    });
    let room = usize::from(at.width).saturating_sub(right.chars().count() + 2);
    let hints =
        ["? help", "q quit", "/ filter", "< > sort", "r reverse", "p pause", "Enter open", "Esc back"];
    let mut left = String::new();
    for hint in hints {
        let gap = if left.is_empty() { "" } else { "  " };
        if left.len() + gap.len() + hint.len() > room {
            break;
        }
        left.push_str(gap);
        left.push_str(hint);
    }
    both(buffer, at, &left, &right, Style::new().add_modifier(Modifier::DIM));
}

const HELP: [(&str, &str); 12] = [
    ("1 to 7, Tab", "the views that are named above the list"),
    ("Up Down j k", "select a row; PgUp PgDn a page, Home End g G the ends"),
    ("Enter", "the destinations of the selected service"),
    ("Esc", "clear the filter, back to all services"),
    ("Left Right", "sort by another column, whose heading has ^ or v"),
    ("r", "sort the other way round"),
    ("/", "show only rows that have a text in them"),
    ("p, Space", "pause: what is shown stays"),
    ("Ctrl-L", "draw the screen anew"),
    ("q, Ctrl-C", "quit"),
    ("", "Rates are of the time between two looks. A row in bold"),
    ("", "(red) does not work; the line below the list says why."),
];

fn help(palette: Palette, area: Rect, buffer: &mut Buffer) {
    for ((key, text), y) in HELP.iter().zip(area.y..area.y + area.height) {
        put(buffer, area.x + 1, y, 12, key, palette.heading());
        put(buffer, area.x + 14, y, area.width.saturating_sub(14), text, Style::new());
    }
}

#[cfg(test)]
mod tests;
