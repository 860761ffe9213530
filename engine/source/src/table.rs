//! What a source says of its tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// A table or view at a source, as its catalog describes it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDef {
    /// The name's parts at the source, outermost first: `["public", "orders"]`, or `["supplier.parquet"]` for a file.
    pub path: Vec<String>,
    /// The name under which `publishes: "*"` publishes it: the last part, or a file's stem.
    pub name: String,
    /// Whether it is stored or derived.
    pub kind: TableKind,
    /// The columns, in the source's order.
    pub columns: Vec<ColumnDef>,
    /// The primary key's columns, in key order, where the source declares one.
    pub key: Option<Vec<String>>,
    /// The source's own comment on the table.
    pub comment: Option<String>,
    /// How many rows the source believes it holds; an estimate.
    pub rows_estimate: Option<u64>,
}

/// Whether a table is stored or derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Rows are stored.
    Table,
    /// Rows are derived by a query at the source.
    View,
}

/// A column of a [`TableDef`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// The name at the source, verbatim.
    pub name: String,
    /// The Arrow type that a scan yields.
    pub data_type: DataType,
    /// Whether a scan may yield NULL. Also true where the source declares NOT NULL but holds values that are read as NULL.
    pub nullable: bool,
    /// The type as the source writes it, for people and for renderers: `numeric(12,2)`.
    pub remote_type: String,
    /// How the source compares its values.
    pub class: ValueClass,
    /// The collation as the source names it, where the column has one.
    pub collation: Option<String>,
    /// The source's own comment on the column.
    pub comment: Option<String>,
}

/// How a source compares the values of a column: type and collation reduced to what decides whether a comparison means
/// at the source what it means in Arrow.
///
/// A connector chooses the class at discovery; its [`Capabilities`](crate::Capabilities) then say what may be pushed on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ValueClass {
    /// Booleans.
    Boolean,
    /// Integers, signed or not.
    Integer,
    /// IEEE floats: sources differ on NaN, and the engine tells -0.0 from 0.0 in ORDER BY only.
    Float,
    /// Decimals of fixed precision and scale.
    Decimal,
    /// Text whose equality is that of its bytes.
    Text,
    /// Text whose equality at the source also holds for other strings (case, accents, trailing spaces).
    TextFolded,
    /// Fixed-length text that is read without its padding.
    TextPadded,
    /// Binary strings.
    Bytes,
    /// Calendar dates.
    Date,
    /// Times of day.
    Time,
    /// Timestamps without a zone.
    Timestamp,
    /// Instants.
    TimestampTz,
    /// UUIDs, read as lower-case text with dashes.
    Uuid,
    /// Labels of an enumeration, read as text.
    Label,
    /// Integers, text or binary strings in a column whose declared type nothing enforces (SQLite outside STRICT tables): equal
    /// values are found there, but values of other types may stand among them.
    Loose,
    /// Text that the source computes, in the character set and collation that it picks.
    Computed,
    /// A sum that may have left its type's range at the source: it is read modulo the width of its type, as the engine's own
    /// sums wrap round, and compared only locally.
    Total,
    /// Anything else: read, but compared only locally.
    Opaque,
}

impl ValueClass {
    /// Every class, in declaration order; for generated documentation and for tests.
    pub const ALL: [Self; 18] = [
        Self::Boolean,
        Self::Integer,
        Self::Float,
        Self::Decimal,
        Self::Text,
        Self::TextFolded,
        Self::TextPadded,
        Self::Bytes,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::TimestampTz,
        Self::Uuid,
        Self::Label,
        Self::Loose,
        Self::Computed,
        Self::Total,
        Self::Opaque,
    ];

    /// The class of a value of this type that a source computes: text and binary strings compare there in no way that is known.
    pub fn of_computed(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            integer if integer.is_integer() => Self::Integer,
            DataType::Decimal128(..) | DataType::Decimal256(..) => Self::Decimal,
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Utf8 => Self::Computed,
            _ => Self::Opaque,
        }
    }
}

impl TableDef {
    /// A stored table without key, comment or estimate. `name` is the path's last part.
    pub fn new<P: Into<String>>(path: impl IntoIterator<Item = P>, columns: Vec<ColumnDef>) -> Self {
        let path: Vec<String> = path.into_iter().map(Into::into).collect();
        let name = path.last().cloned().unwrap_or_default();
        Self { path, name, kind: TableKind::Table, columns, key: None, comment: None, rows_estimate: None }
    }

    /// The same table with a primary key.
    pub fn with_key<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.key = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// The path joined by dots, for messages; not for SQL.
    pub fn full_name(&self) -> String {
        self.path.join(".")
    }

    /// The Arrow schema of all columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(ColumnDef::field).collect::<Vec<_>>()))
    }

    /// The index of a column, by its exact name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl ColumnDef {
    /// A nullable column without collation or comment.
    pub fn new(
        name: impl Into<String>,
        data_type: DataType,
        remote_type: impl Into<String>,
        class: ValueClass,
    ) -> Self {
        Self {
            name: name.into(),
            data_type,
            nullable: true,
            remote_type: remote_type.into(),
            class,
            collation: None,
            comment: None,
        }
    }

    /// Whether values of the two columns compare with each other at the source as they compare within each.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.data_type, self.class, &self.collation) == (&other.data_type, other.class, &other.collation)
    }

    /// The same column, declared NOT NULL.
    pub fn not_null(mut self) -> Self {
        self.nullable = false;
        self
    }

    /// The Arrow field.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), self.nullable)
    }
}
