//! From a file to a [`Config`] that is parsed and valid.

use core::net::IpAddr;
use std::path::Path;

use uvs_director::spec::{Change, InterfaceSpec, ServiceKey};

use crate::include::{self, Included, Said, Sources};
use crate::model::Config;
use crate::problem::{Location, Problem, Problems};
use crate::read::{Doc, ROOT, Table};
use crate::{
    announce, check, control, diff, file, http, local, marks, modules, network, notify, scheduler, sense,
    service, settings, vrrp, workers,
};

impl Config {
    /// Reads and checks a file, or what comes out of a pipe; at most 16 MiB. Relative paths in it are relative to its
    /// folder. A pipe is read to its end, so this may wait as long as who writes to it likes.
    ///
    /// # Errors
    /// All problems at once; a TOML syntax error and an unreadable file come alone.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Problems> {
        let path = path.as_ref();
        Self::decode(file::read_file_or_pipe(path, file::CONFIG_MAX), path)
    }

    /// The same for a regular file and nothing else: never waits for another process. For a director that runs.
    ///
    /// # Errors
    /// As [`Config::load`]; a FIFO or a device is an unreadable file.
    pub fn load_regular(path: impl AsRef<Path>) -> Result<Self, Problems> {
        let path = path.as_ref();
        Self::decode(file::read_regular(path, file::CONFIG_MAX), path)
    }

    /// The same for what comes on standard input, read to its end. Relative paths in it are relative to the current
    /// folder.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_standard_input() -> Result<Self, Problems> {
        Self::decode(file::read_standard_input(file::CONFIG_MAX), Path::new("standard input"))
    }

    fn decode(bytes: std::io::Result<Vec<u8>>, path: &Path) -> Result<Self, Problems> {
        let bytes = bytes.map_err(|error| {
            let fix = match error.kind() {
                std::io::ErrorKind::FileTooLarge => {
                    "is it the right file? That is more than any config needs"
                }
                _ => "give the path of a readable config file (examples: config/examples)",
            };
            Problem::of_file(path, format!("the config cannot be read: {error}"), fix)
        })?;
        Self::parse(&include::text(bytes, path)?, path)
    }

    /// Checks the text of a file, and the files that it includes. `path` is its name in messages, and its folder is
    /// where relative paths in it start.
    ///
    /// # Errors
    /// All problems at once; those of TOML syntax and files that cannot be included come alone.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self, Problems> {
        let path = path.as_ref();
        let sources = Sources::new();
        let Included { tree, conflicts, warnings } = sources.read(text, path)?;
        let doc = Doc::new(&sources);
        for Said { at, what, fix } in conflicts {
            doc.error(&at, what, fix);
        }
        for Said { at, what, fix } in warnings {
            doc.warn(&at, what, fix);
        }
        let root = Table::root(&doc, &tree, ROOT);
        let (metrics, metrics_destinations) = settings::metrics(&root);
        let control = control::control(&root);
        let http = http::http(&root, &doc, &control);
        let settings::Bounds { limits, flows, unset } = settings::limits(&root);
        let (timeouts, drain) = settings::timeouts(&root);
        let options = settings::options(&root);
        let workers = workers::workers(&root);
        let flow_pin = settings::flow_pin(&root);
        let host_record = settings::host_record(&root);
        let kept_connections = settings::kept_connections(&root);
        let local = local::local(&root);
        let modules = modules::modules(&root);
        let mut network = network::Network::read(&root, options.compat_ipvs);
        let neighbors = network.neighbors(&root, limits);
        let marks = marks::marks(&root, &network);
        let schedulers = scheduler::schedulers(&root);
        let checks = check::checks(&root);
        let (routers, scripts) = (vrrp_tables(&root), vrrp_scripts(&root));
        let drafts = vrrp::read(&routers, &scripts, &network);
        network.virtual_addresses.clone_from(&drafts.addresses);
        let services = service::services(&root, &network, &schedulers, &checks, drain);
        check::warn_of_unused(&doc, &checks, &services);
        let notify = notify::notify(&root, &services);
        let announce = announce::announce(&root, &network, &services);
        local::warn_of_taken(&doc, &network, &services, &checks);
        marks::check(&doc, &marks, &services);
        if metrics.is_some() || http.listen.is_some() || http.socket.is_some() {
            settings::warn_of_many(&doc, metrics_destinations, &services);
        }
        sense::warn(&doc, &network.interfaces, &network.routes, &services);
        let vrrp = drafts.finish(&doc, &network, &services);
        network.own_vips(services.iter().filter_map(|service| vip(service.spec.key)), &vrrp.addresses);
        let warnings = doc.finish()?;
        let network::Network { interfaces, routes, .. } = network;
        let file = path.to_owned();
        Ok(Self {
            file,
            files: sources.paths(),
            texts: sources.texts(),
            metrics,
            metrics_destinations: metrics_destinations.unwrap_or(settings::METRICS_DESTINATIONS),
            http,
            control,
            limits,
            flows,
            unset,
            flow_pin,
            host_record,
            kept_connections,
            local,
            timeouts,
            drain,
            options,
            workers,
            modules,
            interfaces,
            routes,
            neighbors,
            schedulers,
            marks: marks.into_iter().map(|rule| rule.value).collect(),
            checks,
            notify,
            announce,
            vrrp,
            services,
            warnings,
        })
    }

    /// The changes that turn a director that runs `old` (`None`: a new one) into one that runs `new`. See the
    /// [module's promises](crate#the-diff).
    pub fn diff(old: Option<&Self>, new: &Self) -> Vec<Change> {
        diff::diff(old, new)
    }

    /// The interfaces as the engine has to have them while exactly these services are there: with the addresses of the
    /// file, the VIPs that lie in their subnets, and the virtual addresses of VRRP.
    pub fn interfaces_for(&self, services: impl IntoIterator<Item = ServiceKey>) -> Vec<InterfaceSpec> {
        let mut interfaces: Vec<InterfaceSpec> = self
            .interfaces
            .iter()
            .map(|interface| InterfaceSpec { addresses: interface.own.clone(), ..interface.spec.clone() })
            .collect();
        network::own_vips(&mut interfaces, services.into_iter().filter_map(vip), &self.vrrp.addresses);
        interfaces
    }

    /// An error at a place in this config, for checks that are made elsewhere.
    pub fn problem(&self, at: &Location, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem::new(self.files.get(at.source).unwrap_or(&self.file), at, what, fix)
    }
}

fn vrrp_tables<'a>(root: &Table<'a>) -> Vec<Table<'a>> {
    root.tables("vrrp", vrrp::VRRP, |entries| Table::peek(entries, "name").map(str::to_owned))
}

fn vrrp_scripts<'a>(root: &Table<'a>) -> Vec<Table<'a>> {
    root.tables("vrrp_script", vrrp::SCRIPT, |entries| Table::peek(entries, "name").map(str::to_owned))
}

fn vip(service: ServiceKey) -> Option<IpAddr> {
    match service {
        ServiceKey::Address { addr, .. } => Some(addr.ip()),
        ServiceKey::Mark { .. } => None,
    }
}
