//! One table out of many files: columns matched by name, types joined without loss, hive partitions added.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use headwater_source::{ColumnDef, TableDef, ValueClass};

use super::discover::{Format, Listing, stem};
use super::error::{Failure, sentence};
use super::infer::Shape;
use super::types;

/// A table as its files are now.
#[derive(Debug)]
pub(super) struct Table {
    /// What the engine is told.
    pub(super) def: TableDef,
    /// The files.
    pub(super) listing: Listing,
    /// What each file holds, in the listing's order.
    pub(super) shapes: Vec<Arc<Shape>>,
    /// The names of the hive partitions.
    pub(super) partitions: Vec<String>,
}

struct Column {
    name: String,
    data_type: DataType,
    remote_type: String,
    nullable: bool,
    first_file: usize,
    files: usize,
}

impl Table {
    /// Joins the columns of all files.
    pub(super) fn build(listing: Listing, shapes: Vec<Arc<Shape>>, root: &str) -> Result<Self, Failure> {
        let partitions: Vec<String> = listing
            .files
            .first()
            .map(|file| file.partitions.iter().map(|(key, _)| key.clone()).collect())
            .unwrap_or_default();
        let mut columns: Vec<Column> = vec![];
        for (index, shape) in shapes.iter().enumerate() {
            for field in shape.schema.fields().iter().filter(|field| !partitions.contains(field.name())) {
                join(&listing, &mut columns, index, field)?;
            }
        }
        let total = shapes.len();
        let mut defs: Vec<ColumnDef> = columns.into_iter().map(|column| column.def(total)).collect();
        defs.extend(partitions.iter().map(|name| ColumnDef::new(name, DataType::Utf8, "partition", ValueClass::Text)));
        if defs.is_empty() {
            return Err(sentence("it holds no columns: neither a header nor a row"));
        }
        let mut def = TableDef::new([listing.from.clone()], defs);
        def.name = stem(&listing.from, root);
        def.rows_estimate = shapes.iter().map(|shape| shape.rows).sum();
        Ok(Self { def, listing, shapes, partitions })
    }

    /// The schema with which a file is read: binary formats with the file's own types, text formats with the table's.
    pub(super) fn read_schema(&self, file: usize) -> SchemaRef {
        let format = self.listing.format;
        let shape = &self.shapes[file];
        let fields = shape.schema.fields().iter().map(|field| {
            let own = field.as_ref().clone();
            match format {
                // Parquet's reader casts to plain text itself, which lets filters on it skip row groups.
                Format::Parquet if is_text(field.data_type()) => own.with_data_type(DataType::Utf8),
                Format::Parquet | Format::Arrow => own,
                Format::Csv | Format::Json => {
                    let column = self.def.column_index(field.name()).map(|index| &self.def.columns[index]);
                    let data_type = column.map_or(DataType::Utf8, |column| types::decoded(format, &column.data_type));
                    own.with_data_type(data_type).with_nullable(true)
                }
            }
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// What differs in names and types between a plan's table and this one, if anything does.
    pub(super) fn change_since(&self, planned: &TableDef) -> Option<String> {
        for column in &planned.columns {
            let Some(index) = self.def.column_index(&column.name) else {
                return Some(format!("column \"{}\" is gone", column.name));
            };
            let now = &self.def.columns[index];
            if now.data_type != column.data_type {
                return Some(format!("column \"{}\" was {} and is {}", column.name, column.data_type, now.data_type));
            }
            if now.nullable && !column.nullable {
                return Some(format!("column \"{}\" may be NULL now", column.name));
            }
        }
        let new = self.def.columns.iter().find(|column| planned.column_index(&column.name).is_none());
        new.map(|column| format!("column \"{}\" is new", column.name))
    }
}

impl Column {
    fn def(self, files: usize) -> ColumnDef {
        let data_type = types::house(&self.data_type);
        let class = types::class(&data_type);
        let mut def = ColumnDef::new(self.name, data_type, self.remote_type, class);
        def.nullable = self.nullable || self.files < files;
        def
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_text(value),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

fn join(
    listing: &Listing,
    columns: &mut Vec<Column>,
    file: usize,
    field: &arrow::datatypes::Field,
) -> Result<(), Failure> {
    let data_type = if field.data_type().is_null() { DataType::Null } else { types::house(field.data_type()) };
    let Some(column) = columns.iter_mut().find(|column| column.name == *field.name()) else {
        columns.push(Column {
            name: field.name().clone(),
            data_type,
            remote_type: field.data_type().to_string(),
            nullable: field.is_nullable() || matches!(listing.format, Format::Csv | Format::Json),
            first_file: file,
            files: 1,
        });
        return Ok(());
    };
    let Some(joined) = types::union(listing.format, &column.data_type, &data_type) else {
        let (a, b) = (&listing.files[column.first_file].name, &listing.files[file].name);
        return Err(sentence(format!(
            "column \"{}\" is {} in file \"{a}\" and {data_type} in file \"{b}\"; no type holds both without loss",
            column.name, column.data_type
        )));
    };
    column.data_type = joined;
    column.nullable |= field.is_nullable();
    column.files += 1;
    Ok(())
}
