//! The shape of a statement: one SELECT for as much of a query as one SELECT can say.
//!
//! A [`Block`] is a SELECT that is not closed yet. Filters, projections, one grouping, one limit join it in the order in which SQL
//! applies them; what comes out of that order starts a new block over the closed one (`FROM (SELECT ...) t1`). Inner and left joins
//! put blocks that hold only rows side by side; semi and anti joins become IN and EXISTS.
//!
//! Some sources are told which table to read first; see [`lead`](super::lead).

use headwater_source::{
    Aggregate, AggregateFunction, ColumnDef, CompareOp, Expr, JoinKind, Node, Relation, RemoteStatement, Result,
    ServiceName, SortKey, TableDef,
};

use super::expr::effort;
use super::lead::{Lead, is_in_order, shifted};
use super::{Dialect, Equality, Having, Naming, Use, chain, quote};

/// Writes one statement.
pub(super) struct Writer<'a, D> {
    pub(super) dialect: &'a D,
    pub(super) service: &'a ServiceName,
    pub(super) binds: Vec<headwater_source::Bind>,
    /// Whether one text may stand in several places of the statement.
    pub(super) reused: bool,
    /// What the condition that is being written leaves to be tested after all others.
    pub(super) tested_last: Vec<String>,
    qualified: Qualified,
    aliases: usize,
}

/// Whether columns are written with their table's alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Qualified {
    /// There is one table: its columns go by their names.
    No,
    /// Names could be taken for each other.
    Yes,
}

/// The columns that expressions may name.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) columns: Vec<ColumnDef>,
    pub(super) texts: Vec<String>,
    /// What is true of every row in which the column that it is of is not NULL; see [`Dialect::proviso`].
    pub(super) met: Vec<String>,
}

/// A SELECT that is not closed yet.
#[derive(Debug)]
struct Block {
    from: String,
    source: Source,
    filters: Vec<String>,
    /// What is tested where all of `filters` is true.
    last_filters: Vec<String>,
    /// What stands between SELECT and its columns.
    hint: &'static str,
    groups: Vec<String>,
    group_filters: Vec<String>,
    order: Vec<String>,
    skip: u64,
    limit: Option<u64>,
    stage: Stage,
    scope: Scope,
    /// What each column of the scope is made of.
    plain: Vec<Plain>,
    /// FROM with one table told to be read first; `None` where the source is left to choose.
    led: Option<String>,
    /// Which columns of the scope are made of that table's alone.
    leading: Vec<bool>,
}

/// What the block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Rows,
    Groups,
    Cut,
}

/// What stands in FROM. Only a join may stand in parentheses, and on the right of another must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A table, or a closed block.
    One,
    Joined,
}

/// What a column of a block is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// A plain column, which a left join makes NULL where it finds no partner.
    Column,
    /// An expression.
    Computed,
    /// An expression over nothing but aggregates.
    Aggregated,
}

impl<'a, D: Dialect> Writer<'a, D> {
    pub(super) fn new(dialect: &'a D, service: &'a ServiceName, relation: &Relation) -> Self {
        let tables = relation.tables().len();
        let plain = tables == 1 && !holds_union(relation) && !is_cut_within(relation) && !orders_computed(relation);
        let qualified = if plain && D::NAMING == Naming::WhereNeeded { Qualified::No } else { Qualified::Yes };
        let reused = !matches!(relation.node(), Node::Project { input, .. } if is_scan(input));
        Self { dialect, service, binds: vec![], reused, tested_last: vec![], qualified, aliases: 0 }
    }

    /// The whole query as one statement, its columns as they are read.
    pub(super) fn statement(&mut self, relation: &Relation) -> Result<RemoteStatement> {
        let block = self.block(relation)?;
        let items: Vec<String> = block
            .scope
            .columns
            .iter()
            .zip(&block.scope.texts)
            .map(|(column, text)| self.dialect.column(column, text.clone(), Use::Read))
            .collect();
        let text = self.text(&block, &items);
        Ok(self.finish(&text))
    }

