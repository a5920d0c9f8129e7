//! What the forms hold, as it was typed, and how that becomes a request. The same values travel in the address of a page.

mod compare;
mod drawing;
mod generate;
mod number;
mod publish;
mod query;
mod sign_in;
mod train;

pub use compare::CompareForm;
pub use drawing::{CUSTOM, Drawing};
pub use generate::{AdapterChoice, GenerateForm};
pub use publish::{PublishForm, page as publish_page};
pub use query::{read_query, write_pairs, write_query};
pub use sign_in::{href as sign_in_href, landing};
pub use train::TrainForm;
