//! Scripts of keepalived, as programs that are told what happens.

use core::net::SocketAddr;
use std::collections::HashMap;

use uvs_director::spec::ServiceKey;

use crate::model::{Real, RunAs, Script, Virtual};
use crate::output::Notify;
use crate::remark::{At, Remarks};
use crate::words::shell_words;

/// What is run, and as whom.
type Program = (Vec<String>, Option<RunAs>);

/// What makes two scripts one: what is run, at which events, and of which destinations.
type Likeness = (Program, Vec<&'static str>, Vec<SocketAddr>);

/// What makes those of several real servers one, too: what is run, at which events, of which services, and whether of
/// all real servers.
type Alike = (Program, Vec<&'static str>, Vec<ServiceKey>, bool);

/// Scripts so far, each once.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    all: Vec<(String, Likeness, Vec<ServiceKey>)>,
    by_likeness: HashMap<Likeness, usize>,
}

/// Whom a program is run as: `USER [[:]GROUP]`. A colon has it keep further groups of the user.
pub(crate) fn run_as(
    mut words: impl Iterator<Item = String>,
    at: &At,
    remarks: &mut Remarks,
) -> Option<RunAs> {
    let user = words.next()?;
    let group: String = words.collect();
    let name = group.trim_start_matches(':');
    if name.len() < group.len() {
        let text = format!("user {user} {group}: the program has no further groups of that user");
        remarks.different(at, text);
    }
    Some(RunAs { user, group: Some(name.to_owned()).filter(|name| !name.is_empty()) })
}

/// Says that scripts of a virtual server without checks have nothing to tell.
pub(crate) fn never_run(server: &Virtual, remarks: &mut Remarks) {
    for Script { at, keyword, command, .. } in
        server.scripts.iter().chain(server.reals.iter().flat_map(|real| &real.scripts))
    {
        let text =
            format!("{keyword} {command}: its virtual server has no check, so that nothing ever changes");
        remarks.left_out(at, text);
    }
}

impl Scripts {
    /// Those of the quorum.
    pub(crate) fn of_server(&mut self, server: &Virtual, key: ServiceKey, remarks: &mut Remarks) {
        for script in &server.scripts {
            self.add(script, Vec::new(), (key, server.omega), remarks);
        }
    }

    /// Those of a real server. `omega` is whether they run at the end, too.
    pub(crate) fn of_real(
        &mut self,
        real: &Real,
        destination: SocketAddr,
        (key, omega): (ServiceKey, bool),
        remarks: &mut Remarks,
    ) {
        for script in &real.scripts {
            self.add(script, vec![destination], (key, omega), remarks);
        }
    }

    fn add(
        &mut self,
        Script { at, keyword, command, user }: &Script,
        destinations: Vec<SocketAddr>,
        (key, omega): (ServiceKey, bool),
        remarks: &mut Remarks,
    ) {
        let mut words = shell_words(command);
        if words.is_empty() {
            remarks.source(at, format!("{keyword} names no program: nothing is run"));
            return;
        }
        if words.iter().any(|word| word.contains('{')) {
            remarks.left_out(at, format!("{keyword} {command}: {{ begins a placeholder in a command here"));
            return;
        }
        if !words[0].starts_with('/') {
            let text = format!("{keyword} {command}: /usr/bin/env looks for it, as keepalived did in PATH");
            remarks.different(at, text);
            words.insert(0, "/usr/bin/env".to_owned());
        }
        let (name, event) = match keyword.as_str() {
            "quorum_up" => ("quorum-up", "quorum_up"),
            "quorum_down" => ("quorum-down", "quorum_down"),
            "notify_up" => ("notify-up", "destination_up"),
            _ => ("notify-down", "destination_down"),
        };
        let events = if omega && event.ends_with("_down") { vec![event, "stopping"] } else { vec![event] };
        let likeness = ((words, user.clone()), events, destinations);
        let all = &mut self.all;
        let index = *self.by_likeness.entry(likeness.clone()).or_insert_with(|| {
            all.push((name.to_owned(), likeness, Vec::new()));
            all.len() - 1
        });
        if let Some((.., services)) = self.all.get_mut(index)
            // They come service by service.
            && services.last() != Some(&key)
        {
            services.push(key);
        }
    }

    /// With a name for each.
    pub(crate) fn into_notify(self) -> Vec<Notify> {
        let mut of_name: HashMap<String, usize> = HashMap::new();
        let mut named = |name: String| {
            let count = of_name.entry(name.clone()).or_default();
            *count += 1;
            if *count == 1 { name } else { format!("{name}-{count}") }
        };
        // What differs in nothing but the real server is one.
        let mut all: Vec<Notify> = Vec::new();
        let mut alike: HashMap<Alike, usize> = HashMap::new();
        for (name, (program, events, destinations), services) in self.all {
            let key = (program.clone(), events.clone(), services.clone(), destinations.is_empty());
            match alike.get(&key).and_then(|index| all.get_mut(*index)) {
                Some(known) => known.destinations.extend(destinations),
                None => {
                    alike.insert(key, all.len());
                    let (name, (command, user)) = (named(name), program);
                    all.push(Notify { name, command, user, events, services, destinations });
                }
            }
        }
        all
    }
}
