//! The conformance suite every ferrokit engine instantiates.
