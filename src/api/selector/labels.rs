//! Requirements on labels. Meaning and texts follow apimachinery, labels/selector and meta/v1/helpers.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use smallvec::SmallVec;

use super::parse;
use crate::api::validation::error::{BadValue, ErrorList, FieldError, Path, go_quote};
use crate::api::validation::format;

/// Anything that has labels.
pub trait Labels {
    /// The value of a label, if it is there.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

/// Pairs in any order; the first of equal keys counts.
impl Labels for [(&str, &str)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }
}

/// How a label is related to values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operator {
    /// `=`: there and equal.
    Equals,
    /// `==`: the same as [`Operator::Equals`], printed differently.
    DoubleEquals,
    /// `!=`: absent or different.
    NotEquals,
    /// `in`: there and one of them.
    In,
    /// `notin`: absent or none of them.
    NotIn,
    /// There.
    Exists,
    /// `!`: absent.
    DoesNotExist,
    /// `>`: there and a larger whole number.
    GreaterThan,
    /// `<`: there and a smaller whole number.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    values: SmallVec<[Box<str>; 1]>,
    /// The value as a number, for the operators that compare.
    bound: i64,
}

impl Requirement {
    /// A condition whose parts have been checked; the error says everything that is wrong with them.
    pub fn new(key: &str, operator: Operator, values: &[&str]) -> Result<Requirement, ErrorList> {
        let mut errors = ErrorList::new();
        let (key_path, values_path) = (Path::Root.child("key"), Path::Root.child("values"));
        let complaints = format::label_key(key);
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(&key_path, key, complaints.join("; ")));
        }
        let wrong_count = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                "for 'in', 'notin' operators, values set can't be empty"
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                "exact-match compatibility requires one single value"
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                "values set must be empty for exists and does not exist"
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                "for 'Gt', 'Lt' operators, exactly one value is required"
            }
            _ => "",
        };
        if !wrong_count.is_empty() {
            errors.push(FieldError::invalid(&values_path, BadValue::json(&values), wrong_count));
        }
        let mut bound = 0;
        for (position, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
                match value.parse() {
                    Ok(number) => bound = number,
                    Err(_) => errors.push(FieldError::invalid(
                        &values_path.index(position),
                        *value,
                        "for 'Gt', 'Lt' operators, the value must be an integer",
                    )),
                }
            }
        }
        for (position, value) in values.iter().enumerate() {
            let complaints = format::label_value(value);
            if !complaints.is_empty() {
                let item = values_path.index(position);
                errors.push(FieldError::invalid(&item.key(key), *value, complaints.join("; ")));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Requirement {
            key: key.into(),
            operator,
            values: values.iter().map(|value| Box::from(*value)).collect(),
            bound,
        })
    }

    /// The label that this is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How the label is related to the values.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, in the order given.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(AsRef::as_ref)
    }

    fn has(&self, value: &str) -> bool {
        self.values.iter().any(|known| &**known == value)
    }

    /// Whether labels satisfy this condition.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(|value| self.has(value)),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(|value| self.has(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(|value| value.parse::<i64>().ok()).is_some_and(|n| n > self.bound),
            Operator::LessThan => value.and_then(|value| value.parse::<i64>().ok()).is_some_and(|n| n < self.bound),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let mut values: Vec<&str> = self.values().collect();
        values.sort_unstable();
        let values = values.join(",");
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A set of conditions on labels, all of which must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Selector {
    /// Sorted by key; none means that everything matches.
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Matches every object.
    pub const fn everything() -> Selector {
        Selector { requirements: Vec::new(), nothing: false }
    }

    /// Matches no object.
    pub const fn nothing() -> Selector {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// From conditions in any order.
    pub fn new(mut requirements: Vec<Requirement>) -> Selector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }

    /// From the text form, as in `app=web,tier in (a,b),!canary`.
    pub fn parse(text: &str) -> Result<Selector, String> {
        parse::requirements(text).map(Selector::new)
    }

    /// From the API type. Absent matches nothing, empty matches everything.
    pub fn compile(selector: Option<&LabelSelector>) -> Result<Selector, String> {
        let Some(selector) = selector else { return Ok(Selector::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let requirement = Requirement::new(key, Operator::Equals, &[value]);
            requirements.push(requirement.map_err(|errors| errors.to_string())?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{} is not a valid label selector operator", go_quote(other))),
            };
            let values: Vec<&str> = expression.values.iter().flatten().map(String::as_str).collect();
            let requirement = Requirement::new(&expression.key, operator, &values);
            requirements.push(requirement.map_err(|errors| errors.to_string())?);
        }
        Ok(Selector::new(requirements))
    }

    /// Matches objects that have exactly these labels, and perhaps others; what no label can be matches nothing.
    /// An empty set matches everything. This is the selector of a Service.
    pub fn from_set<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Selector {
        let equal = |(key, value): (&'a String, &'a String)| Requirement {
            key: key.as_str().into(),
            operator: Operator::Equals,
            values: SmallVec::from_iter([Box::from(value.as_str())]),
            bound: 0,
        };
        Selector::new(labels.into_iter().map(equal).collect())
    }

    /// These conditions and one more: that a label is there with this value.
    pub fn with(&self, key: &str, value: &str) -> Selector {
        let equal = Requirement {
            key: key.into(),
            operator: Operator::Equals,
            values: SmallVec::from_iter([Box::from(value)]),
            bound: 0,
        };
        Selector { nothing: self.nothing, ..Selector::new(self.requirements.iter().cloned().chain([equal]).collect()) }
    }

    /// Whether labels satisfy all conditions.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether no object can match because the selector was absent.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The conditions, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The one value that `key` must have, if the conditions say so: lets an index answer.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|requirement| requirement.key() == key)?;
        let exact = matches!(requirement.operator, Operator::Equals | Operator::DoubleEquals | Operator::In);
        match requirement.values.as_slice() {
            [value] if exact => Some(value),
            _ => None,
        }
    }
}

