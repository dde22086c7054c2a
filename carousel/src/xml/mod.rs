//! One strict, bounded XML reader and writer for every signalling document (MABR, NIP, DVB-I, S-TSID).
//!
//! Documents are read into a tree of [`Element`]s and matched by local name: broadcasters use several editions of
//! each namespace and any prefix (TS 103 769 clause 10; both NIP captures). What a document room does not know it
//! keeps as an `Element` and can write again. FDT Instances have a leaner reader of their own (`flute::fdt`), since
//! they come many times a second. Entities other than the five of XML itself, DTDs and anything past the limits of
//! [`mod@crate::limits`] are refused.

use std::fmt;
use std::fmt::Write as _;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use crate::limits::{
    MAX_LONG_XML_BYTES, MAX_XML_BYTES, MAX_XML_DEPTH, MAX_XML_TREE_ANY_BYTES, MAX_XML_TREE_BYTES,
    MAX_XML_TREE_RATIO,
};

/// The namespace of `xml:lang`, whose prefix needs no declaration.
pub const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the variants name their fields
pub enum XmlError {
    /// Larger than a limit of this library; the text names it.
    TooLarge(&'static str),
    /// Not well-formed, or not UTF-8; `offset` is in bytes.
    Malformed { offset: u64, why: String },
    /// Well-formed, but the root or a required part is not what was asked for.
    Missing { what: &'static str, within: String },
    /// A value cannot be read as what it should be.
    BadValue { what: &'static str, value: String },
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(what) => write!(f, "XML refused: {what}"),
            Self::Malformed { offset, why } => write!(f, "XML malformed at byte {offset}: {why}"),
            Self::Missing { what, within } => write!(f, "{what} is missing in {within}"),
            Self::BadValue { what, value } => write!(f, "{what}: cannot read {value:?}"),
        }
    }
}

impl std::error::Error for XmlError {}

/// One element: local name, namespace, attributes by local name, children, and the text directly inside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Local name, without prefix.
    pub name: String,
    /// Namespace URI; empty if none.
    pub namespace: String,
    /// Attributes in document order; namespace declarations are left out.
    pub attributes: Vec<Attribute>,
    /// Child elements in document order.
    pub children: Vec<Self>,
    /// Character data directly inside, entities resolved, joined, trimmed.
    pub text: String,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attribute {
    /// Local name.
    pub name: String,
    /// Namespace URI; empty for the usual unprefixed attribute.
    pub namespace: String,
    /// Value with entities resolved.
    pub value: String,
}

impl Attribute {
    /// Approximate memory.
    const fn own_bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.namespace.len() + self.value.len()
    }
}

impl Element {
    /// A new element of `namespace` without content.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { name: name.to_owned(), namespace: namespace.to_owned(), ..Self::default() }
    }

    /// Adds an unprefixed attribute.
    #[must_use]
    pub fn attr(self, name: &str, value: impl Into<String>) -> Self {
        self.attr_ns("", name, value)
    }

    /// Adds an attribute of `namespace`.
    #[must_use]
    pub fn attr_ns(mut self, namespace: &str, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push(Attribute {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            value: value.into(),
        });
        self
    }

    /// Adds an attribute if there is a value.
    #[must_use]
    pub fn attr_opt(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Adds a child.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children.
    #[must_use]
    pub fn extend(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// Adds a child of the same namespace that holds only text.
    #[must_use]
    pub fn text_child(self, name: &str, text: impl Into<String>) -> Self {
        let mut child = Self::new(&self.namespace, name);
        child.text = text.into();
        self.child(child)
    }

    /// Sets the text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Approximate memory of the element with its names and attributes, without text and children.
    fn own_bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(Attribute::own_bytes).sum();
        size_of::<Self>() + self.name.len() + self.namespace.len() + attributes
    }

    /// The first attribute of that local name, in any namespace.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name == name)
            .map(|attribute| attribute.value.as_str())
    }

    /// The first child of that local name.
    pub fn find(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that local name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Text of the first child of that name, if it has any.
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.find(name).map(|child| child.text.as_str()).filter(|text| !text.is_empty())
    }

    /// Text of a required child.
    ///
    /// # Errors
    /// `Missing` if it is not there or empty.
    pub fn need(&self, name: &'static str) -> Result<&str, XmlError> {
        self.child_text(name).ok_or_else(|| XmlError::Missing { what: name, within: self.name.clone() })
    }

    /// A required attribute.
    ///
    /// # Errors
    /// `Missing` if it is not there.
    pub fn need_attribute(&self, name: &'static str) -> Result<&str, XmlError> {
        self.attribute(name).ok_or_else(|| XmlError::Missing { what: name, within: self.name.clone() })
    }
}

