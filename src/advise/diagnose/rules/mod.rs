//! One file per rule, named as its id with underscores. Each has its documentation, its check, and
//! tests with what must trigger it and what must not. `fixtures/rules/<id>/` has logs for both.
