//! From a text to an expression whose names are all known.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::PrattParser;

use crate::api::kind::Kind;

use super::functions::FUNCTIONS;
use super::prepare::Prepared;
use super::sources::Sources;

/// A condition, parsed.
#[derive(Debug)]
pub struct Expression {
    text: String,
    prepared: Prepared,
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

/// The longest condition in bytes.
const LONGEST: usize = 4096;
/// How deep brackets may be nested: the parser calls itself for each.
const DEEPEST_BRACKETS: u16 = 32;
/// How many signs may follow signs (`!!`, `--`), and how many choices by `?` there may be: the parser calls itself for them, too.
const MOST_PREFIXES: usize = 32;
/// How deep an expression may be, in which each operator and each selection in a row (`a + b + c`, `a.b.c`) is a level: its
/// evaluation calls itself for each.
const DEEPEST: usize = 48;

/// Functions that CEL's macros and operators turn into, and those of its standard library.
const STANDARD: [&str; 22] = [
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
        if text.len() > LONGEST {
            return Err(wrong(format!("the condition is longer than {LONGEST} bytes")));
        }
        if prefixes(text) > MOST_PREFIXES {
            return Err(wrong(format!(
                "the condition has more than {MOST_PREFIXES} choices by ? and signs before signs"
            )));
        }
        let parser = PrattParser::new().max_recursion_depth(DEEPEST_BRACKETS);
        let expression = parser.parse(text).map_err(|errors| {
            let one = |error: &cel::ParseError| {
                let (line, character) = (error.pos.0.max(1), error.pos.1.max(1));
                let line = if text.contains('\n') { format!("line {line}, ") } else { String::new() };
                Wrong { message: format!("CEL: {} ({line}character {character})", error.msg), expected: None }
            };
            errors.errors.iter().map(one).collect::<Vec<_>>()
        })?;
        if depth(&expression) > DEEPEST {
            return Err(wrong(format!("the condition has more than {DEEPEST} operators in a row")));
        }
        let sources = Names::sources_of(&expression, &[])?;
        Ok(Expression { text: text.trim().to_owned(), prepared: Prepared::from(&expression), sources })
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

    /// What is evaluated.
    pub(super) fn prepared(&self) -> &Prepared {
        &self.prepared
    }
}

/// How many question marks there are, and signs right after a sign.
fn prefixes(text: &str) -> usize {
    let letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let (mut count, mut last) = (0, b' ');
    for letter in letters {
        let is_sign = |letter| matches!(letter, b'!' | b'-');
        count += usize::from(letter == b'?' || is_sign(letter) && is_sign(last));
        last = letter;
    }
    count
}

/// How deep an expression is. Does not call itself, since that is what could be too deep.
fn depth(expression: &IdedExpr) -> usize {
    let (mut deepest, mut ahead) = (0, vec![(expression, 1)]);
    while let Some((expression, level)) = ahead.pop() {
        deepest = deepest.max(level);
        each_part(&expression.expr, |part| ahead.push((part, level + 1)));
    }
    deepest
}

/// Visits the expressions that one is made of.
fn each_part<'e>(expression: &'e Expr, mut visit: impl FnMut(&'e IdedExpr)) {
    let mut entry = |entry: &'e EntryExpr| match entry {
        EntryExpr::StructField(field) => visit(&field.value),
        EntryExpr::MapEntry(pair) => [&pair.key, &pair.value].into_iter().for_each(&mut visit),
    };
    match expression {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Map(map) => map.entries.iter().for_each(|one| entry(&one.expr)),
        Expr::Struct(literal) => literal.entries.iter().for_each(|one| entry(&one.expr)),
        Expr::Select(select) => visit(&select.operand),
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).for_each(visit),
        Expr::Comprehension(one) => {
            [&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result].into_iter().for_each(visit);
        }
    }
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
pub(super) struct Names<'e> {
    /// Variables of the macros around the present place.
    scope: Vec<&'e str>,
    sources: Sources,
    wrong: Vec<Wrong>,
}

impl<'e> Names<'e> {
    /// What an expression looks at that stands where there are some variables; or its names that are not known.
    pub fn sources_of(expression: &'e IdedExpr, scope: &[&'e str]) -> Result<Sources, Vec<Wrong>> {
        let mut names = Names { scope: scope.to_vec(), sources: Sources::NONE, wrong: Vec::new() };
        names.visit(expression);
        if names.wrong.is_empty() { Ok(names.sources) } else { Err(names.wrong) }
    }

    fn visit(&mut self, expression: &'e IdedExpr) {
        match &expression.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Call(call) => {
                self.function(&call.func_name);
                each_part(&expression.expr, |part| self.visit(part));
            }
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
            other => each_part(other, |part| self.visit(part)),
        }
    }

    fn variable(&mut self, name: &str) {
        if self.scope.contains(&name) || name.starts_with('@') {
            return;
        }
        if name == "now" {
            self.sources = self.sources.and(Sources::TIME);
        } else if let Some(kind) = kind_of_list(name) {
            self.sources = self.sources.and(Sources::objects(kind));
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
