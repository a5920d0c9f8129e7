//! Small pieces of the pages, one a file.
