//! One block with a queue: whoever comes first writes for all that wait.
//!
//! Holds the block as it was last written or read; never trusts it further than the next compare-and-swap.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use caracal_api::v3::{IPAMBlock, IPAMConfigurationSpec};
use ipnet::IpNet;
use tokio::sync::oneshot;

use crate::block::{Assignment, Block, Owner};
use crate::clock;
use crate::store::Store;

/// Writes against others who change the same block, before it is left to the long way.
const ATTEMPTS_MAX: usize = 20;
/// How long a block that was found full is not tried again; releases through the same desk end that at once.
const FULL_PAUSE: Duration = Duration::from_secs(30);

/// Under which terms addresses are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) owner: &'a Owner,
    pub(super) configuration: &'a IPAMConfigurationSpec,
    pub(super) reserved: &'a [IpNet],
}

/// What is to be done to the block.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Take one address.
    Take {
        handle: String,
        attributes: BTreeMap<String, String>,
    },
    /// Let go all addresses of a handle.
    Release { handle: String },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This address is written.
    Took(IpAddr),
    /// There is no address left; nothing is written.
    Nothing,
    /// It is written that the handle holds nothing here.
    Released,
    /// It may or may not be written.
    Unsure,
}

#[derive(Debug)]
struct Ticket {
    work: Work,
    answer: oneshot::Sender<Answer>,
}

/// The block and its queue.
#[derive(Debug)]
pub(super) struct Desk {
    cidr: IpNet,
    waiting: Mutex<Vec<Ticket>>,
    known: tokio::sync::Mutex<Option<IPAMBlock>>,
    is_full: AtomicBool,
    full_since: Mutex<Option<Instant>>,
    /// Free addresses as of the last write.
    free: AtomicUsize,
}

impl Desk {
    pub(super) fn new(cidr: IpNet) -> Self {
        Self {
            cidr,
            waiting: Mutex::new(Vec::new()),
            known: tokio::sync::Mutex::new(None),
            is_full: AtomicBool::new(false),
            full_since: Mutex::new(None),
            free: AtomicUsize::new(usize::MAX),
        }
    }

    pub(super) const fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// False shortly after the block was found full.
    pub(super) fn has_room(&self) -> bool {
        if !self.is_full.load(Ordering::Relaxed) {
            return true;
        }
        let since = *self.full_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_none_or(|since| since.elapsed() > FULL_PAUSE)
    }

    /// True when an eighth of the block or less is free, as of the last write.
    pub(super) fn runs_short(&self) -> bool {
        let host_bits = u32::from(self.cidr.max_prefix_len() - self.cidr.prefix_len());
        let size = 1usize.checked_shl(host_bits).unwrap_or(usize::MAX);
        self.free.load(Ordering::Relaxed) <= size / 8
    }

    fn set_full(&self, full: bool) {
        self.is_full.store(full, Ordering::Relaxed);
        let mut since = self.full_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = full.then(Instant::now);
    }

    /// Queues a piece of work and waits until somebody, perhaps this caller, has written it.
    pub(super) async fn submit(&self, store: &Store, terms: Terms<'_>, work: Work) -> Answer {
        let (answer, mut written) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Ticket { work, answer });
        let mut known = self.known.lock().await;
        if let Ok(answer) = written.try_recv() {
            return answer;
        }
        let tickets = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let works: Vec<&Work> = tickets.iter().map(|ticket| &ticket.work).collect();
        let answers = self.write(store, terms, &mut known, &works).await;
        for (ticket, answer) in tickets.into_iter().zip(answers) {
            // Whoever stopped waiting finds what is written under its handle.
            let _ = ticket.answer.send(answer);
        }
        written.try_recv().unwrap_or(Answer::Unsure)
    }

    /// The handle of an address as of the last write.
    pub(super) async fn holder(&self, address: IpAddr) -> Option<String> {
        let known = self.known.lock().await;
        let block = Block::from_spec(known.as_ref()?.spec.clone()).ok()?;
        let (attribute, _) = block.assignment(address)?;
        attribute.handle_id.clone()
    }

    async fn write(
        &self,
        store: &Store,
        terms: Terms<'_>,
        known: &mut Option<IPAMBlock>,
        works: &[&Work],
    ) -> Vec<Answer> {
        for _ in 0..ATTEMPTS_MAX {
            let was_known = known.is_some();
            let stored = match known.take() {
                Some(stored) => stored,
                None => match store.block(&self.cidr).await {
                    Ok(Some(stored)) => stored,
                    Ok(None) | Err(_) => break,
                },
            };
            let Some((block, answers)) = apply(&stored, terms, works) else {
                break;
            };
            let lacks = answers.contains(&Answer::Nothing);
            if lacks && was_known {
                // Others may have released since.
                continue;
            }
            self.set_full(lacks || block.free() == 0);
            self.free.store(block.free(), Ordering::Relaxed);
            if answers.iter().all(|answer| *answer == Answer::Nothing) {
                *known = Some(stored);
                return answers;
            }
            let object = IPAMBlock {
                spec: block.into_spec(),
                ..stored
            };
            match store.write(&object).await {
                Ok(written) => {
                    *known = Some(written);
                    return answers;
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    tracing::debug!(%error, block = %self.cidr, "a block could not be written the short way");
                    break;
                }
            }
        }
        vec![Answer::Unsure; works.len()]
    }
}

/// All work on a block, in order. `None` when the block is damaged or of another owner: not for the short way.
fn apply(stored: &IPAMBlock, terms: Terms<'_>, works: &[&Work]) -> Option<(Block, Vec<Answer>)> {
    let mut block = Block::from_spec(stored.spec.clone()).ok()?;
    if !block.is_of(terms.owner) {
        return None;
    }
    let now = clock::now();
    let cooldown = terms.configuration.ip_cooldown_seconds;
    block.collect(cooldown, now);
    let mut answers = Vec::with_capacity(works.len());
    for work in works {
        answers.push(match work {
            Work::Take { handle, attributes } => {
                let want = Assignment {
                    owner: terms.owner,
                    handle: Some(handle),
                    attributes,
                    strict: terms.configuration.strict_affinity,
                };
                let taken = block.auto_assign(1, &want, terms.reserved).ok()?;
                taken.first().copied().map_or(Answer::Nothing, Answer::Took)
            }
            Work::Release { handle } => {
                block.release_by_handle(handle, now);
                Answer::Released
            }
        });
    }
    block.collect(cooldown, now);
    block.bump();
    Some((block, answers))
}
