//! The formats of names, labels, keys and ports. Each check returns the complaints, none if the value is well-formed.
//!
//! Rules and texts follow apimachinery, util/validation and api/validate/content. No regular expression is run: the
//! alphabets are small enough to be looked at byte by byte.

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// The complaints about one value; empty where it is well-formed.
pub type Complaints = Vec<String>;

/// "must be no more than N characters".
pub fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

/// "must be between LOW and HIGH, inclusive".
pub fn out_of_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The number of a user or group (`IsValidUserID`, `IsValidGroupID`).
pub fn user_id(id: i64) -> Option<String> {
    let highest = i64::from(i32::MAX);
    (!(0..=highest).contains(&id)).then(|| out_of_range(0, highest))
}

/// A message that quotes the regular expression and gives examples.
fn expected(message: &str, pattern: &str, examples: &[&str]) -> String {
    let mut text = message.to_owned();
    text.push_str(" (");
    for (position, example) in examples.iter().enumerate() {
        text.push_str(if position == 0 { "e.g. '" } else { " or '" });
        text.push_str(example);
        text.push_str("', ");
    }
    text.push_str("regex used for validation is '");
    text.push_str(pattern);
    text.push_str("')");
    text
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether all bytes satisfy `inner`, the first one `first` and the last one `last`; false for the empty text.
fn shaped(text: &str, first: fn(u8) -> bool, inner: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => first(*only) && last(*only),
        [begin, middle @ .., end] => first(*begin) && middle.iter().all(|byte| inner(*byte)) && last(*end),
    }
}

fn matches_label_1123(text: &str) -> bool {
    shaped(text, lower_or_digit, |byte| lower_or_digit(byte) || byte == b'-', lower_or_digit)
}

fn matches_subdomain_1123(text: &str) -> bool {
    text.split('.').all(matches_label_1123)
}

/// A label as in RFC 1123: the names of namespaces and containers.
pub fn dns_1123_label(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    if value.len() > 63 {
        complaints.push(too_long(63));
    }
    if !matches_label_1123(value) {
        complaints.push(if matches_subdomain_1123(value) {
            "must not contain dots".to_owned()
        } else {
            expected(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                 and must start and end with an alphanumeric character",
                LABEL_1123,
                &["my-name", "123-abc"],
            )
        });
    }
    complaints
}

