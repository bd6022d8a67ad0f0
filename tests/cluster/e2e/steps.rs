//! What steps may be in a workflow.

use crate::Test;

pub(crate) const TESTS: &[Test] = &[];
