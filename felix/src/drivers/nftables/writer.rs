//! Transactions under way: messages with the objects that they are about, so that a refusal names its culprit.

use std::collections::BTreeSet;
use std::fmt;

use caracal_felix_core::render::nftables::RenderedRule;
use caracal_linux::Error;
use caracal_linux::nftables::{Base, Batch, Element, Nftables, Place, SetSpec, TableId, comment};

use super::lower;
use caracal_felix_core::desired::IpVersion;

/// Bytes after which what nothing refers to yet is written as a transaction of its own.
const CHUNK: usize = 1 << 20;
/// Elements given to a message builder at a time.
const ELEMENTS_AT_ONCE: usize = 4_096;

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The table.
    Table,
    /// A chain as such.
    Chain(String),
    /// A rule of ours.
    Rule {
        /// Its chain.
        chain: String,
        /// Its hash.
        hash: String,
    },
    /// A set or map, or elements of it.
    Set(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("table calico"),
            Self::Chain(name) => write!(f, "chain {name}"),
            Self::Rule { chain, hash } => write!(f, "rule {hash} of chain {chain}"),
            Self::Set(name) => write!(f, "set {name}"),
        }
    }
}

/// Why a transaction did not take place.
#[derive(Debug)]
pub enum Failure {
    /// The kernel refused these objects, with these error numbers; nothing of the transaction was done.
    Refused(Vec<(Object, i32)>),
    /// The kernel refused without a reason that has a name, or could not be spoken to.
    Kernel(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Kernel(error)
    }
}

/// Writes to one table.
#[derive(Debug)]
pub struct Writer<'a> {
    kernel: &'a mut Nftables,
    table: TableId<'static>,
    version: IpVersion,
    batch: Batch,
    /// The objects of messages, by the number of the first message.
    objects: Vec<(usize, Object)>,
    /// Everything must be one transaction.
    is_whole: bool,
    messages: usize,
}

impl<'a> Writer<'a> {
    /// A writer with nothing to write yet.
    pub fn new(kernel: &'a mut Nftables, table: TableId<'static>, version: IpVersion) -> Self {
        Self {
            kernel,
            table,
            version,
            batch: Batch::new(),
            objects: Vec::new(),
            is_whole: false,
            messages: 0,
        }
    }

    /// From here on everything is one transaction.
    pub const fn keep_whole(&mut self) {
        self.is_whole = true;
    }

    /// Messages carried out so far.
    #[must_use]
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// The elements of a set as the kernel has them.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn present_elements(&mut self, set: &str) -> Result<BTreeSet<Element>, Failure> {
        Ok(self.kernel.elements(self.table, set)?.into_iter().collect())
    }

    fn note(&mut self, object: Object) {
        self.objects.push((self.batch.next_message(), object));
    }

    /// The table is there.
    pub fn add_table(&mut self) {
        self.note(Object::Table);
        self.batch.add_table(self.table);
    }

    /// The table goes with all that is in it.
    pub fn delete_table(&mut self) {
        self.note(Object::Table);
        self.batch.delete_table(self.table);
    }

    /// A chain is there.
    pub fn add_chain(&mut self, name: &str, base: Option<&Base>) {
        self.note(Object::Chain(name.to_owned()));
        self.batch.add_chain(self.table, name, base);
    }

    /// All rules of a chain go.
    pub fn flush_chain(&mut self, name: &str) {
        self.note(Object::Chain(name.to_owned()));
        self.batch.flush_chain(self.table, name);
    }

    /// A chain goes.
    pub fn delete_chain(&mut self, name: &str) {
        self.note(Object::Chain(name.to_owned()));
        self.batch.delete_chain(self.table, name);
    }

    /// A rule is written.
    pub fn add_rule(&mut self, chain: &str, place: Place, rule: &RenderedRule) {
        self.note(Object::Rule {
            chain: chain.to_owned(),
            hash: rule.hash.clone(),
        });
        let expressions = lower::rule(&rule.rule, self.version);
        self.batch
            .add_rule(self.table, chain, place, &expressions, &comment(&rule.comment));
    }

    /// A rule goes.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.note(Object::Chain(chain.to_owned()));
        self.batch.delete_rule(self.table, chain, handle);
    }

    /// A set or map is there.
    pub fn add_set(&mut self, name: &str, spec: &SetSpec) {
        self.note(Object::Set(name.to_owned()));
        self.batch.add_set(self.table, name, spec);
    }

    /// A set or map goes.
    pub fn delete_set(&mut self, name: &str) {
        self.note(Object::Set(name.to_owned()));
        self.batch.delete_set(self.table, name);
    }

    /// Elements go in.
    pub fn add_elements<'e>(&mut self, set: &str, elements: impl IntoIterator<Item = &'e Element>) {
        let mut elements = elements.into_iter().cloned();
        loop {
            let some: Vec<Element> = elements.by_ref().take(ELEMENTS_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            self.note(Object::Set(set.to_owned()));
            self.batch.add_elements(self.table, set, &some);
        }
    }

    /// Elements go out.
    pub fn delete_elements<'e>(&mut self, set: &str, elements: impl IntoIterator<Item = &'e Element>) {
        let mut elements = elements.into_iter().cloned();
        loop {
            let some: Vec<Element> = elements.by_ref().take(ELEMENTS_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            self.note(Object::Set(set.to_owned()));
            self.batch.delete_elements(self.table, set, &some);
        }
    }

    /// Nothing refers to what was written so far: it may be carried out now, if there is much of it.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn may_commit(&mut self) -> Result<(), Failure> {
        if self.is_whole || self.batch.len() < CHUNK {
            return Ok(());
        }
        self.commit()
    }

    /// Carries out what was written.
    ///
    /// # Errors
    /// When the kernel refuses; nothing since the last commit is done then.
    pub fn commit(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let objects = std::mem::take(&mut self.objects);
        let messages = batch.next_message();
        let refusals = self.kernel.commit(batch)?;
        if refusals.is_empty() {
            self.messages += messages;
            return Ok(());
        }
        let mut refused = Vec::new();
        for refusal in refusals {
            let Some(message) = refusal.message else {
                let what = "write nftables".to_owned();
                let errno = caracal_linux::Errno(refusal.errno);
                return Err(Failure::Kernel(Error::Kernel { what, errno }));
            };
            let behind = objects.partition_point(|(first, _)| *first <= message);
            let object = behind.checked_sub(1).and_then(|index| objects.get(index));
            refused.extend(object.map(|(_, object)| (object.clone(), refusal.errno)));
        }
        Err(Failure::Refused(refused))
    }
}
