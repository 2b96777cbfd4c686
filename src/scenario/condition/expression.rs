//! From a text to an expression whose names are all known.

use cel::Env;
use cel::common::ast::{EntryExpr, Expr, IdedExpr};

use crate::api::kind::Kind;

use super::functions::FUNCTIONS;
use super::order::ordered;
use super::sight::Sources;

/// A condition, parsed.
#[derive(Debug)]
pub struct Expression {
    text: String,
    /// What is evaluated: as written, but for the order in which macros meet keys.
    ordered: IdedExpr,
    sources: Sources,
}

/// Something wrong with a condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// What.
    pub message: String,
    /// What was expected, where that helps.
    pub expected: Option<String>,
}

/// The longest condition; the parser of CEL is recursive, so that longer ones could nest deeper than the stack.
const LONGEST: usize = 4096;
/// How deep parentheses and brackets may be nested.
const DEEPEST: usize = 48;

/// Functions that CEL's macros and operators turn into, and those of its standard library.
const STANDARD: [&str; 24] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
    "has",
    "all",
    "exists",
    "exists_one",
    "existsOne",
    "map",
    "filter",
    "min",
    "max",
    "optional",
    "in",
];

impl Expression {
    /// Parses a text; every name in it must be known.
    pub fn parse(text: &str) -> Result<Expression, Vec<Wrong>> {
        let wrong = |message: String| vec![Wrong { message, expected: None }];
        if text.trim().is_empty() {
            let expected = Some("expected a condition in CEL, such as available('web') >= 9".to_owned());
            return Err(vec![Wrong { message: "the condition is empty".to_owned(), expected }]);
        }
        if text.len() > LONGEST || depth(text) > DEEPEST {
            return Err(wrong(format!(
                "the condition is longer than {LONGEST} bytes or nested deeper than {DEEPEST} brackets"
            )));
        }
        let program = Env::stdlib().compile(text).map_err(|errors| {
            let one = |error: &cel::ParseError| Wrong {
                message: format!("CEL: {} (character {})", error.msg, error.pos.1.max(1)),
                expected: None,
            };
            errors.errors.iter().map(one).collect::<Vec<_>>()
        })?;
        let mut names = Names { scope: Vec::new(), sources: Sources::NONE, wrong: Vec::new() };
        names.visit(program.expression());
        let Names { sources, wrong, .. } = names;
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Expression { text: text.trim().to_owned(), ordered: ordered(program.expression()), sources })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it looks at.
    pub fn sources(&self) -> Sources {
        self.sources
    }

    /// Whether it looks at objects of a kind.
    pub fn looks_at(&self, kind: Kind) -> bool {
        self.sources.contains(Sources::objects(kind))
    }

    /// Whether its value may change although no object does.
    pub fn depends_on_time(&self) -> bool {
        self.sources.contains(Sources::TIME)
    }

    pub(super) fn ordered(&self) -> &IdedExpr {
        &self.ordered
    }
}

fn depth(text: &str) -> usize {
    let (mut now, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' | b'!' | b'-' | b'?' => now += 1,
            b')' | b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(now);
    }
    deepest
}

/// The variable that lists all objects of a kind, as `replicaSets`.
pub(super) fn list_name(kind: Kind) -> String {
    match kind {
        Kind::Endpoints => "endpoints".to_owned(),
        Kind::PriorityClass => "priorityClasses".to_owned(),
        Kind::StorageClass => "storageClasses".to_owned(),
        Kind::RuntimeClass => "runtimeClasses".to_owned(),
        Kind::CSIStorageCapacity => "csiStorageCapacities".to_owned(),
        _ => format!("{}s", lower_first(kind)),
    }
}

/// The functions that find one object of a kind: `replicaSet` and `rs`. CEL keeps the word `namespace` for itself.
pub(super) fn object_names(kind: Kind) -> impl Iterator<Item = String> {
    let long = (kind != Kind::Namespace).then(|| lower_first(kind));
    long.into_iter().chain(kind.row().short_names.iter().map(|name| (*name).to_owned()))
}

/// A kind's name as a variable begins, as `replicaSet` or `csiNode`.
fn lower_first(kind: Kind) -> String {
    let name = kind.row().name;
    let capitals = name.bytes().take_while(u8::is_ascii_uppercase).count();
    // Of several capitals the last one begins the next word.
    let (first, rest) = name.split_at(capitals.saturating_sub(1).max(1));
    first.to_ascii_lowercase() + rest
}

/// The kind whose objects a variable lists.
pub(super) fn kind_of_list(name: &str) -> Option<Kind> {
    Kind::all().find(|kind| list_name(*kind) == name || kind.row().short_names.contains(&name))
}

/// Looks at every name of an expression.
struct Names<'e> {
    /// Variables of the macros around the present place.
    scope: Vec<&'e str>,
    sources: Sources,
    wrong: Vec<Wrong>,
}

impl<'e> Names<'e> {
    fn visit(&mut self, expression: &'e IdedExpr) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::List(list) => list.elements.iter().for_each(|element| self.visit(element)),
            Expr::Call(call) => {
                self.function(&call.func_name);
                call.target.iter().for_each(|target| self.visit(target));
                call.args.iter().for_each(|argument| self.visit(argument));
            }
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(literal) => literal.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Expr::Comprehension(macro_call) => {
                self.visit(&macro_call.iter_range);
                self.visit(&macro_call.accu_init);
                let outside = self.scope.len();
                self.scope.extend([macro_call.iter_var.as_str(), macro_call.accu_var.as_str()]);
                self.scope.extend(macro_call.iter_var2.as_deref());
                self.visit(&macro_call.loop_cond);
                self.visit(&macro_call.loop_step);
                self.visit(&macro_call.result);
                self.scope.truncate(outside);
            }
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value),
            EntryExpr::MapEntry(pair) => {
                self.visit(&pair.key);
                self.visit(&pair.value);
            }
        }
    }

    fn variable(&mut self, name: &str) {
        if self.scope.contains(&name) || name.starts_with('@') {
            return;
        }
        if name == "now" {
            self.sources = self.sources.and(Sources::TIME);
        } else if let Some(kind) = kind_of_list(name) {
            self.sources = self.sources.and(Sources::list(kind));
        } else {
            let known: Vec<String> = Kind::all().map(list_name).chain(["now".to_owned()]).collect();
            self.unknown("variable", name, known);
        }
    }

    fn function(&mut self, name: &str) {
        let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        if let Some(kind) = Kind::all().find(|kind| object_names(*kind).any(|known| known == name)) {
            self.sources = self.sources.and(Sources::objects(kind));
        } else if let Some((_, sources, _)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
            self.sources = self.sources.and(*sources);
        } else if !is_operator && !STANDARD.contains(&name) {
            let own = FUNCTIONS.iter().map(|(name, ..)| (*name).to_owned());
            let known: Vec<String> = own.chain(Kind::all().flat_map(object_names)).collect();
            self.unknown("function", name, known);
        }
    }

    fn unknown(&mut self, what: &str, name: &str, known: Vec<String>) {
        let message = format!("the condition names an unknown {what} \"{name}\"");
        let wrong = Wrong { message, expected: Some(format!("expected one of: {}", known.join(", "))) };
        if !self.wrong.contains(&wrong) {
            self.wrong.push(wrong);
        }
    }
}
