//! The structures of compiled programs, as their type information has them (BTF, Documentation/bpf/btf.rst of Linux):
//! for tests that hold the bytes which are written here against the bytes which the programs read.

use std::collections::BTreeMap;

/// A structure's size, and where its members begin.
type Layout = (usize, Vec<(String, usize)>);

/// All structures of an object.
pub(crate) struct Structs(BTreeMap<String, Layout>);

/// Numbers of an object, which is of the machine's byte order.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&self, at: usize, len: usize) -> usize {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.0[at..at + len]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    }

    fn word(&self, at: usize) -> usize {
        self.number(at, 4)
    }

    fn text(&self, at: usize) -> String {
        let bytes: Vec<u8> = self.0[at..].iter().copied().take_while(|byte| *byte != 0).collect();
        String::from_utf8(bytes).unwrap()
    }
}

/// The contents of a section of a 64-bit ELF file.
fn section<'a>(object: &'a [u8], name: &str) -> &'a [u8] {
    let file = Reader(object);
    let (headers, len) = (file.number(40, 8), file.number(58, 2));
    let header = |number: usize| headers + number * len;
    let contents = |at: usize| file.number(at + 24, 8)..file.number(at + 24, 8) + file.number(at + 32, 8);
    let names = contents(header(file.number(62, 2))).start;
    let count = file.number(60, 2);
    let found = (0..count).map(header).find(|at| file.text(names + file.word(*at)) == name);
    &object[contents(found.expect("the object has such a section"))]
}

impl Structs {
    /// Those of a compiled object.
    pub(crate) fn of(object: &[u8]) -> Self {
        let btf = Reader(section(object, ".BTF"));
        assert_eq!(btf.number(0, 2), 0xeb9f, "the magic number of BTF, little endian");
        let start = btf.word(4);
        let (mut at, texts) = (start + btf.word(8), start + btf.word(16));
        let end = at + btf.word(12);
        let mut found = BTreeMap::new();
        while at < end {
            let (name, info, size) = (btf.text(texts + btf.word(at)), btf.word(at + 4), btf.word(at + 8));
            let (kind, count) = (info >> 24 & 0x1f, info & 0xffff);
            at += 12;
            // Structures; their members have offsets in bits.
            if kind == 4 {
                let member = |n: usize| {
                    let at = at + 12 * n;
                    (btf.text(texts + btf.word(at)), btf.word(at + 8) / 8)
                };
                found.insert(name, (size, (0..count).map(member).collect()));
            }
            at += match kind {
                // An integer, a variable, a tag; an array; structures, unions, sections, long enumerations;
                // enumerations and the parameters of functions.
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
        }
        Self(found)
    }

    fn layout(&self, name: &str) -> &Layout {
        self.0.get(name).unwrap_or_else(|| panic!("the programs have no struct {name}"))
    }

    /// How many bytes a structure has.
    pub(crate) fn size(&self, name: &str) -> usize {
        self.layout(name).0
    }

    /// Where a member begins.
    pub(crate) fn offset(&self, name: &str, member: &str) -> usize {
        let (_, members) = self.layout(name);
        let found = members.iter().find(|(it, _)| it == member);
        found.unwrap_or_else(|| panic!("struct {name} has no member {member}")).1
    }

    /// Holds bytes against a structure: its size, and each of its members by name, all of them.
    pub(crate) fn check<'a>(
        &self,
        name: &str,
        bytes: &[u8],
        want: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
    ) {
        let want: Vec<_> = want.into_iter().collect();
        let (size, members) = self.layout(name);
        assert_eq!(bytes.len(), *size, "struct {name}");
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        let known: Vec<&str> = want.iter().map(|(name, _)| *name).collect();
        assert_eq!(known, names, "struct {name}");
        for (member, value) in &want {
            let at = self.offset(name, member);
            assert_eq!(bytes[at..at + value.len()], value[..], "struct {name}, member {member}");
        }
    }
}