/// Reads a value with `FromStr`.
///
/// # Errors
/// `BadValue` names what could not be read.
pub fn value<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, XmlError> {
    text.trim().parse().map_err(|_| XmlError::BadValue { what, value: text.chars().take(80).collect() })
}

/// Reads a document and returns its root.
///
/// # Errors
/// `TooLarge` or `Malformed`; a document type declaration counts as malformed.
pub fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    if bytes.len() > MAX_XML_BYTES {
        return Err(XmlError::TooLarge("document larger than 8 MiB"));
    }
    read(bytes, &mut |_, element| Some(element))
}

/// Reads a long document without holding it: elements `depth` levels below the root (1: the root's children) go to
/// `visit` one by one, with those they stand in, outermost first, which have their attributes and the text before. What is
/// returned is the root without them. [`MAX_XML_TREE_BYTES`] counts for each of them.
///
/// # Errors
/// As [`parse`]. What was visited before a malformed place has been visited.
pub fn parse_each(
    bytes: &[u8],
    depth: usize,
    mut visit: impl FnMut(&[Element], Element),
) -> Result<Element, XmlError> {
    parse_taking(bytes, |within, element| {
        if within.len() == depth {
            visit(within, element);
            None
        } else {
            Some(element)
        }
    })
}

/// [`parse_each`] where what is wanted stands at several depths: every element that has ended is offered with those it
/// stands in, and is held only if it is given back.
///
/// # Errors
/// As [`parse_each`].
pub fn parse_taking(
    bytes: &[u8],
    mut take: impl FnMut(&[Element], Element) -> Option<Element>,
) -> Result<Element, XmlError> {
    if bytes.len() > MAX_LONG_XML_BYTES {
        return Err(XmlError::TooLarge("document larger than 64 MiB"));
    }
    read(bytes, &mut take)
}

/// Treatment of an element that has ended inside others: `None` if it has been dealt with.
type Keep<'a> = dyn FnMut(&[Element], Element) -> Option<Element> + 'a;

fn read(bytes: &[u8], keep: &mut Keep<'_>) -> Result<Element, XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|err| XmlError::Malformed {
        offset: err.valid_up_to() as u64,
        why: "not UTF-8".to_owned(),
    })?;
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    let by_length = bytes.len().saturating_mul(MAX_XML_TREE_RATIO).max(MAX_XML_TREE_ANY_BYTES);
    let most_bytes = by_length.min(MAX_XML_TREE_BYTES);
    let mut tree = Tree::default();
    loop {
        let malformed = |offset, why: &dyn fmt::Display| XmlError::Malformed { offset, why: why.to_string() };
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|err| malformed(at, &err))?;
        let (empty, start) = match event {
            Event::Start(start) => (false, start),
            Event::Empty(start) => (true, start),
            Event::End(_) => {
                tree.close(keep).ok_or_else(|| malformed(at, &"end tag without a start"))?;
                continue;
            }
            Event::Text(text) => {
                append_text(&mut tree.open, &text.xml10_content()).map_err(|why| malformed(at, &why))?;
                continue;
            }
            Event::CData(data) => {
                append_text(&mut tree.open, &data.xml10_content()).map_err(|why| malformed(at, &why))?;
                continue;
            }
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref() {
                    Ok(Some(c)) => c.to_string(),
                    Ok(None) => quick_xml::escape::resolve_predefined_entity(&reference)
                        .ok_or_else(|| malformed(at, &format!("unknown entity &{};", &*reference)))?
                        .to_owned(),
                    Err(err) => return Err(malformed(at, &err)),
                };
                append_text(&mut tree.open, &resolved).map_err(|why| malformed(at, &why))?;
                continue;
            }
            Event::DocType(_) => return Err(malformed(at, &"document type declarations are refused")),
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => continue,
        };
        if tree.bytes > most_bytes {
            return Err(TREE_TOO_LARGE);
        }
        if tree.open.len() >= MAX_XML_DEPTH {
            return Err(XmlError::TooLarge("elements nested more than 64 deep"));
        }
        if tree.open.is_empty() && tree.root.is_some() {
            return Err(malformed(at, &"a second root element"));
        }
        tree.open(read_start(&reader, &start, at, most_bytes.saturating_sub(tree.bytes))?);
        if empty {
            tree.close(keep);
        }
    }
    if let Some(unclosed) = tree.open.last() {
        let offset = bytes.len() as u64;
        return Err(XmlError::Malformed { offset, why: format!("ends inside <{}>", unclosed.name) });
    }
    tree.root.ok_or_else(|| XmlError::Malformed { offset: 0, why: "no root element".to_owned() })
}

