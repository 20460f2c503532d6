//! The one integration binary: a module for each subject.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

#[global_allocator]
static ALLOCATOR: support::allocations::Counting = support::allocations::Counting;

mod allocations;
mod audit_responses;
mod bodies;
mod cli;
mod clients;
mod control;
mod control_sidecars;
mod control_sources;
mod crash;
mod decisions;
mod descriptors;
mod document_root;
mod ecmascript;
mod enforce;
mod envelope;
mod eval;
mod evasion;
mod evasion_own;
mod events;
mod examples;
mod exceptions;
mod explain;
mod faults;
mod feed;
mod feed_dsse;
mod feed_places;
mod fuzz;
mod http2;
mod http2_hostile;
mod http2_malformed;
mod kill_switch;
mod layers;
mod leaks;
mod ledger;
mod matcher;
mod matcher_crowded;
mod matcher_service;
mod probe_upstream;
mod prove;
mod proxy;
mod proxy_auth;
mod proxy_forwarding;
mod proxy_http2;
mod proxy_limits;
mod proxy_malformed;
mod proxy_operations;
mod proxy_protocol;
mod proxy_streams;
mod proxy_tls;
mod proxy_unix;
mod proxy_upstreams;
mod proxy_verdicts;
mod publish;
mod renewal;
mod retire;
mod rewrite;
mod run;
mod service_manager;
mod sidecar;
mod sidecar_linked;
mod sidecar_process;
mod sidecar_refusals;
mod sidecar_remote;
mod sidecar_systemd;
mod signature;
mod sizes;
mod swap;
mod webhook;
mod websocket;
mod xml;