/// The text form, conditions sorted by key.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.requirements.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, printed: Result<&str, &str>, matching: &[&[(&str, &str)]], others: &[&[(&str, &str)]]) {
        let selector = Selector::parse(text);
        assert_eq!(
            selector.as_ref().map(ToString::to_string).map_err(String::clone),
            printed.map(str::to_owned).map_err(str::to_owned)
        );
        let selector = selector.unwrap_or(Selector::nothing());
        for labels in matching {
            assert!(selector.matches(*labels), "{text} matches {labels:?}");
        }
        for labels in others {
            assert!(!selector.matches(*labels), "{text} does not match {labels:?}");
        }
    }

    #[test]
    fn selectors_match_as_apimachinery_says() {
        check("", Ok(""), &[&[], &[("a", "b")]], &[]);
        check("a=b", Ok("a=b"), &[&[("a", "b")], &[("c", "d"), ("a", "b")]], &[&[], &[("a", "c")]]);
        check("a in (b,c),!d", Ok("a in (b,c),!d"), &[&[("a", "c")]], &[&[("a", "c"), ("d", "")], &[("a", "d")]]);
        check("x!=y, a", Ok("a,x!=y"), &[&[("a", "")]], &[&[("a", ""), ("x", "y")], &[]]);
        check("a notin (b)", Ok("a notin (b)"), &[&[], &[("a", "c")]], &[&[("a", "b")]]);
        check("a==b", Ok("a==b"), &[&[("a", "b")]], &[&[]]);
        check("n>3,n<5", Ok("n>3,n<5"), &[&[("n", "4")]], &[&[("n", "5")], &[("n", "x")], &[]]);
        check("a=", Ok("a="), &[&[("a", "")]], &[&[("a", "b")], &[]]);
        check("in in (in,notin)", Ok("in in (in,notin)"), &[&[("in", "in")]], &[&[]]);
        check("a in (,b)", Ok("a in (,b)"), &[&[("a", "")]], &[&[("a", "c")]]);
    }

    #[test]
    fn malformed_selectors_are_refused_with_the_real_texts() {
        check("a=b,", Err("found '', expected: identifier after ','"), &[], &[]);
        check("a in b", Err("unable to parse requirement: found 'b' expected: '('"), &[], &[]);
        check("a b", Err("unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"), &[], &[]);
        check("(a)", Err("found '(', expected: !, identifier, or 'end of string'"), &[], &[]);
        check("a=b c", Err("found 'c', expected: ',' or 'end of string'"), &[], &[]);
        check(
            "a>b",
            Err(
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            &[],
            &[],
        );
        check(
            "a=-",
            Err(
                "unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            &[],
            &[],
        );
    }

    #[test]
    fn the_api_type_compiles_to_the_same_conditions() {
        let compiled = |value: serde_json::Value| {
            let selector: Result<LabelSelector, _> = serde_json::from_value(value);
            selector.map_err(|error| error.to_string()).and_then(|selector| Selector::compile(Some(&selector)))
        };
        let selector =
            compiled(json!({"matchLabels": {"b": "c"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]}));
        assert_eq!(selector.map(|selector| selector.to_string()), Ok("a,b=c".to_owned()));
        assert_eq!(compiled(json!({})).map(|selector| selector.is_everything()), Ok(true));
        assert_eq!(
            compiled(json!({"matchExpressions": [{"key": "a", "operator": "x"}]})).map(|_| ()),
            Err("\"x\" is not a valid label selector operator".to_owned())
        );
        assert_eq!(
            compiled(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).map(|_| ()),
            Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".to_owned())
        );
        assert!(Selector::compile(None).is_ok_and(|selector| selector.is_nothing()));
        assert_eq!(
            Selector::parse("a in (x),b!=c").as_ref().map(|selector| (selector.exact("a"), selector.exact("b"))),
            Ok((Some("x"), None))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_selector_or_an_error_and_reads_back_as_itself(text in "[a-c!=<>(), innotin]{0,24}|.{0,16}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
