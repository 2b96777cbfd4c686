//! Fields that may be null: as in Go, what is null was not given.

use serde::{Deserialize, Deserializer};

/// A number that is `DEFAULT` where it is not given.
pub fn number<'de, D: Deserializer<'de>, const DEFAULT: i32>(deserializer: D) -> Result<i32, D::Error> {
    Ok(Option::<i32>::deserialize(deserializer)?.unwrap_or(DEFAULT))
}

/// A long number that is `DEFAULT` where it is not given.
pub fn long_number<'de, D: Deserializer<'de>, const DEFAULT: i64>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Option::<i64>::deserialize(deserializer)?.unwrap_or(DEFAULT))
}
