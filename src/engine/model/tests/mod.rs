//! Tests over synthetic headers of every architecture: tiny models without data.

mod bind;
mod graphs;
mod tiny;
