//! The pages, one a folder.

mod adapters;
mod compare;
mod gallery;
mod generate;
mod not_found;
mod publish;
mod sign_in;
mod train;
mod training;

pub use adapters::AdaptersPage;
pub use compare::ComparePage;
pub use gallery::GalleryPage;
pub use generate::GeneratePage;
pub use not_found::NotFound;
pub use publish::PublishPage;
pub use sign_in::SignInPage;
pub use train::TrainPage;
pub use training::TrainingPage;
