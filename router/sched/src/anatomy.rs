//! What is in a module's file, read without running or compiling it.

use wasmparser::{CustomSectionReader, Encoding, KnownCustom, Parser, Payload, TypeRef};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, Type, TypeDefKind, WorldItem, WorldKey};

/// The parts of a module that matter to its author.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Anatomy {
    /// `component`, `core module` or `no WebAssembly`.
    pub(crate) kind: &'static str,
    pub(crate) imports: Vec<Item>,
    pub(crate) exports: Vec<Item>,
    /// Pages of 64 KiB that its memories start with.
    pub(crate) memory_pages: u64,
    /// Pages that its memories may grow to by its own declaration; `None`: without bound.
    pub(crate) memory_pages_max: Option<u64>,
    /// Elements that its tables start with.
    pub(crate) table_elements: u64,
    /// What made it, from the `producers` sections: `Rust 1.96.0`.
    pub(crate) producers: Vec<String>,
    /// Whether functions have names, so that a trap can tell where it was.
    pub(crate) names: bool,
}

/// An import or export.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// Its type in WIT, where it could be told.
    pub(crate) signature: String,
}

impl Anatomy {
    /// As much as can be read of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut anatomy = Self { kind: "no WebAssembly", memory_pages_max: Some(0), ..Self::default() };
        let mut depth = 0u32;
        for payload in Parser::new(0).parse_all(bytes) {
            // What is broken ends the tour; the engine says what is wrong with it.
            let Ok(payload) = payload else { break };
            match payload {
                Payload::Version { encoding, .. } if depth == 0 && anatomy.kind == "no WebAssembly" => {
                    anatomy.kind = match encoding {
                        Encoding::Component => "component",
                        Encoding::Module => "core module",
                    };
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    anatomy
                        .imports
                        .extend(section.into_iter().flatten().map(|import| Item::named(import.name.name)));
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    anatomy
                        .exports
                        .extend(section.into_iter().flatten().map(|export| Item::named(export.name.name)));
                }
                Payload::ImportSection(section) if anatomy.kind == "core module" => {
                    for import in section.into_imports().flatten() {
                        let kind = core_kind(&import.ty);
                        anatomy.imports.push(Item {
                            name: format!("{}.{}", import.module, import.name),
                            signature: kind,
                        });
                    }
                }
                Payload::ExportSection(section) if anatomy.kind == "core module" => {
                    for export in section.into_iter().flatten() {
                        let signature = format!("core {:?}", export.kind).to_lowercase();
                        anatomy.exports.push(Item { name: export.name.to_owned(), signature });
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section.into_iter().flatten() {
                        anatomy.memory_pages += memory.initial;
                        anatomy.memory_pages_max =
                            anatomy.memory_pages_max.zip(memory.maximum).map(|(a, b)| a + b);
                    }
                }
                Payload::TableSection(section) => {
                    anatomy.table_elements +=
                        section.into_iter().flatten().map(|table| table.ty.initial).sum::<u64>();
                }
                Payload::CustomSection(section) => anatomy.custom(&section),
                _ => {}
            }
        }
        anatomy.sign(bytes);
        anatomy
    }

    fn custom(&mut self, section: &CustomSectionReader<'_>) {
        match section.as_known() {
            KnownCustom::Producers(fields) => {
                for value in fields.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten())
                {
                    let producer = format!("{} {}", value.name, value.version).trim().to_owned();
                    if !self.producers.contains(&producer) {
                        self.producers.push(producer);
                    }
                }
            }
            KnownCustom::Name(_) => self.names = true,
            _ => {}
        }
    }

    /// Adds the types that WIT has for imports and exports.
    fn sign(&mut self, bytes: &[u8]) {
        if self.kind != "component" {
            return;
        }
        let Ok(DecodedWasm::Component(resolve, world)) = wit_component::decode(bytes) else { return };
        let world = &resolve.worlds[world];
        for (items, list) in [(&world.imports, &mut self.imports), (&world.exports, &mut self.exports)] {
            for (key, item) in items {
                let name = match key {
                    WorldKey::Name(name) => name.clone(),
                    WorldKey::Interface(_) => resolve.name_world_key(key),
                };
                if let Some(found) = list.iter_mut().find(|found| found.name == name) {
                    found.signature = signature(&resolve, item);
                }
            }
        }
    }
}

