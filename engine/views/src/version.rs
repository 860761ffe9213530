//! What a view shows: immutable versions of its rows, one for each epoch that changed them.
//!
//! A version is a list of chunks, each a record batch with a mask of the rows that are still there; versions share the chunks that they have in
//! common. An epoch copies the masks of the chunks whose rows it took away and adds one chunk for what came. Chunks are merged as they come, so
//! that there are a logarithm of the rows of small ones, and a chunk of which half is gone is written anew.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use hashbrown::HashTable;

use crate::arrangement::narrow;
use crate::delta::{batch, sums, take_columns};
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
    /// The number of a row's entry.
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    chunks: Vec<Arc<Chunk>>,
    /// The entries of the rows of each chunk, those that are gone among them.
    numbers: Vec<Vec<u32>>,
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

/// Rows that came: where they are in what changed, their weights, and their entries.
#[derive(Debug, Default)]
struct Come {
    rows: Vec<u32>,
    weights: Vec<i64>,
    numbers: Vec<u32>,
}

impl Output {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        let codec = Codec::new(schema.fields().iter().map(|field| field.data_type()))?;
        let loose = crate::delta::loosened(&schema);
        let (index, heap) = (HashTable::new(), 0);
        Ok(Self { schema, loose, codec, index, entries: vec![], free: vec![], chunks: vec![], numbers: vec![], heap })
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
        let numbers: usize = self.numbers.iter().map(Vec::capacity).sum();
        self.heap
            + self.entries.capacity() * size_of::<Entry>()
            + self.index.capacity() * (size_of::<u32>() + 1)
            + (numbers + self.free.capacity()) * size_of::<u32>()
            + chunks
    }

    /// Applies an epoch's deltas. Returns what they come to: each row once, with the weight that it gained or lost.
    pub(crate) fn apply(&mut self, deltas: &[Delta]) -> Result<Delta> {
        let changes: Vec<(Bytes, i64)> = sums(&self.codec, deltas)?.into_iter().collect();
        let columns = self.codec.decode(changes.iter().map(|(row, _)| row.as_slice()))?;
        let changed = batch(&self.loose, columns, changes.len())?;
        let mut come = Come::default();
        let mut dead: Vec<Vec<u32>> = vec![vec![]; self.chunks.len()];
        let mut weights = Vec::with_capacity(changes.len());
        for (place, (row, change)) in changes.into_iter().enumerate() {
            weights.push(change);
            let hashed = hash(row.as_slice());
            let entries = &self.entries;
            let known = self.index.find_entry(hashed, |number| entries[*number as usize].row == row);
            let before = match &known {
                Ok(known) => {
                    let entry = &self.entries[*known.get() as usize];
                    dead[entry.chunk as usize].push(entry.place);
                    entry.weight
                }
                Err(_) => 0,
            };
            let now = before + change;
            match known {
                _ if now < 0 => return Err(Error::invariant("a row of the view is there less than no times")),
                Ok(known) if now == 0 => {
                    let (number, _) = known.remove();
                    self.forget(number);
                }
                Ok(known) => {
                    let number = *known.get();
                    self.entries[number as usize].weight = now;
                    come.push(narrow(place), now, number);
                }
                Err(_) => {
                    let number = self.enter(Entry { row, weight: now, chunk: 0, place: 0 });
                    let entries = &self.entries;
                    self.index.insert_unique(hashed, number, |number| hash(entries[*number as usize].row.as_slice()));
                    come.push(narrow(place), now, number);
                }
            }
        }
        self.bury(dead);
        for from in (0..come.rows.len()).step_by(CHUNK_ROWS) {
            self.push(&changed, &come, from..come.rows.len().min(from + CHUNK_ROWS))?;
        }
        self.compact()?;
        Delta::new(changed, weights)
    }

    fn enter(&mut self, entry: Entry) -> u32 {
        self.heap += entry.row.heap();
        if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            return number;
        }
        self.entries.push(entry);
        narrow(self.entries.len() - 1)
    }

    fn forget(&mut self, number: u32) {
        let gone = std::mem::replace(&mut self.entries[number as usize].row, Bytes::from(&[][..]));
        self.heap -= gone.heap();
        self.free.push(number);
    }

    fn bury(&mut self, dead: Vec<Vec<u32>>) {
        for (chunk, places) in dead.into_iter().enumerate().filter(|(_, places)| !places.is_empty()) {
            let chunk = Arc::make_mut(&mut self.chunks[chunk]);
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

    /// Adds a chunk of some of the rows that came.
    fn push(&mut self, changed: &RecordBatch, come: &Come, of: Range<usize>) -> Result<()> {
        let rows = take_columns(changed.columns(), &come.rows[of.clone()])?;
        let rows = batch(&self.loose, rows, of.len())?;
        let (weights, numbers) = (&come.weights[of.clone()], come.numbers[of].to_vec());
        self.chunks.push(Arc::new(Chunk {
            live_rows: rows.num_rows(),
            rows,
            weights: weights.iter().any(|weight| *weight != 1).then(|| weights.into()),
            live: None,
        }));
        self.numbers.push(numbers);
        self.place(self.chunks.len() - 1);
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
                Some((chunk, numbers)) => {
                    (self.chunks[place], self.numbers[place]) = (Arc::new(chunk), numbers);
                    self.place(place);
                }
                None => {
                    // The last chunk takes its place, so that no other has to be renumbered.
                    self.chunks.swap_remove(place);
                    self.numbers.swap_remove(place);
                    if place < self.chunks.len() {
                        self.place(place);
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
        self.numbers.truncate(first);
        if let Some((chunk, numbers)) = merged {
            self.chunks.push(Arc::new(chunk));
            self.numbers.push(numbers);
            self.place(first);
        }
        Ok(())
    }

    /// The live rows of some chunks in one, with their entries; `None` where there are none.
    fn gather(&self, places: &[usize]) -> Result<Option<(Chunk, Vec<u32>)>> {
        let (mut batches, mut weights, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (chunk, of_chunk) in places.iter().map(|place| (&self.chunks[*place], &self.numbers[*place])) {
            let once = Chunk { weights: None, ..chunk.as_ref().clone() };
            batches.push(once.read(&self.loose)?);
            weights.extend(
                chunk.places().map(|place| chunk.weights.as_ref().map_or(1, |weights| weights[place as usize])),
            );
            numbers.extend(chunk.places().map(|place| of_chunk[place as usize]));
        }
        let rows = arrow::compute::concat_batches(&self.loose, &batches)?;
        let live_rows = rows.num_rows();
        let weights = weights.iter().any(|weight| *weight != 1).then(|| weights.into());
        Ok((live_rows > 0).then_some((Chunk { rows, weights, live: None, live_rows }, numbers)))
    }

    /// Tells the entries of a chunk's rows where they stand.
    fn place(&mut self, number: usize) {
        for place in self.chunks[number].places() {
            let entry = &mut self.entries[self.numbers[number][place as usize] as usize];
            (entry.chunk, entry.place) = (narrow(number), place);
        }
    }
}

impl Come {
    fn push(&mut self, row: u32, weight: i64, number: u32) {
        self.rows.push(row);
        self.weights.push(weight);
        self.numbers.push(number);
    }
}
