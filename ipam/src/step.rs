//! The steps of the protocol that keep addresses from being given twice or lost, by name.
//!
//! In a test one of them can be taken out, to see that the test notices. Elsewhere all of them are taken, and the
//! compiler knows it.

macro_rules! steps {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// A step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Step {
            $($(#[doc = $doc])* $name,)*
        }

        #[cfg(test)]
        impl Step {
            /// All steps.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

steps! {
    /// Blocks are written in the state in which they were read.
    CompareBlock,
    /// Handles are written in the state in which they were read.
    CompareHandle,
    /// A handle counts an address before its block has it.
    CountFirst,
    /// An address whose write had no answer is looked for before another is taken.
    LookForLost,
    /// A release whose answer was lost is not repeated for an address that was assigned anew.
    NoticeReassigned,
    /// A block is written before a handle is counted anew.
    FenceHandle,
    /// An object is marked by compare-and-swap before it is deleted.
    MarkFirst,
    /// Only the object that was marked is deleted, not another of its name.
    DeleteByUid,
    /// An affinity is pendingDeletion before its block goes.
    AnnounceRelease,
    /// An affinity that was not found is made, as pendingDeletion, before its block goes.
    ProveMissing,
    /// A block is written before a pending affinity for it is confirmed.
    FenceClaim,
    /// The journal of a reserve is written before an address is promised.
    JournalFirst,
    /// A journal has a handle of its own.
    OwnHandle,
    /// What the journal does not know is taken up only from a block that could be written.
    ProveUnknown,
}

/// True when a test has taken the step out.
#[cfg(not(test))]
pub(crate) const fn is_left_out(_: Step) -> bool {
    false
}

/// True when a test has taken the step out.
#[cfg(test)]
pub(crate) fn is_left_out(step: Step) -> bool {
    crate::sim::left_out() == Some(step)
}
