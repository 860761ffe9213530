//! The memory that the operators of all queries share.
//!
//! DataFusion's fair pool gives each operator that can spill an equal part of what the others leave, and lets one that is alone take
//! everything. A sort that has filled the memory so has none left to merge with, and whoever comes next finds nothing at all. Here
//! - an operator that can spill takes no more than a part for each partition of a sort, as if one sort were always there;
//! - all of them together leave a part for what can't spill: merges, hash joins and groups that are on their way out;
//! - nothing is promised twice: together they never hold more than the limit.
//!
//! An operator that is refused spills what it has, or ends in an error, which names the operators that hold most.

use std::fmt;

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use parking_lot::Mutex;

/// What the fair shares of operators that can spill are parts of, in percent of the limit.
const SHARED_PERCENT: usize = 60;

/// What operators that can spill hold together at most, in percent of the limit: newcomers find room beside those that came before.
const SPILLABLE_PERCENT: usize = 80;

/// A pool of so many bytes.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    limit: usize,
    /// How many partitions a sort has.
    partitions: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    spillers: usize,
    /// By operators that can spill, in bytes.
    spillable: usize,
    /// By all others, in bytes.
    fixed: usize,
}

impl QueryMemory {
    pub(crate) fn new(limit: usize, partitions: usize) -> Self {
        Self { limit, partitions: partitions.max(1), held: Mutex::default() }
    }

    /// What an operator may still take, in bytes.
    fn room(&self, held: &Held, reservation: &MemoryReservation) -> usize {
        let free = self.limit.saturating_sub(held.spillable + held.fixed);
        if !reservation.consumer().can_spill() {
            return free;
        }
        let share = self.limit / 100 * SHARED_PERCENT / held.spillers.max(self.partitions);
        let together = (self.limit / 100 * SPILLABLE_PERCENT).saturating_sub(held.spillable);
        free.min(together).min(share.saturating_sub(reservation.size()))
    }
}

impl Held {
    fn part(&mut self, consumer: &MemoryConsumer) -> &mut usize {
        if consumer.can_spill() { &mut self.spillable } else { &mut self.fixed }
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query_memory"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.held.lock().spillers += usize::from(consumer.can_spill());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        let mut held = self.held.lock();
        held.spillers = held.spillers.saturating_sub(usize::from(consumer.can_spill()));
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.held.lock().part(reservation.consumer()) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut held = self.held.lock();
        let part = held.part(reservation.consumer());
        *part = part.saturating_sub(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut held = self.held.lock();
        let room = self.room(&held, reservation);
        if additional > room {
            return Err(resources_datafusion_err!(
                "{} asked for {} beside the {} that it holds, and may have {} more of {}",
                reservation.consumer().name(),
                human_readable_size(additional),
                human_readable_size(reservation.size()),
                human_readable_size(room),
                human_readable_size(self.limit)
            ));
        }
        *held.part(reservation.consumer()) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let held = self.held.lock();
        held.spillable + held.fixed
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), human_readable_size(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LIMIT: usize = 1000;

    fn pool() -> Arc<dyn MemoryPool> {
        Arc::new(QueryMemory::new(LIMIT, 2))
    }

    fn spiller(pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
        MemoryConsumer::new("sort").with_can_spill(true).register(pool)
    }

    #[test]
    fn sort_alone_leaves_room_for_its_merge() {
        let pool = pool();
        let (one, two) = (spiller(&pool), spiller(&pool));
        one.try_grow(300).unwrap();
        assert!(one.try_grow(1).is_err(), "a partition has its part, even before the other has come");
        two.try_grow(300).unwrap();
        let merge = MemoryConsumer::new("merge").register(&pool);
        merge.try_grow(400).unwrap();
        let message = merge.try_grow(1).unwrap_err().to_string();
        assert!(message.contains("merge asked for 1"), "{message}");
        drop((one, two, merge));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn newcomer_finds_room_and_those_before_it_give_way_when_they_grow() {
        let pool = pool();
        let (one, two) = (spiller(&pool), spiller(&pool));
        one.try_grow(300).unwrap();
        two.try_grow(300).unwrap();
        let (three, four) = (spiller(&pool), spiller(&pool));
        three.try_grow(150).unwrap();
        four.try_grow(50).unwrap();
        assert!(four.try_grow(1).is_err(), "together they leave a part to those that can't spill");
        assert!(one.try_grow(1).is_err(), "it has more than its share now, and spills");
        one.free();
        four.try_grow(100).unwrap();
        one.try_grow(150).unwrap();
    }

    #[test]
    fn what_cannot_spill_takes_what_is_free_and_no_more() {
        let pool = pool();
        let join = MemoryConsumer::new("join").register(&pool);
        join.try_grow(1000).unwrap();
        assert!(join.try_grow(1).is_err());
        assert!(spiller(&pool).try_grow(1).is_err());
    }
}
