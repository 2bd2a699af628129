//! Route netlink: links, addresses, routes, rules, neighbours, and notifications about them.
//!
//! [`Netlink`] is a handle to one socket in one network namespace; it is cheap to clone and usable from any task.
//! Operations say exactly what happened (`is_exists`, `is_not_found`); being idempotent is the caller's choice.
//! Source: `rtnetlink(7)`, `linux/rtnetlink.h`.

mod addresses;
mod batch;
mod direct;
mod links;
mod monitor;
mod neighbours;
mod routes;
mod rules;
mod types;

use futures::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;

pub use batch::{RouteBatch, RouteChange};
pub use direct::{Direct, Request};
pub use monitor::{Event, Monitor};
pub use types::{
    Address, Link, MacAddr, Neighbour, NextHop, Route, RouteKind, Rule, RuleTarget, SCOPE_HOST, SCOPE_LINK,
    SCOPE_UNIVERSE, TABLE_LOCAL, TABLE_MAIN, VethEnd,
};

use crate::netns::NetNs;
use crate::{Error, Result};

/// How often an interrupted dump is tried again before it is reported.
const DUMP_ATTEMPTS: usize = 10;

/// A connection to the kernel's routing configuration in one network namespace.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Connects in the calling thread's namespace. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        let (connection, handle, _messages) =
            rtnetlink::new_connection().map_err(|e| Error::io("open a netlink socket", e))?;
        // Ends by itself when the last handle is dropped.
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Connects in another namespace, and stays there.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        netns.run(move || {
            let _guard = runtime.enter();
            Self::open()
        })?
    }

    /// Sends one request and waits for the kernel's verdict.
    async fn request(
        &self,
        what: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = match self.handle.clone().request(request) {
            Ok(answers) => answers,
            Err(error) => return Err(Error::protocol(what(), error)),
        };
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && let Some(code) = error.code
            {
                return Err(Error::kernel(what(), code.get()));
            }
        }
        // The connection keeps acknowledgements to itself: an end without an error is success.
        Ok(())
    }

    /// Asks for one object.
    async fn get(&self, what: &str, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|e| Error::protocol(what, e))?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => return Ok(message),
                NetlinkPayload::Error(error) => {
                    return Err(Error::kernel(
                        what,
                        error.code.map_or(0, std::num::NonZeroI32::get),
                    ));
                }
                _ => {}
            }
        }
        Err(Error::protocol(what, "the kernel did not answer"))
    }

    /// Lists all objects of a kind; an interrupted dump is not consistent, so it is taken again.
    async fn dump(&self, what: &str, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        self.dump_as(what, message, Some).await
    }

    /// The same, each made into something smaller as it comes: a message takes many times the room of what it says.
    async fn dump_as<T>(
        &self,
        what: &str,
        message: RouteNetlinkMessage,
        each: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(messages) = self.dump_once(what, message.clone(), &each).await? {
                return Ok(messages);
            }
        }
        Err(Error::protocol(
            what,
            "the listing kept changing while it was read",
        ))
    }

    async fn dump_once<T>(
        &self,
        what: &str,
        message: RouteNetlinkMessage,
        each: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|e| Error::protocol(what, e))?;
        let mut messages = Vec::new();
        let mut interrupted = false;
        while let Some(answer) = answers.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => messages.extend(each(message)),
                NetlinkPayload::Error(error) => {
                    if let Some(code) = error.code {
                        return Err(Error::kernel(what, code.get()));
                    }
                }
                _ => {}
            }
        }
        Ok((!interrupted).then_some(messages))
    }
}
