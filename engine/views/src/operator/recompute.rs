//! What no operator follows by deltas: DataFusion computes it anew over the rows that an epoch touches, and the difference goes on.
//!
//! [`Recompute`] keeps its inputs as multisets and its last output. Where a plan treats the rows of each key apart from those of others (a
//! window by its partition, a group by its key), only touched keys are computed anew; otherwise everything is. [`RowWise`] keeps nothing:
//! a plan that treats each row apart from the others is computed over the rows that come and those that go.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use hashbrown::{HashMap, HashSet};

use super::{Changes, Description, Expression, Mode, Operator, evaluate};
use crate::arrangement::Arrangement;
use crate::delta::{batch, under};
use crate::plan::Evaluator;
use crate::rows::{Bytes, Codec, Fixed, keyed};
use crate::{Delta, Error, Result};

#[derive(Debug)]
pub(crate) struct Recompute {
    name: String,
    evaluator: Arc<Evaluator>,
    /// Reads its inputs by their places.
    plan: LogicalPlan,
    inputs: Vec<Kept>,
    output: Arrangement,
    /// The key of each row of the output; none where everything is computed anew.
    output_keys: Vec<Expression>,
    key_codec: Codec,
    codec: Codec,
    schema: SchemaRef,
}

#[derive(Debug)]
struct Kept {
    input: Box<dyn Operator>,
    keys: Vec<Expression>,
    key_codec: Codec,
    codec: Codec,
    rows: Arrangement,
    /// The schema that the plan knows, with its own nullability.
    strict: SchemaRef,
}

#[derive(Debug)]
pub(crate) struct RowWise {
    pub(crate) name: String,
    pub(crate) evaluator: Arc<Evaluator>,
    pub(crate) plan: LogicalPlan,
    pub(crate) input: Box<dyn Operator>,
    pub(crate) strict: SchemaRef,
    pub(crate) schema: SchemaRef,
}

type Touched = HashSet<Bytes, Fixed>;

impl Recompute {
    /// Computes all of it anew.
    pub(crate) fn whole(
        name: String,
        evaluator: Arc<Evaluator>,
        plan: LogicalPlan,
        inputs: Vec<(Box<dyn Operator>, SchemaRef)>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let inputs =
            inputs.into_iter().map(|(input, strict)| Kept::new(input, vec![], strict)).collect::<Result<_>>()?;
        Self::new(name, evaluator, plan, inputs, vec![], schema)
    }

    /// Computes the touched keys anew. The keys are of the input and of the output in turn.
    pub(crate) fn by_key(
        name: String,
        evaluator: Arc<Evaluator>,
        plan: LogicalPlan,
        input: (Box<dyn Operator>, SchemaRef),
        keys: (Vec<Expression>, Vec<Expression>),
        schema: SchemaRef,
    ) -> Result<Self> {
        Self::new(name, evaluator, plan, vec![Kept::new(input.0, keys.0, input.1)?], keys.1, schema)
    }

    fn new(
        name: String,
        evaluator: Arc<Evaluator>,
        plan: LogicalPlan,
        inputs: Vec<Kept>,
        output_keys: Vec<Expression>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let types = output_keys.iter().map(|key| Ok(key.data_type(&schema)?)).collect::<Result<Vec<_>>>()?;
        let codec = Codec::new(schema.fields().iter().map(|field| field.data_type()))?;
        let key_codec = Codec::new(&types)?;
        let output = Arrangement::default();
        Ok(Self { name, evaluator, plan, inputs, output, output_keys, key_codec, codec, schema })
    }

    /// The rows of the touched keys as DataFusion computes them now, with their keys.
    fn compute(&self, touched: &Touched) -> Result<Vec<RecordBatch>> {
        let inputs = self.inputs.iter().map(|kept| kept.batches(touched)).collect::<Result<Vec<_>>>()?;
        self.evaluator.run(&self.plan, inputs)
    }

    /// How often each row of the touched keys is there more than before.
    fn difference(&self, touched: &Touched) -> Result<HashMap<Bytes, (Bytes, i64), Fixed>> {
        let mut change: HashMap<Bytes, (Bytes, i64), Fixed> = HashMap::default();
        for key in touched {
            for row in self.output.get(key.as_slice()).map_or(&[][..], |group| group.rows()) {
                change.insert(row.value().into(), (key.clone(), -row.weight));
            }
        }
        for rows in self.compute(touched)? {
            let rows = under(&self.schema, &rows)?;
            let keys = self.output_keys.iter().map(|key| evaluate(key, &rows)).collect::<Result<Vec<_>>>()?;
            let keys = self.key_codec.encode(&keyed(keys), rows.num_rows())?;
            let encoded = self.codec.encode(rows.columns(), rows.num_rows())?;
            for row in 0..rows.num_rows() {
                match change.get_mut(encoded.bytes(row)) {
                    Some((_, weight)) => *weight += 1,
                    None => {
                        change.insert(encoded.bytes(row).into(), (keys.bytes(row).into(), 1));
                    }
                }
            }
        }
        Ok(change)
    }
}

