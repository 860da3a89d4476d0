//! Integration tests that break nothing: one binary, so that the library is linked once.

mod house;
