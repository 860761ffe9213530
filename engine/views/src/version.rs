//! What a view shows: immutable versions of its rows, one for each epoch that changed them.
//!
//! A version is a list of chunks, each a record batch with a mask of the rows that are still there; versions share the chunks that they have in
//! common. An epoch copies the masks of the chunks whose rows it took away and adds one chunk for what came. Chunks are merged as they come, so
//! that there are a logarithm of the rows of small ones, and a chunk of which half is gone is written anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use hashbrown::HashTable;

use crate::arrangement::narrow;
use crate::delta::{batch, sums};
use crate::rows::{Bytes, Codec, hash};
use crate::{Delta, Error, Result};

/// A chunk of at least so many rows is merged with no other.
const CHUNK_ROWS: usize = 65_536;

/// The rows of a view at an epoch. Never changes.
#[derive(Debug, Clone)]
pub struct Version {
    schema: SchemaRef,
    chunks: Vec<Arc<Chunk>>,
}

#[derive(Debug, Clone)]
struct Chunk {
    rows: RecordBatch,
    /// How often each row is there; `None` where each is there once.
    weights: Option<Arc<[i64]>>,
    /// The rows that are there; `None` where all are.
    live: Option<BooleanBuffer>,
    live_rows: usize,
}

impl Version {
    /// A version without rows.
    pub fn empty(schema: SchemaRef) -> Self {
        Self { schema, chunks: vec![] }
    }

    /// The view's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.count()).sum()
    }

    /// The rows.
    pub fn batches(&self) -> Result<Vec<RecordBatch>> {
        self.chunks.iter().filter(|chunk| chunk.live_rows > 0).map(|chunk| chunk.read(&self.schema)).collect()
    }

    /// The rows as what came: each different row once, with how often it is there.
    pub fn deltas(&self) -> Result<Vec<Delta>> {
        self.chunks.iter().filter(|chunk| chunk.live_rows > 0).map(|chunk| chunk.delta(&self.schema)).collect()
    }
}

impl Chunk {
    fn count(&self) -> usize {
        match &self.weights {
            None => self.live_rows,
            Some(weights) => {
                let counts = self.places().map(|place| usize::try_from(weights[place as usize]).unwrap_or(0));
                counts.sum()
            }
        }
    }

    fn places(&self) -> impl Iterator<Item = u32> + '_ {
        let rows = narrow(self.rows.num_rows());
        (0..rows).filter(|place| self.live.as_ref().is_none_or(|live| live.value(*place as usize)))
    }

    fn delta(&self, schema: &SchemaRef) -> Result<Delta> {
        let once = Self { weights: None, ..self.clone() };
        let weights = self.places().map(|place| self.weights.as_ref().map_or(1, |weights| weights[place as usize]));
        Delta::new(once.read(schema)?, weights.collect::<Vec<_>>())
    }

    fn read(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = crate::delta::under(schema, &self.rows)?;
        match (&self.weights, &self.live) {
            (None, None) => Ok(rows),
            (None, Some(live)) => {
                Ok(arrow::compute::filter_record_batch(&rows, &BooleanArray::new(live.clone(), None))?)
            }
            (Some(weights), _) => {
                let repeated = self.places().flat_map(|place| {
                    std::iter::repeat_n(place, usize::try_from(weights[place as usize]).unwrap_or(0))
                });
                Ok(take_record_batch(&rows, &UInt32Array::from_iter_values(repeated))?)
            }
        }
    }
}

/// Makes versions out of deltas.
#[derive(Debug)]
pub(crate) struct Output {
    schema: SchemaRef,
    loose: SchemaRef,
    codec: Codec,
    index: HashTable<Entry>,
    chunks: Vec<Arc<Chunk>>,
    heap: usize,
}

/// Where a row stands, and how often it is there.
#[derive(Debug)]
struct Entry {
    row: Bytes,
    weight: i64,
    chunk: u32,
    place: u32,
}

