//! The HTTP API, on both kinds of server.

mod abuse;
mod access;
mod bounds;
mod claims;
mod document;
mod program;
mod python_worker;
mod queries;
mod site;