const TREE_TOO_LARGE: XmlError = XmlError::TooLarge("elements that take too much memory");

/// A document under reading.
#[derive(Default)]
struct Tree {
    /// Elements that have begun, outermost first, and the memory that was held before each.
    open: Vec<Element>,
    before: Vec<usize>,
    root: Option<Element>,
    /// Memory of the elements that are held, texts aside: those are no longer than the document.
    bytes: usize,
}

impl Tree {
    fn open(&mut self, element: Element) {
        self.before.push(self.bytes);
        self.bytes += element.own_bytes();
        self.open.push(element);
    }

    /// Ends the innermost element; `None` if there is none.
    fn close(&mut self, keep: &mut Keep<'_>) -> Option<()> {
        let (mut element, before) = (self.open.pop()?, self.before.pop()?);
        if element.text.trim().len() != element.text.len() {
            element.text = element.text.trim().to_owned();
        }
        if self.open.is_empty() {
            self.root = Some(element);
            return Some(());
        }
        match (keep(&self.open, element), self.open.last_mut()) {
            (Some(element), Some(parent)) => parent.children.push(element),
            // It is held no longer, nor is what was inside.
            _ => self.bytes = before,
        }
        Some(())
    }
}

fn append_text(open: &mut [Element], text: &str) -> Result<(), &'static str> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("text outside the root element"),
    }
    Ok(())
}

/// The element of a start tag at `at`, of `most_bytes` without what comes inside it.
fn read_start(
    reader: &NsReader<&[u8]>,
    start: &BytesStart<'_>,
    at: u64,
    most_bytes: usize,
) -> Result<Element, XmlError> {
    let malformed = |why: &dyn fmt::Display| XmlError::Malformed { offset: at, why: why.to_string() };
    let namespace_of = |result| match result {
        ResolveResult::Bound(namespace) => Ok(namespace.as_ref().to_owned()),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(prefix) => Err(malformed(&format_args!("undeclared prefix {prefix}"))),
    };
    let (namespace, local) = reader.resolver().resolve_element(start.name());
    let mut element = Element {
        name: local.as_ref().to_owned(),
        namespace: namespace_of(namespace)?,
        ..Element::default()
    };
    let mut bytes = element.own_bytes();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|err| malformed(&err))?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
        let value =
            attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).map_err(|err| malformed(&err))?;
        let attribute = Attribute {
            name: local.as_ref().to_owned(),
            namespace: namespace_of(namespace)?,
            value: value.into_owned(),
        };
        bytes += attribute.own_bytes();
        if bytes > most_bytes {
            return Err(TREE_TOO_LARGE);
        }
        element.attributes.push(attribute);
    }
    Ok(element)
}

/// Writes a document: declaration, then the tree, two spaces of indentation a level. The root's namespace is the
/// default one; every other gets a prefix at the root, from `prefixes` (namespace, prefix) or `n1`, `n2`, ….
pub fn write(root: &Element, prefixes: &[(&str, &str)]) -> String {
    let mut table: Vec<(String, String)> = Vec::new();
    collect_namespaces(root, &root.namespace, prefixes, &mut table);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    write_element(&mut out, root, root, &table, 0);
    out
}

