//! What is announced to televisions: DVB-I.
//!
//! | room | what it is for |
//! |---|---|
//! | [`guide`] | a broadcaster's programme guide, XMLTV or JSON, read into the model of `carousel::dvbi` |

pub mod guide;
