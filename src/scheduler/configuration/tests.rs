//! Stories of configuration files.

use super::*;