    fn block(&mut self, relation: &Relation) -> Result<Block> {
        match relation.node() {
            Node::Table(table) => self.table(table),
            Node::Filter { input, filters } => self.filtered(input, filters),
            Node::Project { input, exprs } => self.projected(input, exprs, relation.columns()),
            Node::Aggregate { input, keys, aggregates } => self.grouped(input, keys, aggregates, relation.columns()),
            Node::Join { kind, left, right, on } => self.joined_blocks(*kind, left, right, on, relation.columns()),
            Node::Top { input, sort, skip, limit } => self.cut(input, sort, *skip, *limit),
            Node::UnionAll(inputs) => self.united(inputs, relation.columns()),
            other => Err(self.unsupported(format!("the operator {other:?}"))),
        }
    }

    fn table(&mut self, table: &TableDef) -> Result<Block> {
        let parts: Vec<String> =
            table.path.iter().map(|part| quote(part, D::QUOTE, self.service)).collect::<Result<_>>()?;
        let alias = (self.qualified == Qualified::Yes).then(|| self.alias());
        let name = |column: &ColumnDef| {
            let quoted = quote(&column.name, D::QUOTE, self.service)?;
            Ok(alias.as_ref().map_or_else(|| quoted.clone(), |alias| format!("{alias}.{quoted}")))
        };
        let texts = table.columns.iter().map(name).collect::<Result<_>>()?;
        let path = parts.join(".");
        let from = alias.as_ref().map_or_else(|| path.clone(), |alias| format!("{path} {alias}"));
        Ok(Block::over(from, Scope { columns: table.columns.clone(), texts, met: vec![] }))
    }

    fn filtered(&mut self, input: &Relation, filters: &[Expr]) -> Result<Block> {
        let mut block = self.block(input)?;
        let on_keys = D::HAVING == Having::OnAggregates && !filters.iter().all(|filter| block.is_aggregated(filter));
        // HAVING is refused by SQLite beside a select list without an aggregate where nothing is grouped by.
        let is_one_group = block.groups.is_empty();
        if block.stage == Stage::Cut || (block.stage == Stage::Groups && (on_keys || is_one_group)) {
            block = self.closed(block);
        }
        block.reads(filters);
        let mut filters: Vec<&Expr> = filters.iter().collect();
        filters.sort_by_key(|filter| effort(filter, &block.scope.columns));
        for filter in filters {
            match block.stage {
                Stage::Groups => block.group_filters.push(self.filter(filter, &block.scope)?),
                _ => {
                    let (first, last) = self.required(filter, &block.scope)?;
                    block.filters.push(first);
                    block.test_last(last);
                    self.note_met(&mut block);
                }
            }
        }
        Ok(block)
    }

    fn projected(&mut self, input: &Relation, exprs: &[Expr], columns: &[ColumnDef]) -> Result<Block> {
        let mut block = self.block(input)?;
        let texts = exprs.iter().map(|expr| self.value(expr, &block.scope)).collect::<Result<_>>()?;
        block.plain = exprs
            .iter()
            .map(|expr| match expr {
                Expr::Column(index) => block.plain[*index],
                computed if block.is_aggregated(computed) => Plain::Aggregated,
                _ => Plain::Computed,
            })
            .collect();
        block.leading = exprs.iter().map(|expr| block.is_leading(expr)).collect();
        block.scope = Scope { columns: columns.to_vec(), texts, met: block.scope.met };
        Ok(block)
    }

