//! The pages, one a file or folder.