impl Item {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), signature: String::new() }
    }
}

fn core_kind(ty: &TypeRef) -> String {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "core func",
        TypeRef::Table(_) => "core table",
        TypeRef::Memory(_) => "core memory",
        TypeRef::Global(_) => "core global",
        TypeRef::Tag(_) => "core tag",
    }
    .to_owned()
}

fn signature(resolve: &Resolve, item: &WorldItem) -> String {
    match item {
        WorldItem::Interface { .. } => "interface".to_owned(),
        WorldItem::Type { .. } => "type".to_owned(),
        WorldItem::Function(function) => {
            let params: Vec<_> = function
                .params
                .iter()
                .map(|param| format!("{}: {}", param.name, type_name(resolve, &param.ty)))
                .collect();
            let result = function.result.as_ref().map(|ty| format!(" -> {}", type_name(resolve, ty)));
            format!("func({}){}", params.join(", "), result.unwrap_or_default())
        }
    }
}

/// A type as WIT writes it.
fn type_name(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else {
        return match ty {
            Type::ErrorContext => "error-context".to_owned(),
            plain => format!("{plain:?}").to_lowercase(),
        };
    };
    let def = &resolve.types[*id];
    if let Some(name) = &def.name {
        return name.clone();
    }
    let of = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| type_name(resolve, ty));
    match &def.kind {
        TypeDefKind::List(ty) => format!("list<{}>", type_name(resolve, ty)),
        TypeDefKind::Option(ty) => format!("option<{}>", type_name(resolve, ty)),
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (None, None) => "result".to_owned(),
            (ok, None) => format!("result<{}>", of(ok)),
            (ok, err) => format!("result<{}, {}>", of(ok), of(err)),
        },
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<_> = tuple.types.iter().map(|ty| type_name(resolve, ty)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        TypeDefKind::Type(ty) => type_name(resolve, ty),
        other => other.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipped_component_has_the_five_exports_with_their_types() {
        let (_, bytes) = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == "rr").unwrap();
        let anatomy = Anatomy::of(bytes);
        assert_eq!(anatomy.kind, "component");
        let signature = |name: &str| {
            anatomy.exports.iter().find(|export| export.name == name).map(|export| export.signature.as_str())
        };
        assert_eq!(signature("init"), Some("func(service: string, options: string) -> result<_, string>"));
        assert_eq!(signature("schedule"), Some("func(flow: flow, changed: list<u64>) -> option<u32>"));
        assert_eq!(signature("update"), Some("func(destinations: list<destination>)"));
        assert_eq!(anatomy.exports.len(), 5);
        assert!(anatomy.memory_pages > 0);
    }

    #[test]
    fn whatever_the_bytes_are_it_comes_back() {
        let core = wat::parse_str(
            r#"(module (import "env" "f" (func)) (memory (export "m") 2 4) (table 7 funcref))"#,
        );
        let anatomy = Anatomy::of(&core.unwrap());
        assert_eq!(anatomy.kind, "core module");
        assert_eq!((anatomy.memory_pages, anatomy.memory_pages_max, anatomy.table_elements), (2, Some(4), 7));
        assert_eq!(anatomy.imports, [Item { name: "env.f".into(), signature: "core func".into() }]);
        assert_eq!(anatomy.exports, [Item { name: "m".into(), signature: "core memory".into() }]);

        let (_, rr) = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == "rr").unwrap();
        for cut in [0, 3, 8, 100, rr.len() / 2, rr.len() - 1] {
            Anatomy::of(&rr[..cut]);
        }
        assert_eq!(Anatomy::of(b"garbage").kind, "no WebAssembly");
    }
}
