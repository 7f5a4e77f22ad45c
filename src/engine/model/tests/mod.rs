//! Tests over synthetic headers of every architecture (tiny models without data), and over the
//! tiny whole models of `fixtures/parity`.

mod bind;
mod graphs;
mod interpreter;
mod parity;
mod tiny;
mod work;
