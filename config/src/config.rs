//! From a file to a [`Config`] that is parsed and valid.

use core::net::IpAddr;
use std::path::Path;

use toml::de::DeTable;
use uvs_director::spec::{Change, InterfaceSpec, ServiceKey};

use crate::model::Config;
use crate::problem::{Location, Problem, Problems};
use crate::read::{Doc, ROOT, Table};
use crate::{
    check, control, diff, file, local, marks, modules, network, scheduler, service, settings, workers,
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

    fn decode(bytes: std::io::Result<Vec<u8>>, path: &Path) -> Result<Self, Problems> {
        let bytes = bytes.map_err(|error| {
            let fix = "give the path of a readable config file (examples: config/examples)";
            Problem::of_file(path, format!("the config cannot be read: {error}"), fix)
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
            let at = Location { line, ..Location::default() };
            Problem::new(path, &at, "the config is not UTF-8 text", "save the file as UTF-8")
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file. `path` is its name in messages, and its folder is where relative paths in it
    /// start.
    ///
    /// # Errors
    /// All problems at once; a TOML syntax error comes alone.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self, Problems> {
        let path = path.as_ref();
        let doc = Doc::new(path, text);
        let tree = DeTable::parse(text).map_err(|error| {
            let at = doc.location(error.span().map_or(0, |span| span.start.min(text.len())), "");
            let fix = "correct the syntax here: key = value, text in quotes, tables as [name] or [[name]]";
            Problem::new(path, &at, format!("this is not TOML: {}", error.message()), fix)
                .with_column(at.column)
        })?;
        let root = Table::root(&doc, tree.get_ref(), ROOT);
        let metrics = settings::metrics(&root);
        let control = control::control(&root);
        let settings::Bounds { limits, flows, unset } = settings::limits(&root);
        let timeouts = settings::timeouts(&root);
        let options = settings::options(&root);
        let workers = workers::workers(&root);
        let flow_pin = settings::flow_pin(&root);
        let host_record = settings::host_record(&root);
        let local = local::local(&root);
        let modules = modules::modules(&root);
        let mut network = network::Network::read(&root, options.compat_ipvs);
        let neighbors = network.neighbors(&root, limits);
        let marks = marks::marks(&root, &network);
        let schedulers = scheduler::schedulers(&root);
        let checks = check::checks(&root);
        let services = service::services(&root, &network, &schedulers, &checks);
        check::warn_of_unused(&doc, &checks, &services);
        local::warn_of_taken(&doc, &network, &services, &checks);
        marks::check(&doc, &marks, &services);
        network.own_vips(services.iter().filter_map(|service| vip(service.spec.key)));
        let warnings = doc.finish()?;
        let network::Network { interfaces, routes, .. } = network;
        let file = path.to_owned();
        Ok(Self {
            file,
            metrics,
            control,
            limits,
            flows,
            unset,
            flow_pin,
            host_record,
            local,
            timeouts,
            options,
            workers,
            modules,
            interfaces,
            routes,
            neighbors,
            schedulers,
            marks: marks.into_iter().map(|rule| rule.value).collect(),
            checks,
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
    /// file and the VIPs that lie in their subnets.
    pub fn interfaces_for(&self, services: impl IntoIterator<Item = ServiceKey>) -> Vec<InterfaceSpec> {
        let mut interfaces: Vec<InterfaceSpec> = self
            .interfaces
            .iter()
            .map(|interface| InterfaceSpec { addresses: interface.own.clone(), ..interface.spec.clone() })
            .collect();
        network::own_vips(&mut interfaces, services.into_iter().filter_map(vip));
        interfaces
    }

    /// An error at a place in this config, for checks that are made elsewhere.
    pub fn problem(&self, at: &Location, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem::new(&self.file, at, what, fix)
    }
}

fn vip(service: ServiceKey) -> Option<IpAddr> {
    match service {
        ServiceKey::Address { addr, .. } => Some(addr.ip()),
        ServiceKey::Mark { .. } => None,
    }
}
