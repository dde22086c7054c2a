//! Stories: both programs as real processes over real sockets, from basic to odd. One test binary, so that one link step
//! builds them and the stories, which mostly wait, run in parallel.

mod atsc;
mod attacks;
mod bad_input;
mod basic;
mod bucket_events;
mod buckets;
mod captures;
mod catalog;
mod configs;
mod demo;
mod disk;
mod dvb_i;
mod fec;
mod firmware;
mod http;
mod kafka;
mod leases;
mod live;
mod live_channels;
mod live_edge;
mod live_faults;
mod live_players;
mod losses;
mod mistakes;
mod packages;
mod page;
mod players;
mod rendezvous;
mod service;
mod signing;
mod transport;
