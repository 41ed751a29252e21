//! The plain ways to do what the pipeline does, each as a careful programmer would write it in an afternoon.

mod bare;
mod consume;
mod publish;

pub(crate) use bare::write_in_pipelines;
pub(crate) use consume::project_one_by_one;
pub(crate) use publish::{PlainStream, declare_stream, publish_one_by_one};