/// A subdomain as in RFC 1123: the names of most objects.
pub fn dns_1123_subdomain(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    if value.len() > 253 {
        complaints.push(too_long(253));
    }
    if !matches_subdomain_1123(value) {
        complaints.push(expected(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
             and must start and end with an alphanumeric character",
            SUBDOMAIN_1123,
            &["example.com"],
        ));
    }
    complaints
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn label_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// A label key, also called a qualified name: `name` or `example.com/name`.
pub fn label_key(value: &str) -> Complaints {
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                   alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut complaints = Vec::new();
    let mut parts = value.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            let text = expected(message, LABEL_KEY, &examples);
            return vec![format!(
                "a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    match prefix {
        Some("") => complaints.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            complaints.extend(dns_1123_subdomain(prefix).into_iter().map(|text| format!("prefix part {text}")))
        }
        None => {}
    }
    if name.is_empty() {
        complaints.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        complaints.push(format!("name part {}", too_long(63)));
    }
    if !shaped(name, alphanumeric, label_inner, alphanumeric) {
        complaints.push(format!("name part {}", expected(message, LABEL_KEY, &examples)));
    }
    complaints
}

/// A label value: empty, or shaped like the name part of a label key.
pub fn label_value(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    if value.len() > 63 {
        complaints.push(too_long(63));
    }
    if !value.is_empty() && !shaped(value, alphanumeric, label_inner, alphanumeric) {
        complaints.push(expected(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            LABEL_VALUE,
            &["MyValue", "my_value", "12345"],
        ));
    }
    complaints
}

/// The name of a port: at most 15 lower-case letters, digits and single hyphens.
pub fn port_name(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    if value.len() > 15 {
        complaints.push(too_long(15));
    }
    if value.is_empty() || !value.bytes().all(|byte| lower_or_digit(byte) || byte == b'-') {
        complaints.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        complaints.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        complaints.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        complaints.push("must not begin or end with a hyphen".to_owned());
    }
    complaints
}

/// The number of a port.
pub fn port_number(port: i32) -> Complaints {
    match port {
        1..=65535 => Vec::new(),
        _ => vec![out_of_range(1, 65535)],
    }
}

/// The name of an environment variable, in the relaxed form of present servers: printable ASCII without `=`.
pub fn env_var_name(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    if value.is_empty() {
        complaints.push("environment variable name must be non-empty".to_owned());
    }
    if value.bytes().any(|byte| !(0x20..0x7f).contains(&byte) || byte == b'=') {
        complaints.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    complaints
}

/// A key of a ConfigMap or a Secret.
pub fn config_map_key(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    if value.len() > 253 {
        complaints.push(too_long(253));
    }
    if value.is_empty() || !value.bytes().all(label_inner) {
        complaints.push(expected(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => complaints.push("must not be '.'".to_owned()),
        ".." => complaints.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => complaints.push("must not start with '..'".to_owned()),
        _ => {}
    }
    complaints
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Complaints {
    match value.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Vec::new(),
        _ => vec![expected(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )],
    }
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Complaints {
    match !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        true => Vec::new(),
        false => vec![expected(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            "[-A-Za-z0-9]+",
            &["X-Header-Name"],
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: fn(&str) -> Complaints, good: &[&str], bad: &[(&str, &[&str])]) {
        for value in good {
            assert_eq!(format(value), Vec::<String>::new(), "{value:?} is well-formed");
        }
        for (value, beginnings) in bad {
            let complaints = format(value);
            assert_eq!(complaints.len(), beginnings.len(), "{value:?}: {complaints:?}");
            for (complaint, beginning) in complaints.iter().zip(*beginnings) {
                assert!(complaint.starts_with(beginning), "{value:?}: {complaint}");
            }
        }
    }

    #[test]
    fn names_of_objects() {
        let long = "a".repeat(254);
        check(
            dns_1123_subdomain,
            &["a", "a-b.c", "0"],
            &[
                ("A", &["a lowercase RFC 1123 sub"]),
                ("", &["a lower"]),
                ("a..b", &["a lower"]),
                (&long, &["must be no more than 253"]),
            ],
        );
        check(
            dns_1123_label,
            &["a", "1-2"],
            &[("a.b", &["must not contain dots"]), ("-a", &["a lowercase RFC 1123 label"])],
        );
        assert_eq!(
            dns_1123_subdomain("A"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
    }

    #[test]
    fn labels_and_keys() {
        check(
            label_key,
            &["a", "a.b/c_d", "MyName"],
            &[
                ("/a", &["prefix part must be non-empty"]),
                ("a/b/c", &["a valid label key"]),
                ("", &["name part must be non-empty", "name part must consist"]),
                ("a b", &["name part must consist"]),
                ("A/b", &["prefix part a lowercase"]),
            ],
        );
        check(
            label_value,
            &["", "a", "A_b.c"],
            &[("-", &["a valid label must"]), (&"a".repeat(64), &["must be no more than 63"])],
        );
        check(
            config_map_key,
            &["a.b", "_"],
            &[("..", &["must not be '..'"]), ("..a", &["must not start"]), ("a b", &["a valid config key"])],
        );
    }

    #[test]
    fn ports_variables_and_percentages() {
        check(
            port_name,
            &["http", "a-1"],
            &[
                ("80", &["must contain at least one letter"]),
                ("a--b", &["must not contain cons"]),
                ("-a", &["must not begin"]),
                ("Http", &["must contain only"]),
            ],
        );
        check(
            env_var_name,
            &["A", "a.b c"],
            &[("A=B", &["a valid env"]), ("", &["environment variable name must be"])],
        );
        check(percent, &["25%"], &[("25", &["a valid percent"]), ("%", &["a valid percent"])]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }
}
