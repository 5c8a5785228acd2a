//! Answers in XML, as trees.

/// An element without children is a text; a whole answer is an element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tree {
    name: String,
    text: String,
    children: Vec<Tree>,
}

impl Tree {
    /// The answer's outermost element; none where it is of another form.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let options =
            roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MOST_NODES, ..Default::default() };
        let text = std::str::from_utf8(body).ok()?;
        let document = roxmltree::Document::parse_with_options(text, options).ok()?;
        Some(Self::of(document.root_element(), DEEPEST))
    }

    fn of(node: roxmltree::Node<'_, '_>, depth: u32) -> Self {
        let deeper = depth.saturating_sub(1);
        let elements = node.children().filter(|_| depth > 0).filter(roxmltree::Node::is_element);
        Self {
            name: node.tag_name().name().to_owned(),
            text: node.text().unwrap_or_default().to_owned(),
            children: elements.map(|child| Self::of(child, deeper)).collect(),
        }
    }

    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that name: S3 repeats an element where others have a list.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The list's members, whatever they are called (`member`, `item`).
    pub(crate) fn list(&self, name: &str) -> &[Self] {
        self.child(name).map(|list| list.children.as_slice()).unwrap_or_default()
    }

    /// The child's text; empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.child(name).map(|child| child.text.as_str()).unwrap_or_default()
    }

    /// Its own text.
    pub(crate) fn own_text(&self) -> &str {
        &self.text
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.text(name).trim().parse().ok()
    }
}

/// Elements, texts and attributes together; the longest answer, a list of stack events, has some thousands.
const MOST_NODES: u32 = 200_000;
const DEEPEST: u32 = 32;
