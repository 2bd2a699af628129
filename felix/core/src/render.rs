//! What backends write for the rules of the model.
//!
//! Rules ([`rules`](crate::rules)) say what is meant; a renderer owns how one backend says it, and nothing else: no
//! I/O, no state, no decisions. A renderer of another backend stands beside [`iptables`] and must
//!
//! 1. take a chain's name, its [`Rule`]s, the [`IpVersion`] of its table and what the backend can do, and give one
//!    entry for each rule: what is written (text, or expressions as plain data that `linux` encodes), and a hash over
//!    the chain's name and all rules up to this one, which goes into the rule's comment or user data. Comparing the
//!    hashes of a chain in the kernel with the wanted ones tells whether it must be written;
//! 2. render every variant of [`Match`] and [`Action`] (no catch-all arm): what the backend cannot say is the
//!    calculation's to avoid, by [`Backend`];
//! 3. keep the criteria's order, and let all of them hold for the action to be taken. `negated` inverts one criterion;
//! 4. write no set of its own for a rule. [`Match::Set`] names a key of [`Desired::ip_sets`] (a name with `:` where the
//!    backend admits it), [`Match::Ports`] with more than one range a key of [`Desired::port_sets`] by
//!    [`port_set_name`], so that rules of the same content share one set. [`Match::Nets`] has one prefix only;
//! 5. look up a set with ports as (address at `end`, protocol, port at `port`), one without as (address at `end`);
//! 6. take [`Match::Mark`] as `mark & mask == value` and [`Action::SetMark`] as `mark & !mask | value`;
//! 7. match a name that ends in `+` as a prefix ([`Match::InInterface`], [`Match::OutInterface`]);
//! 8. check the protocol before ports and ICMP fields: the model always has [`Match::Protocol`] in such a rule, before
//!    them. ICMP is that of the table's family;
//! 9. for [`ConnState::Dnat`] test that the connection's destination was translated, which packets without a connection
//!    are known not to be, for the others the state;
//! 10. write comments so that no text of a comment can end it early: names of policies come from users.
//!
//! Rules in [`KernelChain`](crate::desired::KernelChain) belong into the kernel's chains where chains are shared, and
//! into the base chains where the backend has a table of its own. With nftables, `Accept` ends only the own table's
//! chain at that hook.
//!
//! [`Rule`]: crate::rules::Rule
//! [`Match`]: crate::rules::Match
//! [`Match::Set`]: crate::rules::Match::Set
//! [`Match::Ports`]: crate::rules::Match::Ports
//! [`Match::Nets`]: crate::rules::Match::Nets
//! [`Match::Mark`]: crate::rules::Match::Mark
//! [`Match::Protocol`]: crate::rules::Match::Protocol
//! [`Match::InInterface`]: crate::rules::Match::InInterface
//! [`Match::OutInterface`]: crate::rules::Match::OutInterface
//! [`Action`]: crate::rules::Action
//! [`Action::SetMark`]: crate::rules::Action::SetMark
//! [`ConnState::Dnat`]: crate::rules::ConnState::Dnat
//! [`IpVersion`]: crate::desired::IpVersion
//! [`Backend`]: crate::desired::Backend
//! [`Desired::ip_sets`]: crate::desired::Desired::ip_sets
//! [`Desired::port_sets`]: crate::desired::Desired::port_sets
//! [`port_set_name`]: crate::desired::port_set_name

pub mod iptables;
pub mod nftables;