fn collect_namespaces(
    element: &Element,
    default: &str,
    known: &[(&str, &str)],
    table: &mut Vec<(String, String)>,
) {
    let mut note = |namespace: &str, is_attribute: bool| {
        let needs_prefix =
            !namespace.is_empty() && namespace != XML_NAMESPACE && (is_attribute || namespace != default);
        if needs_prefix && !table.iter().any(|(have, _)| have == namespace) {
            let prefix =
                known.iter().find(|(have, _)| *have == namespace).map(|(_, prefix)| (*prefix).to_owned());
            let prefix = prefix.unwrap_or_else(|| format!("n{}", table.len() + 1));
            table.push((namespace.to_owned(), prefix));
        }
    };
    note(&element.namespace, false);
    for attribute in &element.attributes {
        note(&attribute.namespace, true);
    }
    for child in &element.children {
        collect_namespaces(child, default, known, table);
    }
}

fn write_element(
    out: &mut String,
    element: &Element,
    root: &Element,
    table: &[(String, String)],
    depth: usize,
) {
    let prefixed = |namespace: &str, name: &str, is_attribute: bool| {
        if namespace.is_empty() || (!is_attribute && namespace == root.namespace) {
            return name.to_owned();
        }
        if namespace == XML_NAMESPACE {
            return format!("xml:{name}");
        }
        match table.iter().find(|(have, _)| have == namespace) {
            Some((_, prefix)) => format!("{prefix}:{name}"),
            None => name.to_owned(),
        }
    };
    let name = prefixed(&element.namespace, &element.name, false);
    let indent = depth * 2;
    let _ = write!(out, "{:indent$}<{name}", "");
    if depth == 0 {
        if !root.namespace.is_empty() {
            let _ = write!(out, " xmlns=\"{}\"", escape(&root.namespace));
        }
        for (namespace, prefix) in table {
            let _ = write!(out, " xmlns:{prefix}=\"{}\"", escape(namespace));
        }
    }
    for attribute in &element.attributes {
        let name = prefixed(&attribute.namespace, &attribute.name, true);
        let _ = write!(out, " {name}=\"{}\"", escape(&attribute.value));
    }
    if element.children.is_empty() && element.text.is_empty() {
        out.push_str("/>\n");
        return;
    }
    out.push('>');
    out.push_str(&escape(&element.text));
    if !element.children.is_empty() {
        out.push('\n');
        for child in &element.children {
            write_element(out, child, root, table, depth + 1);
        }
        let _ = write!(out, "{:indent$}", "");
    }
    let _ = writeln!(out, "</{name}>");
}

