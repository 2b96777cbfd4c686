//! The user as whom the program of an image runs if its container does not say otherwise, as an image's configuration and a
//! scenario write it: `1000`, `nginx`, or either with a group, `1000:1000`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::name::Name;

/// The user of an image. Groups are of no interest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "UserText", into = "UserText")]
#[schemars(with = "UserText")]
pub enum ImageUser {
    /// A number, which a kubelet can check.
    Id(i64),
    /// A name, of which only the image knows the number.
    Name(Name),
}

/// The user of an image as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum UserText {
    /// The user's number.
    Number(i64),
    /// The user's name or number, perhaps with a group's after a colon.
    Text(String),
}

/// Why a text is no user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserError {
    text: String,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a user: expected a number or a name, perhaps with a group as in \"1000:1000\"",
            self.text
        )
    }
}

impl std::error::Error for UserError {}

/// Root: an image that says nothing.
impl Default for ImageUser {
    fn default() -> Self {
        ImageUser::Id(0)
    }
}

impl FromStr for ImageUser {
    type Err = UserError;
    /// What is not a number is a name (containerd, `getUserFromImage`).
    fn from_str(text: &str) -> Result<Self, UserError> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let is_word = |text: &str| !text.is_empty() && !text.contains([':', ' ', '\t', '\n']);
        if !is_word(user) || group.is_some_and(|group| !is_word(group)) {
            return Err(UserError { text: text.to_owned() });
        }
        Ok(user.parse().map_or_else(|_| ImageUser::Name(Name::from(user)), ImageUser::Id))
    }
}

impl TryFrom<UserText> for ImageUser {
    type Error = UserError;
    fn try_from(text: UserText) -> Result<Self, UserError> {
        match text {
            UserText::Number(id) => Ok(ImageUser::Id(id)),
            UserText::Text(text) => text.parse(),
        }
    }
}

impl From<ImageUser> for UserText {
    fn from(user: ImageUser) -> UserText {
        match user {
            ImageUser::Id(id) => UserText::Number(id),
            ImageUser::Name(name) => UserText::Text(String::from(&name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_names_perhaps_with_a_group() {
        let read = |text: &str| text.parse::<ImageUser>().ok();
        let named = |name: &'static str| Some(ImageUser::Name(Name::of(name)));
        assert_eq!(["0", "1000", "1000:1000", "-1"].map(read), [0, 1000, 1000, -1].map(|id| Some(ImageUser::Id(id))));
        assert_eq!(["nginx", "nginx:www", "1000x"].map(read), [named("nginx"), named("nginx"), named("1000x")]);
        assert_eq!(["", ":1000", "1000:", "a b", "a:b:c"].map(read), [None, None, None, None, None]);
        let error = "a b".parse::<ImageUser>().expect_err("two words").to_string();
        assert_eq!(
            error,
            "\"a b\" is not a user: expected a number or a name, perhaps with a group as in \"1000:1000\""
        );
    }
}
