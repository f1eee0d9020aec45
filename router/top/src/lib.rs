//! `uvs top`: a running director on a terminal, as it changes.
//!
//! ```text
//!   ask (a thread) --sample, events--> app (what is looked at) --rows--> view --cells--> terminal
//!                                       ^   rates, rows, table             |
//!                                       `------------- keys ---------------'
//! ```
//! Everything between `ask` and `terminal` is pure: samples and keys go in, cells of the screen come out.

pub mod app;
mod ask;
pub mod figures;
pub mod rates;
pub mod rows;
pub mod table;
mod terminal;
pub mod view;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use ratatui::Terminal;
use ratatui::backend::TermionBackend;

use app::{App, Then};
use ask::Asker;
use terminal::{Came, Held};
use view::Palette;

/// How long a key waits at most until what came of it is drawn; and half of Esc, until it is the key.
const TICK_MS: u16 = 50;

/// Columns and rows of the terminal on standard output.
pub fn size() -> Option<(u16, u16)> {
    // The terminal of a serial line may say 0.
    ratatui::termion::terminal_size().ok().filter(|(width, height)| *width > 0 && *height > 0)
}

/// Shows the director at `socket`, which is asked every `interval`, until somebody has enough.
///
/// # Errors
/// It cannot draw here.
pub fn run(socket: PathBuf, interval: Duration) -> anyhow::Result<()> {
    let mut held = Held::take()?;
    let variable = |name: &str| std::env::var(name).ok();
    let colours = terminal::has_colours(variable("NO_COLOR").as_deref(), variable("TERM").as_deref());
    let palette = Palette { colours };
    let mut screen = Terminal::new(TermionBackend::new(io::stdout().lock()))
        .context("the terminal does not tell its size")?;
    let mut app = App::default();
    let asker = Asker::start(socket, interval, app.request())?;
    let mut draw = true;
    loop {
        for (request, told) in asker.take() {
            match told {
                Ok((sample, events)) => app.take(request, sample, events),
                Err(why) => app.lose(why),
            }
            draw = true;
        }
        if draw {
            // The size is asked for anew each time.
            screen
                .draw(|frame| view::draw(&mut app, palette, frame.area(), frame.buffer_mut()))
                .context("the terminal cannot be written to")?;
            draw = false;
        }
        for came in held.wait(TICK_MS)? {
            draw = true;
            let key = match came {
                Came::Key(key) => key,
                Came::Resized => continue,
                Came::End => return Ok(()),
            };
            let page = view::page(screen.size().map_or(0, |size| size.height));
            match app.press(key, page) {
                Then::Draw => {}
                Then::Redraw => screen.clear().context("the terminal cannot be written to")?,
                Then::Ask => asker.want(app.request()),
                Then::Quit => return Ok(()),
            }
        }
    }
}
