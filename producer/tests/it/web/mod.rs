//! The web app against the development identity provider, over HTTP, as browsers and attackers see it.

mod account;
mod answers;
mod program;
mod sessions;
mod sign_in;
mod sign_out;
mod site;