impl Output {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        let codec = Codec::new(schema.fields().iter().map(|field| field.data_type()))?;
        let loose = crate::delta::loosened(&schema);
        Ok(Self { schema, loose, codec, index: HashTable::new(), chunks: vec![], heap: 0 })
    }

    pub(crate) fn version(&self) -> Version {
        Version { schema: Arc::clone(&self.schema), chunks: self.chunks.clone() }
    }

    /// The columns, all nullable: those of deltas.
    pub(crate) fn loose(&self) -> &SchemaRef {
        &self.loose
    }

    pub(crate) fn rows(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.rows.get_array_memory_size()).sum();
        self.heap + self.index.capacity() * (size_of::<Entry>() + 1) + chunks
    }

    /// Applies an epoch's deltas. Returns what they come to: each row once, with the weight that it gained or lost.
    pub(crate) fn apply(&mut self, deltas: &[Delta]) -> Result<Delta> {
        let change = sums(&self.codec, deltas)?;
        let (mut rows, mut weights) = (Vec::with_capacity(change.len()), Vec::with_capacity(change.len()));
        let (mut come, mut come_weights) = (Vec::new(), Vec::new());
        let mut dead: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, change) in &change {
            let hashed = hash(row.as_slice());
            let mut now = *change;
            if let Ok(entry) = self.index.find_entry(hashed, |entry| entry.row == *row) {
                now += entry.get().weight;
                dead.entry(entry.get().chunk).or_default().push(entry.get().place);
                let (gone, _) = entry.remove();
                self.heap -= gone.row.heap();
            }
            if now < 0 {
                return Err(Error::invariant("a row of the view is there less than no times"));
            }
            if now > 0 {
                come.push(row);
                come_weights.push(now);
            }
            rows.push(row.as_slice());
            weights.push(*change);
        }
        self.bury(dead);
        for (rows, weights) in come.chunks(CHUNK_ROWS).zip(come_weights.chunks(CHUNK_ROWS)) {
            self.push(rows, weights)?;
        }
        self.compact()?;
        let columns = self.codec.decode(rows.iter().copied())?;
        Delta::new(batch(&self.loose, columns, rows.len())?, weights)
    }

    fn bury(&mut self, dead: BTreeMap<u32, Vec<u32>>) {
        for (chunk, places) in dead {
            let chunk = Arc::make_mut(&mut self.chunks[chunk as usize]);
            let rows = chunk.rows.num_rows();
            let mut live = BooleanBufferBuilder::new(rows);
            match &chunk.live {
                Some(mask) => live.append_buffer(mask),
                None => live.append_n(rows, true),
            }
            places.iter().for_each(|place| live.set_bit(*place as usize, false));
            chunk.live_rows -= places.len();
            chunk.live = Some(live.finish());
        }
    }

    fn push(&mut self, rows: &[&Bytes], weights: &[i64]) -> Result<()> {
        let columns = self.codec.decode(rows.iter().map(|row| row.as_slice()))?;
        let number = narrow(self.chunks.len());
        for (place, (row, weight)) in rows.iter().zip(weights).enumerate() {
            let entry = Entry { row: (*row).clone(), weight: *weight, chunk: number, place: narrow(place) };
            self.heap += entry.row.heap();
            self.index.insert_unique(hash(row.as_slice()), entry, |entry| hash(entry.row.as_slice()));
        }
        self.chunks.push(Arc::new(Chunk {
            rows: batch(&self.loose, columns, rows.len())?,
            weights: weights.iter().any(|weight| *weight != 1).then(|| weights.into()),
            live: None,
            live_rows: rows.len(),
        }));
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        while let [.., before, last] = &self.chunks[..]
            && before.live_rows < CHUNK_ROWS
            && before.live_rows <= 2 * last.live_rows
        {
            self.merge(self.chunks.len() - 2)?;
        }
        let half_gone = |chunk: &Arc<Chunk>| chunk.live_rows * 2 < chunk.rows.num_rows();
        while let Some(place) = self.chunks.iter().position(half_gone) {
            match self.gather(&[place])? {
                Some(chunk) => {
                    self.chunks[place] = Arc::new(chunk);
                    self.relocate(place)?;
                }
                None => {
                    // The last chunk takes its place, so that no other has to be renumbered.
                    self.chunks.swap_remove(place);
                    if place < self.chunks.len() {
                        self.relocate(place)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Merges the chunks from `first` on.
    fn merge(&mut self, first: usize) -> Result<()> {
        let places: Vec<usize> = (first..self.chunks.len()).collect();
        let merged = self.gather(&places)?;
        self.chunks.truncate(first);
        if let Some(chunk) = merged {
            self.chunks.push(Arc::new(chunk));
            self.relocate(first)?;
        }
        Ok(())
    }

    /// The live rows of some chunks in one; `None` where there are none.
    fn gather(&self, places: &[usize]) -> Result<Option<Chunk>> {
        let (mut batches, mut weights) = (Vec::new(), Vec::new());
        for chunk in places.iter().map(|place| &self.chunks[*place]) {
            let once = Chunk { weights: None, ..chunk.as_ref().clone() };
            batches.push(once.read(&self.loose)?);
            weights.extend(
                chunk.places().map(|place| chunk.weights.as_ref().map_or(1, |weights| weights[place as usize])),
            );
        }
        let rows = arrow::compute::concat_batches(&self.loose, &batches)?;
        let live_rows = rows.num_rows();
        let weights = weights.iter().any(|weight| *weight != 1).then(|| weights.into());
        Ok((live_rows > 0).then_some(Chunk { rows, weights, live: None, live_rows }))
    }

    /// Tells the index where the rows of a chunk stand.
    fn relocate(&mut self, number: usize) -> Result<()> {
        let chunk = Arc::clone(&self.chunks[number]);
        let rows = self.codec.encode(chunk.rows.columns(), chunk.rows.num_rows())?;
        for place in chunk.places() {
            let bytes = rows.bytes(place as usize);
            let entry = self
                .index
                .find_mut(hash(bytes), |entry| entry.row.as_slice() == bytes)
                .ok_or_else(|| Error::invariant("a row of a version is not in its index"))?;
            (entry.chunk, entry.place) = (narrow(number), place);
        }
        Ok(())
    }
}
