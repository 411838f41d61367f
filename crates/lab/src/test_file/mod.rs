//! What the labs of one test file share.
//!
//! | file | what |
//! |---|---|
//! | `context` | the run's environment, the file's budget, where its VMs and labs come from |
//! | `barrier` | meeting points of tasks |
//! | `notices` | reports to the user about the cache, as events of the file |

mod barrier;
mod context;
mod notices;

pub(crate) use context::TestFileContext;