/// Text as attribute value in double quotes, or as character data, of XML and of HTML. Characters that XML 1.0 cannot hold become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => {
                let _ = write!(out, "&#x{:X};", u32::from(c));
            }
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_names_whatever_the_prefix() {
        let doc = br#"<?xml version="1.0"?><a:r xmlns:a="urn:x:2023" xmlns:b="urn:y" b:v="0" w="1&amp;2">
            <a:c> t&lt;&#65; </a:c><b:c/><!-- no --></a:r>"#;
        let root = parse(doc).unwrap();
        assert_eq!((root.name.as_str(), root.namespace.as_str()), ("r", "urn:x:2023"));
        assert_eq!(root.attribute("v"), Some("0"));
        assert_eq!(root.attribute("w"), Some("1&2"));
        assert_eq!(root.child_text("c"), Some("t<A"));
        assert_eq!(root.all("c").count(), 2);
    }

    #[test]
    fn long_documents_are_visited_and_not_held() {
        let many = 1 << 20;
        let text = format!("<r v='1'><t>head</t><s k='2'>{}</s></r>", "<e/>".repeat(many));
        let (mut seen, mut texts) = (0, Vec::new());
        let root = parse_each(text.as_bytes(), 2, |within, element| {
            assert_eq!((within[0].attribute("v"), within[1].attribute("k")), (Some("1"), Some("2")));
            assert_eq!(element.name, "e");
            seen += 1;
        });
        let root = root.unwrap();
        assert_eq!((seen, root.children.len()), (many, 2));
        assert!(root.children[1].children.is_empty());
        parse_each(text.as_bytes(), 1, |_, element| texts.push(element.text)).unwrap_err();
        assert_eq!(texts, ["head"]);
        // What is kept counts, however much is visited in between.
        let kept = format!("<r>{}</r>", "<k/><s><e/></s>".repeat(many));
        assert!(matches!(parse_each(kept.as_bytes(), 2, |_, _| {}), Err(XmlError::TooLarge(_))));
    }

    #[test]
    fn a_document_whose_elements_take_too_much_memory_is_refused() {
        let refused = |text: &str| matches!(parse(text.as_bytes()), Err(XmlError::TooLarge(_)));
        // Every element holds its name space: one document of 200 KB would take 2 GB.
        let spread =
            |count: usize| format!("<r xmlns='{}'>{}</r>", "n".repeat(100_000), "<e/>".repeat(count));
        assert!(!refused(&spread(10)) && refused(&spread(25_000)));
        let attributes: String = (0..5000).map(|at| format!(" p:a{at}=''")).collect();
        assert!(refused(&format!("<r xmlns:p='{}'{attributes}/>", "n".repeat(50_000))), "nor attributes");
        // Little of anything, and very much of it.
        assert!(!refused(&format!("<r>{}</r>", "<e/>".repeat(5000))), "any ratio");
        assert!(refused(&format!("<r>{}</r>", "<e/>".repeat(100_000))), "the ratio");
        let usual = "<a>1</a>";
        let count = MAX_XML_BYTES / usual.len() - 1;
        assert!(refused(&format!("<r>{}</r>", usual.repeat(count))), "the memory of one document");
        assert!(!refused(&format!("<r>{}</r>", usual.repeat(count / 5))));
    }

    #[test]
    fn a_long_document_beyond_the_limit_is_refused_and_the_next_is_read() {
        let long = vec![b' '; MAX_LONG_XML_BYTES + 1];
        assert!(matches!(parse_each(&long, 1, |_, _| ()), Err(XmlError::TooLarge(_))));
        let mut seen = 0;
        parse_each(b"<r><e/></r>", 1, |_, _| seen += 1).unwrap();
        assert_eq!(seen, 1);
    }

    #[test]
    fn written_documents_read_back() {
        let root = Element::new("urn:m", "Root")
            .attr_ns("urn:ext", "schemaVersion", "2")
            .child(Element::new("urn:m", "Uri").with_text("http://h/?a=1&b=<\"2\">"))
            .child(Element::new("urn:other", "Extra").attr("k", "v\n\u{1f4e1}"));
        let text = write(&root, &[("urn:ext", "ext")]);
        assert!(text.contains("xmlns:ext=\"urn:ext\" "), "{text}");
        assert!(text.contains("ext:schemaVersion=\"2\""), "{text}");
        assert_eq!(parse(text.as_bytes()).unwrap(), root);
    }

    #[test]
    fn refuses_what_is_not_a_bounded_document() {
        for bad in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "x<a/>",
            "<a>&boom;</a>",
            "<p:a/>",
            "<a x='1' x='2'/>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<a></a></a>",
        ] {
            assert!(matches!(parse(bad.as_bytes()), Err(XmlError::Malformed { .. })), "{bad}");
        }
        assert!(matches!(parse(b"<a>\xff</a>"), Err(XmlError::Malformed { offset: 3, .. })));
        let deep = "<a>".repeat(MAX_XML_DEPTH + 1);
        assert!(matches!(parse(deep.as_bytes()), Err(XmlError::TooLarge(_))));
        assert!(matches!(parse(&vec![b' '; MAX_XML_BYTES + 1]), Err(XmlError::TooLarge(_))));
        let deep = format!("{}{}", "<a>".repeat(MAX_XML_DEPTH), "</a>".repeat(MAX_XML_DEPTH));
        assert!(parse(deep.as_bytes()).is_ok(), "as deep as the limit");
    }
}
