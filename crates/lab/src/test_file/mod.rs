//! State that the labs of one test file share.
//!
//! | file | what |
//! |---|---|
//! | `context` | the run's environment, the file's budget, where its VMs and labs come from |
//! | `barrier` | meeting points of tasks |
//! | `current_test` | the test that runs now, for messages |
//! | `subnet_numbers` | the numbers of the subnets of its bridges |
//! | `notices` | reports to the user about the cache, as events of the file |

mod barrier;
mod context;
mod current_test;
mod notices;
mod subnet_numbers;

pub(crate) use context::TestFileContext;
pub(crate) use current_test::CurrentTest;