    fn grouped(
        &mut self,
        input: &Relation,
        keys: &[Expr],
        aggregates: &[Aggregate],
        columns: &[ColumnDef],
    ) -> Result<Block> {
        let mut block = self.block(input)?;
        // Nothing else than a table's own column has an index.
        let mut may_be_indexed = block.stage == Stage::Rows;
        if block.stage != Stage::Rows {
            block = self.closed(block);
        }
        let mut texts = Vec::with_capacity(columns.len());
        block.reads(keys.iter().filter(|key| is_in_order(input, key)));
        for (key, column) in keys.iter().zip(columns) {
            let text = self.value(key, &block.scope)?;
            let by = self.spelt(column, text.clone(), Use::Group, &block.scope);
            texts.push(self.dialect.group_value(column, &text, &by));
            may_be_indexed &= by == text;
            block.groups.push(by);
        }
        for aggregate in aggregates {
            texts.push(self.aggregate(aggregate, &block.scope)?);
        }
        if may_be_indexed && is_grouped_out_of_order(input, keys, aggregates) {
            block.hint = D::GROUPED_OUT_OF_ORDER;
        }
        block.stage = Stage::Groups;
        block.plain = vec![Plain::Computed; keys.len()];
        block.plain.resize(texts.len(), Plain::Aggregated);
        block.scope = Scope { columns: columns.to_vec(), texts, met: block.scope.met };
        Ok(block)
    }

    fn cut(&mut self, input: &Relation, sort: &[SortKey], skip: u64, limit: u64) -> Result<Block> {
        let mut block = self.block(input)?;
        if block.stage == Stage::Cut {
            block = self.closed(block);
        }
        let sorted: Vec<Expr> = sort.iter().map(|key| Expr::Column(key.column)).collect();
        block.reads(&sorted);
        let filters: Vec<&String> = block.filters.iter().chain(&block.last_filters).collect();
        block.order = sort.iter().map(|key| self.sort_key(*key, &block.scope, &filters)).collect::<Result<_>>()?;
        block.skip = skip;
        block.limit = Some(limit).filter(|limit| *limit < u64::MAX);
        // The first groups of an index are there after a few rows.
        let is_of_groups = |key: &SortKey| block.plain.get(key.column) != Some(&Plain::Aggregated);
        if block.limit.is_some() && sort.iter().all(is_of_groups) {
            block.hint = "";
        }
        block.stage = Stage::Cut;
        Ok(block)
    }

    fn united(&mut self, inputs: &[Relation], columns: &[ColumnDef]) -> Result<Block> {
        let mut selects = Vec::with_capacity(inputs.len());
        for input in inputs {
            let block = self.block(input)?;
            let block = if block.stage == Stage::Cut { self.closed(block) } else { block };
            selects.push(self.text(&block, &block.named_items()));
        }
        let alias = self.alias();
        let texts = (0..columns.len()).map(|index| format!("{alias}.c{index}")).collect();
        let from = format!("({}) {alias}", selects.join(" UNION ALL "));
        Ok(Block::over(from, Scope { columns: columns.to_vec(), texts, met: vec![] }))
    }

    fn joined_blocks(
        &mut self,
        kind: JoinKind,
        left: &Relation,
        right: &Relation,
        on: &[Expr],
        columns: &[ColumnDef],
    ) -> Result<Block> {
        let lead = if kind == JoinKind::Inner { Lead::of(left, right, on) } else { Lead::Chosen };
        let left = self.block(left)?;
        let mut left = if left.stage == Stage::Rows { left } else { self.closed(left) };
        let mut right = self.block(right)?;
        match kind {
            JoinKind::Semi | JoinKind::Anti => {
                left.reads(on);
                right.reads(&shifted(on, left.scope.columns.len()));
                let condition = self.exists(kind, &left, right, on)?;
                left.filters.push(condition);
                Ok(left)
            }
            JoinKind::Inner | JoinKind::Left => {
                let computed = right.plain.iter().any(|plain| *plain != Plain::Column);
                let open = right.stage == Stage::Rows && !(kind == JoinKind::Left && computed);
                let right = if open { right } else { self.closed(right) };
                self.side_by_side(kind, left, right, on, columns, lead)
            }
        }
    }