impl Kept {
    fn new(input: Box<dyn Operator>, keys: Vec<Expression>, strict: SchemaRef) -> Result<Self> {
        let schema = input.schema();
        let types = keys.iter().map(|key| Ok(key.data_type(schema)?)).collect::<Result<Vec<_>>>()?;
        let key_codec = Codec::new(&types)?;
        let codec = Codec::new(schema.fields().iter().map(|field| field.data_type()))?;
        Ok(Self { input, keys, key_codec, codec, rows: Arrangement::default(), strict })
    }

    fn step(&mut self, changes: &Changes, touched: &mut Touched) -> Result<()> {
        for delta in self.input.step(changes)? {
            let keys = self.keys.iter().map(|key| evaluate(key, delta.rows())).collect::<Result<Vec<_>>>()?;
            let keys = self.key_codec.encode(&keyed(keys), delta.len())?;
            let rows = self.codec.encode(delta.columns(), delta.len())?;
            for (row, weight) in delta.weights().iter().enumerate() {
                self.rows.add(keys.bytes(row), rows.bytes(row), *weight);
                if !touched.contains(keys.bytes(row)) {
                    touched.insert(keys.bytes(row).into());
                }
            }
        }
        Ok(())
    }

    /// The rows of the touched keys, in an order that depends on nothing but them.
    fn batches(&self, touched: &Touched) -> Result<Vec<RecordBatch>> {
        let mut rows: Vec<&[u8]> = Vec::new();
        for key in touched {
            for row in self.rows.get(key.as_slice()).map_or(&[][..], |group| group.rows()) {
                let times = usize::try_from(row.weight)
                    .map_err(|_| Error::invariant("a row to compute with is there less than no times"))?;
                rows.extend(std::iter::repeat_n(row.value(), times));
            }
        }
        rows.sort_unstable();
        let batches = rows
            .chunks(super::join::BATCH_ROWS)
            .map(|rows| batch(&self.strict, self.codec.decode(rows.iter().copied())?, rows.len()));
        batches.collect()
    }
}

impl Operator for Recompute {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let mut touched = Touched::default();
        for kept in &mut self.inputs {
            kept.step(changes, &mut touched)?;
        }
        if changes.first && self.output_keys.is_empty() {
            touched.insert(Bytes::from(&[][..]));
        }
        if touched.is_empty() {
            return Ok(vec![]);
        }
        let change = self.difference(&touched)?;
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        for (row, (key, weight)) in change.iter().filter(|(_, (_, weight))| *weight != 0) {
            self.output.add(key.as_slice(), row.as_slice(), *weight);
            rows.push(row.as_slice());
            weights.push(*weight);
        }
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let columns = self.codec.decode(rows.iter().copied())?;
        Ok(vec![Delta::new(batch(&self.schema, columns, rows.len())?, weights)?])
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        let rows = self.output.rows() + self.inputs.iter().map(|kept| kept.rows.rows()).sum::<usize>();
        let bytes = self.output.bytes() + self.inputs.iter().map(|kept| kept.rows.bytes()).sum::<usize>();
        let mode = if self.output_keys.is_empty() { Mode::Recompute } else { Mode::RecomputeTouched };
        Description { operator: self.name.clone(), mode, rows, bytes }
    }

    fn children(&self) -> Vec<&dyn Operator> {
        self.inputs.iter().map(|kept| kept.input.as_ref()).collect()
    }
}

impl Operator for RowWise {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let mut out = Vec::new();
        for delta in self.input.step(changes)? {
            for sign in [-1, 1] {
                let mut indices = Vec::new();
                for (row, weight) in delta.weights().iter().enumerate() {
                    let times = usize::try_from(weight * sign).unwrap_or(0);
                    indices.extend(std::iter::repeat_n(crate::arrangement::narrow(row), times));
                }
                if indices.is_empty() {
                    continue;
                }
                let columns = crate::delta::take_columns(delta.columns(), &indices)?;
                let rows = batch(&self.strict, columns, indices.len())?;
                for rows in self.evaluator.run(&self.plan, vec![vec![rows]])? {
                    let weights = vec![sign; rows.num_rows()];
                    out.push(Delta::new(under(&self.schema, &rows)?, weights)?);
                }
            }
        }
        Ok(out)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        Description::stateless(self.name.clone())
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }
}
