//! What is looked at, and how keys change that. No clock, no terminal, no socket.

use std::collections::HashMap;

use uvs_control::event::Event;
use uvs_control::sample::{Answer, Request};

use crate::rates::Pair;
use crate::rows::View;
use crate::table::{Row, Sort, Table};

/// A key, as far as it means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// The return key.
    Enter,
    /// The escape key.
    Esc,
    /// The backspace key.
    Backspace,
    /// A row up.
    Up,
    /// A row down.
    Down,
    /// A column to the left.
    Left,
    /// A column to the right.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// The first row.
    Home,
    /// The last row.
    End,
    /// The next view.
    Tab,
    /// The view before.
    BackTab,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-L.
    Redraw,
}

/// What follows from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The screen changes.
    Draw,
    /// All of the screen is written anew.
    Redraw,
    /// Something else is wanted of the director.
    Ask,
    /// It is over.
    Quit,
}

/// How it stands with the director.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It was not asked yet.
    #[default]
    Asking,
    /// It answers.
    Up,
    /// It does not, and why.
    Down(String),
}

/// Where the list of a view stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The selected row.
    pub selected: usize,
    /// The first one that is shown.
    pub first: usize,
}

/// A filter has at most so many characters.
const FILTER_MAX: usize = 60;

/// Everything that the screen shows, before it has a size.
#[derive(Debug)]
pub struct App {
    /// What is looked at.
    pub view: View,
    /// Only this service, where a view is of services.
    pub service: Option<String>,
    /// What rows have to contain.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// What is shown stays.
    pub paused: bool,
    /// Help is shown.
    pub help: bool,
    /// How it stands with the director.
    pub link: Link,
    /// Where the list stands.
    pub place: Place,
    selected: Option<String>,
    sorts: HashMap<View, Sort>,
    /// The two latest answers to one request, and the latest events.
    samples: Samples,
    table: Table,
}

#[derive(Debug, Default)]
struct Samples {
    before: Option<Answer>,
    now: Option<Answer>,
    events: Vec<Event>,
    /// What they were asked with.
    request: Option<Request>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            view: View::Services,
            service: None,
            filter: String::new(),
            typing: false,
            paused: false,
            help: false,
            link: Link::Asking,
            place: Place::default(),
            selected: None,
            sorts: HashMap::new(),
            samples: Samples::default(),
            table: Table { columns: View::Services.columns(), rows: Vec::new() },
        }
    }
}

impl App {
    /// What is wanted of the director: what the view shows, and no more.
    pub fn request(&self) -> Request {
        let service = match self.view {
            View::Services => None,
            view if view.is_of_services() => self.service.clone(),
            // Of no service: the director as a whole is enough.
            _ => Some(String::new()),
        };
        Request {
            destinations: self.view == View::Destinations,
            // Of all destinations it would be much for one word each.
            checks: self.view == View::Checks || self.view == View::Destinations && service.is_some(),
            schedulers: self.view == View::Schedulers,
            service,
        }
    }

    /// Takes an answer. Without one there are no rates, until the next.
    pub fn take(&mut self, request: Request, answer: Answer, events: Vec<Event>) {
        self.link = Link::Up;
        if self.paused && self.samples.request.as_ref() == Some(&request) {
            return;
        }
        let same = self.samples.request.as_ref() == Some(&request);
        self.samples.before = self.samples.now.take().filter(|_| same);
        self.samples.now = Some(answer);
        self.samples.events = events;
        self.samples.request = Some(request);
        self.arrange();
    }

    /// Nobody answers.
    pub fn lose(&mut self, why: String) {
        self.link = Link::Down(why);
    }

    /// The latest answer.
    pub fn now(&self) -> Option<&Answer> {
        self.samples.now.as_ref()
    }