    fn side_by_side(
        &mut self,
        kind: JoinKind,
        mut left: Block,
        right: Block,
        on: &[Expr],
        columns: &[ColumnDef],
        lead: Lead,
    ) -> Result<Block> {
        let firsts = (left.first(), right.first());
        let others = |block: &Block| vec![false; block.scope.columns.len()];
        let leading = match lead {
            Lead::Right => [others(&left), right.leading].concat(),
            _ => [std::mem::take(&mut left.leading), others(&right)].concat(),
        };
        left.scope.columns.extend(right.scope.columns);
        left.scope.texts.extend(right.scope.texts);
        left.scope.met.extend(right.scope.met);
        left.plain.extend(right.plain);
        let mut conditions: Vec<String> =
            on.iter().map(|condition| self.filter(condition, &left.scope)).collect::<Result<_>>()?;
        match kind {
            // What filters the right rows belongs to the join: a left row that finds none is kept.
            JoinKind::Left => conditions.extend(right.filters.into_iter().chain(right.last_filters)),
            _ => {
                left.filters.extend(right.filters);
                left.test_last(right.last_filters);
            }
        }
        let from = match right.source {
            Source::Joined => format!("({})", right.from),
            Source::One => right.from,
        };
        left.source = Source::Joined;
        left.led = match (lead, firsts, D::READ_FIRST) {
            (Lead::Left, (Some(first), _), Some(word)) => Some((first, &from, word)),
            (Lead::Right, (_, Some(first)), Some(word)) => Some((first, &left.from, word)),
            _ => None,
        }
        .map(|(first, second, word)| format!("{first} {word} {second} ON {}", chain(conditions.clone(), " AND ")));
        left.leading = leading;
        left.from = match (kind, conditions.is_empty()) {
            (JoinKind::Left, true) => format!("{} LEFT JOIN {from} ON 1 = 1", left.from),
            (JoinKind::Left, false) => format!("{} LEFT JOIN {from} ON {}", left.from, chain(conditions, " AND ")),
            (_, true) => format!("{} CROSS JOIN {from}", left.from),
            (_, false) => format!("{} JOIN {from} ON {}", left.from, chain(conditions, " AND ")),
        };
        left.scope.columns = columns.to_vec();
        Ok(left)
    }

    /// The condition on a left row that it has, or has not, a partner.
    fn exists(&mut self, kind: JoinKind, left: &Block, right: Block, on: &[Expr]) -> Result<String> {
        if let (JoinKind::Semi, [condition]) = (kind, on)
            && let Some(condition) = self.contained(left, &right, condition)?
        {
            return Ok(condition);
        }
        let mut right = if right.stage == Stage::Rows { right } else { self.closed(right) };
        let mut both = left.scope.clone();
        both.columns.extend(right.scope.columns.iter().cloned());
        both.texts.extend(right.scope.texts.iter().cloned());
        both.met.extend(right.scope.met.iter().cloned());
        for condition in on {
            right.filters.push(self.filter(condition, &both)?);
        }
        let negation = if kind == JoinKind::Anti { "NOT " } else { "" };
        Ok(format!("{negation}EXISTS ({})", self.text(&right, &["1".to_owned()])))
    }

    /// `left IN (SELECT right ...)`, which sources plan better than EXISTS, where the condition is one equality.
    fn contained(&mut self, left: &Block, right: &Block, condition: &Expr) -> Result<Option<String>> {
        let Expr::Compare { op: CompareOp::Equal, left: a, right: b } = condition else { return Ok(None) };
        let split = left.scope.columns.len();
        let (outer, inner) = match (&**a, &**b) {
            (Expr::Column(a), Expr::Column(b)) if *a < split && *b >= split => (*a, *b - split),
            (Expr::Column(a), Expr::Column(b)) if *b < split && *a >= split => (*b, *a - split),
            _ => return Ok(None),
        };
        let (ours, theirs) = (&left.scope.columns[outer], &right.scope.columns[inner]);
        if right.stage == Stage::Cut || self.dialect.plain_equality(ours, theirs) == Equality::ByMore {
            return Ok(None);
        }
        let ours = self.dialect.column(ours, left.scope.texts[outer].clone(), Use::Equality);
        let theirs = self.dialect.column(theirs, right.scope.texts[inner].clone(), Use::Equality);
        Ok(Some(format!("{ours} IN ({})", self.text(right, &[theirs]))))
    }

