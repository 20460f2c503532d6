//! Builders that the tests share: one module for each thing that is faked.

#![allow(dead_code)]

pub(crate) mod allocations;
pub(crate) mod baseline;
pub(crate) mod client;
pub(crate) mod ecmascript;
pub(crate) mod encoding;
pub(crate) mod feed_server;
pub(crate) mod http2;
pub(crate) mod http2_origin;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod product;
pub(crate) mod proxy;
pub(crate) mod sidecar;
pub(crate) mod signer;
pub(crate) mod synthetic;
pub(crate) mod systemd;