    /// The latest two, where rates can be made of them.
    pub fn pair(&self) -> Option<Pair<'_>> {
        Pair::of(self.samples.before.as_ref()?, self.samples.now.as_ref()?)
    }

    /// What is listed.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// How it is sorted.
    pub fn sort(&self) -> Sort {
        self.sorts.get(&self.view).copied().unwrap_or_else(|| self.view.sort())
    }

    /// The selected row.
    pub fn selected(&self) -> Option<&Row> {
        self.table.rows.get(self.place.selected)
    }

    /// Lists anew; the selection stays on its row.
    fn arrange(&mut self) {
        let fresh = self.samples.request.as_ref() == Some(&self.request());
        let mut table = match &self.samples.now {
            Some(now) if fresh => self.view.table(now, self.pair().as_ref(), &self.samples.events),
            // What was answered is of another view.
            _ => Table { columns: self.view.columns(), rows: Vec::new() },
        };
        table.arrange(&self.filter, self.sort());
        self.table = table;
        let found =
            self.selected.as_ref().and_then(|key| self.table.rows.iter().position(|row| row.key == *key));
        self.place.selected =
            found.unwrap_or(self.place.selected).min(self.table.rows.len().saturating_sub(1));
    }

    /// The list is `height` rows high: scrolls as little as shows the selected one.
    pub fn fit(&mut self, height: usize) {
        let Place { selected, first } = &mut self.place;
        let height = height.max(1);
        *first = (*first).clamp((*selected + 1).saturating_sub(height), *selected);
        *first = (*first).min(self.table.rows.len().saturating_sub(height));
    }

    fn select(&mut self, index: usize) {
        self.place.selected = index.min(self.table.rows.len().saturating_sub(1));
        self.selected = self.selected().map(|row| row.key.clone());
    }

    fn go(&mut self, view: View, service: Option<String>) -> Then {
        if (self.view, &self.service) == (view, &service) {
            return Then::Draw;
        }
        (self.view, self.service) = (view, service);
        self.filter.clear();
        self.place = Place::default();
        self.selected = None;
        self.arrange();
        Then::Ask
    }

    fn turn(&mut self, by: usize) -> Then {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or_default();
        let view = View::ALL[(at + by) % View::ALL.len()];
        self.go(view, self.service.clone())
    }

    fn sort_by(&mut self, sort: Sort) -> Then {
        self.sorts.insert(self.view, sort);
        self.arrange();
        Then::Draw
    }

    /// Does what a key says; a page of the list has `page` rows.
    pub fn press(&mut self, key: Key, page: usize) -> Then {
        match key {
            Key::Interrupt => return Then::Quit,
            Key::Redraw => return Then::Redraw,
            _ if self.help => {
                self.help = false;
                return if key == Key::Char('q') { Then::Quit } else { Then::Draw };
            }
            _ if self.typing => return self.type_filter(key),
            _ => {}
        }
        let at = self.place.selected;
        match key {
            Key::Char('q') => return Then::Quit,
            Key::Char('?' | 'h') => self.help = true,
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                return Then::Ask;
            }
            Key::Char('/') => self.typing = true,
            Key::Char(digit @ '1'..='7') => {
                let index = usize::from(digit as u8 - b'1');
                return self.go(View::ALL[index], self.service.clone());
            }
            Key::Tab => return self.turn(1),
            Key::BackTab => return self.turn(View::ALL.len() - 1),
            Key::Up | Key::Char('k') => self.select(at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(at + 1),
            Key::PageUp => self.select(at.saturating_sub(page)),
            Key::PageDown => self.select(at + page),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Left | Key::Right => {
                let (sort, columns) = (self.sort(), self.table.columns.len());
                let by = if key == Key::Right { 1 } else { columns - 1 };
                let column = (sort.column + by) % columns;
                // Figures are wanted with the largest first, names from the beginning.
                return self.sort_by(Sort { column, descending: column > 0 });
            }
            Key::Char('r') => {
                let sort = self.sort();
                return self.sort_by(Sort { descending: !sort.descending, ..sort });
            }
            Key::Enter => return self.open(),
            Key::Esc | Key::Backspace => return self.back(),
            _ => {}
        }
        Then::Draw
    }

    /// The destinations of the selected service.
    fn open(&mut self) -> Then {
        match self.view {
            View::Services | View::Schedulers => match self.selected().map(|row| row.key.clone()) {
                Some(service) => self.go(View::Destinations, Some(service)),
                None => Then::Draw,
            },
            _ => Then::Draw,
        }
    }

    /// Out of the filter, then out of the service, to where that is the selected one.
    fn back(&mut self) -> Then {
        if !self.filter.is_empty() {
            self.filter.clear();
            self.arrange();
            return Then::Draw;
        }
        let Some(service) = self.service.clone() else {
            return self.go(View::Services, None);
        };
        let then = self.go(View::Services, None);
        self.selected = Some(service);
        then
    }

    fn type_filter(&mut self, key: Key) -> Then {
        match key {
            Key::Enter => self.typing = false,
            Key::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(c) if !c.is_control() && self.filter.chars().count() < FILTER_MAX => {
                self.filter.push(c)
            }
            _ => {}
        }
        self.arrange();
        Then::Draw
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use uvs_control::sample::{Counters, Destination, Service};

    use super::*;

    /// So many services with three destinations each, of which the first has none that takes connections.
    pub(crate) fn sample(services: u32, uptime_s: f64) -> Answer {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of a test")]
        let seconds = uptime_s as u64;
        let counters = |each: u64| Counters {
            connections: each * seconds,
            packets_in: 10 * each * seconds,
            packets_out: 9 * each * seconds,
            bytes_in: 1000 * each * seconds,
            bytes_out: 100_000 * each * seconds,
        };
        let destination = |index: u32, number: u32| Destination {
            name: format!("192.168.{}.{number}:8080", index % 250),
            forwarding: "nat".into(),
            weight: u32::from(index > 0),
            active: 10 * number,
            counters: counters(u64::from(number)),
            ..Destination::default()
        };
        let service = |index: u32| Service {
            name: format!("tcp 10.0.{}.{}:80", index / 250, index % 250),
            scheduler: "wlc".into(),
            available: if index == 0 { 0 } else { 3 },
            destinations_total: 3,
            active: u64::from(index) * 60,
            inactive: u64::from(index),
            counters: counters(u64::from(index)),
            destinations: (1..=3).map(|number| destination(index, number)).collect(),
        };
        Answer {
            version: "0.1.0".into(),
            pid: 7,
            uptime_s,
            time: "2026-11-30T22:04:05.678Z".into(),
            config: "edge.toml".into(),
            total: counters(u64::from(services)),
            services: (0..services).map(service).collect(),
            ..Answer::default()
        }
    }

    fn fed(app: &mut App, services: u32) {
        for uptime in [10.0, 12.0] {
            app.take(app.request(), sample(services, uptime), Vec::new());
        }
    }

    fn keys(app: &App) -> Vec<&str> {
        app.table().rows.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn a_service_is_opened_and_left_again() {
        let mut app = App::default();
        fed(&mut app, 5);
        app.press(Key::Down, 10);
        app.press(Key::Down, 10);
        assert_eq!(app.press(Key::Enter, 10), Then::Ask);
        let want = Request {
            service: Some("tcp 10.0.0.2:80".into()),
            destinations: true,
            checks: true,
            ..Request::default()
        };
        assert_eq!(app.request(), want);
        assert!(app.table().rows.is_empty(), "what was answered before is of another view");
        let mut answer = sample(5, 14.0);
        answer.services = vec![answer.services[2].clone()];
        app.take(app.request(), answer, Vec::new());
        assert_eq!(app.table().rows.len(), 3);
        assert_eq!(app.press(Key::Esc, 10), Then::Ask);
        fed(&mut app, 5);
        assert_eq!((app.view, app.selected().unwrap().key.as_str()), (View::Services, "tcp 10.0.0.2:80"));
    }

    #[test]
    fn the_selection_stays_on_its_row() {
        let mut app = App::default();
        fed(&mut app, 20);
        app.press(Key::Char('j'), 10);
        app.press(Key::Right, 10);
        for _ in 0..4 {
            app.press(Key::Right, 10);
        }
        assert_eq!(app.sort(), Sort { column: 5, descending: true });
        assert_eq!(keys(&app)[0], "tcp 10.0.0.19:80", "the busiest is the first");
        assert_eq!(app.selected().unwrap().key, "tcp 10.0.0.1:80");
        app.press(Key::Char('r'), 10);
        assert_eq!((keys(&app)[0], app.place.selected), ("tcp 10.0.0.0:80", 1));
        app.press(Key::Char('G'), 10);
        app.fit(5);
        assert_eq!(app.place, Place { selected: 19, first: 15 });
        app.press(Key::PageUp, 5);
        app.fit(5);
        assert_eq!(app.place, Place { selected: 14, first: 14 });
        fed(&mut app, 3);
        app.fit(5);
        assert_eq!(app.place, Place { selected: 2, first: 0 }, "its row is gone");
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut app = App::default();
        fed(&mut app, 20);
        app.press(Key::Char('/'), 10);
        for c in "0.1q:".chars() {
            app.press(Key::Char(c), 10);
        }
        assert_eq!(app.filter, "0.1q:", "q is a letter like others meanwhile");
        app.press(Key::Backspace, 10);
        app.press(Key::Backspace, 10);
        app.press(Key::Enter, 10);
        assert_eq!((keys(&app).len(), app.typing), (11, false));
        app.press(Key::Esc, 10);
        assert_eq!((keys(&app).len(), app.filter.as_str()), (20, ""));
    }

    #[test]
    fn what_is_paused_stays_and_goes_on() {
        let mut app = App::default();
        fed(&mut app, 5);
        app.press(Key::Char('p'), 10);
        app.take(app.request(), sample(9, 14.0), Vec::new());
        assert_eq!(keys(&app).len(), 5);
        app.press(Key::Char('p'), 10);
        app.take(app.request(), sample(9, 16.0), Vec::new());
        assert_eq!(keys(&app).len(), 9);
        assert_eq!(app.press(Key::Interrupt, 10), Then::Quit);
    }

    /// A view that nothing was asked of yet has to be shown although the screen stands still.
    #[test]
    fn another_view_is_shown_while_it_is_paused() {
        let mut app = App::default();
        fed(&mut app, 5);
        app.press(Key::Char('p'), 10);
        assert_eq!(app.press(Key::Char('2'), 10), Then::Ask);
        app.take(app.request(), sample(5, 14.0), Vec::new());
        assert_eq!(keys(&app).len(), 15);
    }

    #[test]
    fn every_view_is_reached_and_asks_for_what_it_shows() {
        let mut app = App::default();
        for (digit, view) in "1234567".chars().zip(View::ALL) {
            app.press(Key::Char(digit), 10);
            assert_eq!(app.view, view);
            let request = app.request();
            assert_eq!(request.destinations, view == View::Destinations);
            assert_eq!(request.checks, view == View::Checks);
            assert_eq!(request.schedulers, view == View::Schedulers);
        }
        app.press(Key::Tab, 10);
        assert_eq!(app.view, View::Services);
        app.press(Key::BackTab, 10);
        assert_eq!(app.view, View::Events);
    }

    #[test]
    fn rates_begin_anew_with_another_director() {
        let mut app = App::default();
        fed(&mut app, 5);
        assert!(app.pair().is_some());
        app.lose("no director answers at /run/uvs.sock".into());
        assert_eq!(keys(&app).len(), 5, "what was known stays on the screen");
        app.take(app.request(), Answer { pid: 8, ..sample(5, 1.0) }, Vec::new());
        assert!(app.pair().is_none() && app.link == Link::Up);
    }

    #[test]
    fn ten_thousand_destinations_are_listed() {
        let mut app = App::default();
        app.press(Key::Char('2'), 10);
        fed(&mut app, 3400);
        assert_eq!(app.table().rows.len(), 10_200);
    }
}
