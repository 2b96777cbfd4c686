//! Label selectors as fields of objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::error::{ErrorList, FieldError, Path};
use super::{format, metadata};

pub(super) fn label_selector(selector: &LabelSelector, path: &Path<'_>, errors: &mut ErrorList) {
    metadata::labels(&selector.match_labels, &path.child("matchLabels"), errors);
    let expressions = path.child("matchExpressions");
    for (position, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let place = expressions.index(position);
        let values = expression.values.as_deref().unwrap_or_default();
        let values_path = place.child("values");
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &values_path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(&place.child("operator"), other, "not a valid selector operator"));
            }
        }
        errors.invalid_each(&place.child("key"), &expression.key, format::label_key(&expression.key));
        for (position, value) in values.iter().enumerate() {
            errors.invalid_each(&values_path.index(position), value, format::label_value(value));
        }
    }
}

/// Whether a selector says anything.
pub(super) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|expressions| expressions.is_empty())
}