    /// A block of rows over the finished one.
    fn closed(&mut self, block: Block) -> Block {
        let alias = self.alias();
        let texts: Vec<String> = (0..block.scope.columns.len()).map(|index| format!("{alias}.c{index}")).collect();
        let from = format!("({}) {alias}", self.text(&block, &block.named_items()));
        let Scope { columns, texts: before, met } = block.scope;
        let is_met =
            |column: &ColumnDef, text: &str| self.dialect.proviso(column, text).is_some_and(|of| met.contains(&of));
        let still =
            columns.iter().zip(before.iter().zip(&texts)).filter(|(column, (before, _))| is_met(column, before));
        let met = still.filter_map(|(column, (_, now))| self.dialect.proviso(column, now)).collect();
        Block::over(from, Scope { columns, texts, met })
    }

    /// Notes what the block's conditions say of its columns.
    fn note_met(&self, block: &mut Block) {
        for (column, text) in block.scope.columns.iter().zip(&block.scope.texts) {
            if let Some(proviso) = self.dialect.proviso(column, text)
                && !block.scope.met.contains(&proviso)
                && (block.filters.contains(&proviso) || block.last_filters.contains(&proviso))
            {
                block.scope.met.push(proviso);
            }
        }
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases)
    }

    fn text(&self, block: &Block, items: &[String]) -> String {
        let mut text = block.text(items);
        // Counts of rows from the plan, not values of the query's data: digits cannot say anything else.
        let limit = block.limit.or_else(|| D::LIMIT_OF_NONE.filter(|_| block.skip > 0));
        if let Some(limit) = limit {
            text.push_str(&format!(" LIMIT {limit}"));
        }
        if block.skip > 0 {
            text.push_str(&format!(" OFFSET {}", block.skip));
        }
        text
    }
}

impl Block {
    fn over(from: String, scope: Scope) -> Self {
        Self {
            from,
            source: Source::One,
            filters: vec![],
            last_filters: vec![],
            hint: "",
            groups: vec![],
            group_filters: vec![],
            order: vec![],
            skip: 0,
            limit: None,
            stage: Stage::Rows,
            plain: vec![Plain::Column; scope.columns.len()],
            led: None,
            leading: vec![true; scope.columns.len()],
            scope,
        }
    }

    /// Where the expressions read more than the table that is read first, the source chooses the order of tables again.
    fn reads<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Expr>) {
        if self.stage == Stage::Rows && !exprs.into_iter().all(|expr| self.is_leading(expr)) {
            self.led = None;
        }
    }

    fn is_leading(&self, expr: &Expr) -> bool {
        let mut all = true;
        expr.visit_columns(&mut |index| all &= self.leading.get(index).is_none_or(|leads| *leads));
        all
    }

    /// Conditions for the rows that all others leave; of those that several comparisons need, one.
    fn test_last(&mut self, conditions: Vec<String>) {
        for condition in conditions {
            if !self.last_filters.contains(&condition) {
                self.last_filters.push(condition);
            }
        }
    }

    /// FROM as it stands before a table that is looked up; `None` where its own tables are in no order.
    fn first(&self) -> Option<String> {
        self.led.clone().or_else(|| (self.source == Source::One).then(|| self.from.clone()))
    }

    fn named_items(&self) -> Vec<String> {
        self.scope.texts.iter().enumerate().map(|(index, text)| format!("{text} AS c{index}")).collect()
    }

    /// Whether an expression over the block names aggregates only.
    fn is_aggregated(&self, expr: &Expr) -> bool {
        let mut all = true;
        expr.visit_columns(&mut |index| all &= self.plain.get(index) == Some(&Plain::Aggregated));
        all
    }

    /// The SELECT without its limit.
    fn text(&self, items: &[String]) -> String {
        let items = if items.is_empty() { "1".to_owned() } else { items.join(", ") };
        let mut text = format!("SELECT {}{items} FROM {}", self.hint, self.led.as_ref().unwrap_or(&self.from));
        let conjunction = |parts: Vec<String>| chain(parts, " AND ");
        let mut clause = |word: &str, rest: String| {
            if !rest.is_empty() {
                text.push_str(word);
                text.push_str(&rest);
            }
        };
        clause(" WHERE ", conjunction([self.filters.as_slice(), &self.last_filters].concat()));
        clause(" GROUP BY ", self.groups.join(", "));
        clause(" HAVING ", conjunction(self.group_filters.clone()));
        clause(" ORDER BY ", self.order.join(", "));
        text
    }
}

