//! Objects of manifest files and of scenario files, checked as the API server would and ready to be applied.

use std::rc::Rc;

use serde_json::Value;

use crate::api::convert::Convert;
use crate::api::defaults::Defaults;
use crate::api::kind::{Kind, each_kind};
use crate::api::manifest::{self, Document, Part, Problem};
use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::api::validation::Validate;

/// An object to be applied.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its place.
    pub key: ObjectKey,
    /// The object as it was written, with its namespace: what kubectl remembers as the last applied configuration.
    pub written: Rc<Value>,
    /// The object, defaulted.
    pub object: Object,
}

/// What could be read of a file, and what should be told about it.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The objects in the order of the file.
    pub objects: Vec<Manifest>,
    /// What does no harm and should be told, such as keys given twice.
    pub warnings: Vec<Problem>,
}

/// Reads the objects of a manifest file. Objects that name no namespace belong to `namespace`.
pub fn read(file: &str, text: &str, namespace: &str) -> Result<Manifests, Vec<Problem>> {
    collect(manifest::read(file, text)?, namespace)
}

/// Reads the object, or the objects of the list, that a part of a scenario file is.
pub fn read_part(part: Part, namespace: &str) -> Result<Manifests, Vec<Problem>> {
    collect(manifest::read_objects(part)?, namespace)
}

fn collect(documents: Vec<Document>, namespace: &str) -> Result<Manifests, Vec<Problem>> {
    let mut manifests = Manifests::default();
    let mut problems = Vec::new();
    for document in documents {
        match check(&document, namespace) {
            Ok(manifest) => manifests.objects.push(manifest),
            Err(found) => problems.extend(found),
        }
        manifests.warnings.extend(document.warnings);
    }
    if problems.is_empty() { Ok(manifests) } else { Err(problems) }
}

/// Decodes, defaults and validates one object, which belongs to `namespace` if it names none.
pub fn check(document: &Document, namespace: &str) -> Result<Manifest, Vec<Problem>> {
    let known = Kind::of_manifest(&document.api_version, &document.kind);
    let Some(kind) = known.filter(|kind| kind.row().is_simulated) else {
        let message = format!("no matches for kind \"{}\" in version \"{}\"", document.kind, document.api_version);
        let simulated = Kind::all().map(Kind::row).filter(|row| row.is_simulated);
        let known: Vec<String> = simulated.map(|row| format!("{} ({})", row.name, row.api_version())).collect();
        let expected = format!("expected one of the kinds that are simulated: {}", known.join(", "));
        return Err(vec![document.part.problem("kind", message, Some(expected))]);
    };
    let mut part = document.part.clone();
    let row = kind.row();
    if row.namespaced
        && let Some(Value::Object(metadata)) = part.value.get_mut("metadata")
        && metadata.get("namespace").is_none_or(Value::is_null)
    {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    let object = object(kind, &part)?;
    let meta = object.meta();
    if meta.name.is_empty() {
        let expected = Some("expected metadata.name; kubectl apply needs it".to_owned());
        return Err(vec![part.key_problem("metadata", "cannot apply an object without a name", expected)]);
    }
    let key = ObjectKey::new(kind, meta.namespace.clone(), meta.name.clone());
    Ok(Manifest { key, written: Rc::new(part.value), object })
}

macro_rules! typed {
    ($($kind:ident in $module:ident),* $(,)?) => {
        /// The object of a kind that a part is, decoded, defaulted and validated.
        pub fn object(kind: Kind, part: &Part) -> Result<Object, Vec<Problem>> {
            match kind {
                $(Kind::$kind => full::<crate::api::$module::$kind>(part),)*
            }
        }
    };
}

each_kind!(typed);

fn full<K: Convert>(part: &Part) -> Result<Object, Vec<Problem>>
where
    K::Full: Defaults + Validate,
{
    let mut full: K::Full = part.decode()?;
    full.set_defaults();
    let errors = full.validate_manifest();
    if !errors.is_empty() {
        return Err(part.refused(&errors));
    }
    let compact = K::from_full(full);
    compact.map(K::boxed).map_err(|error| vec![part.problem(&error.path, error.to_string(), None)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &[&str]>) {
        let found = read("app.yml", text, "default");
        let found = found.map(|found| found.objects.iter().map(|object| object.key.to_string()).collect::<Vec<_>>());
        let found = found.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>());
        let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        assert_eq!(found, expected.map(strings).map_err(strings), "{text}");
    }

    #[test]
    fn objects_get_the_namespace_that_they_do_not_name() {
        check(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n",
            Ok(&["configmap/default/a", "configmap/b/a", "namespace/b"]),
        );
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused_with_its_place() {
        check(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: A\nspec:\n  containers:\n  - name: c\n    image: i\n    imagePullPolicy: Sometimes\n",
            Err(&[
                "app.yml:4:9: metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "app.yml:9:22: spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ]),
        );
    }

    #[test]
    fn a_kind_that_is_not_simulated_is_named() {
        let problems = read("app.yml", "apiVersion: example.com/v1\nkind: Widget\n", "default").unwrap_err();
        assert_eq!(problems[0].message, "no matches for kind \"Widget\" in version \"example.com/v1\"");
        assert_eq!(problems[0].line, 2);
    }
}
