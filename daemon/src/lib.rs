//! skycached