/// Whether groups are made of rows that do not lie in their order, while an index may, and more is read of each row than what it is grouped by.
fn is_grouped_out_of_order(input: &Relation, keys: &[Expr], aggregates: &[Aggregate]) -> bool {
    let is_plain = |key: &Expr| matches!(key, Expr::Column(index) if input.origin(*index).is_some());
    if keys.is_empty() || !keys.iter().all(is_plain) || keys.iter().any(|key| is_in_order(input, key)) {
        return false;
    }
    let reads_more = |expr: &Expr| {
        let mut more = false;
        expr.visit_columns(&mut |index| more |= !keys.contains(&Expr::Column(index)));
        more
    };
    // A least or greatest value stands at an end of the index.
    let is_summed = |aggregate: &Aggregate| {
        matches!(aggregate.function, AggregateFunction::Sum | AggregateFunction::Count)
            && aggregate.arg.as_ref().is_some_and(reads_more)
    };
    let filters = match input.node() {
        Node::Filter { filters, .. } => filters.as_slice(),
        _ => &[],
    };
    aggregates.iter().any(is_summed) || filters.iter().any(reads_more)
}

/// Whether the relation is read as it lies, so that no text is used twice.
fn is_scan(relation: &Relation) -> bool {
    match relation.node() {
        Node::Table(_) => true,
        Node::Filter { input, .. } | Node::Top { input, .. } => is_scan(input),
        _ => false,
    }
}

fn holds_union(relation: &Relation) -> bool {
    matches!(relation.node(), Node::UnionAll(_)) || relation.inputs().into_iter().any(holds_union)
}

/// Whether a limit stands in a SELECT within the statement: its columns get aliases, and a bare name in ORDER BY would be taken for one.
fn is_cut_within(relation: &Relation) -> bool {
    fn is_cut(relation: &Relation) -> bool {
        matches!(relation.node(), Node::Top { .. }) || relation.inputs().into_iter().any(is_cut)
    }
    match relation.node() {
        Node::Project { input, .. } => is_cut_within(input),
        Node::Top { input, .. } => is_cut(input),
        _ => is_cut(relation),
    }
}

/// Whether a column is ordered by among columns that are computed: one of those may be called as it is (Postgres calls `"x"::text` x), and a bare name would mean either.
fn orders_computed(relation: &Relation) -> bool {
    match relation.node() {
        Node::Project { input, .. } => orders_computed(input),
        Node::Top { input, sort, .. } => !sort.is_empty() && computes(input),
        _ => false,
    }
}

fn computes(relation: &Relation) -> bool {
    let is_computed = |expr: &Expr| !matches!(expr, Expr::Column(_));
    match relation.node() {
        Node::Project { input, exprs } => exprs.iter().any(is_computed) || computes(input),
        Node::Aggregate { input, keys, aggregates } => {
            !aggregates.is_empty() || keys.iter().any(is_computed) || computes(input)
        }
        Node::Filter { input, .. } => computes(input),
        _ => false,
    }
}
