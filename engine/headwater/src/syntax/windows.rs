//! Windows that are named: each `OVER` gets the definition itself.
//!
//! The planner forgets the name in `OVER (w ORDER BY a)` and in `WINDOW v AS (w ORDER BY a)`, and knows `OVER w` in the select list alone. What may be added to a window that
//! is named is as in Postgres.

use sqlparser::ast::{Expr, Ident, NamedWindowDefinition, NamedWindowExpr, OrderBy, Select, WindowSpec, WindowType};

use super::{each_own, normal, refused};
use crate::{Error, Result};

/// Puts the definitions of a SELECT's windows where they are named.
pub(super) fn mend(select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<()> {
    let mut known = Windows(vec![]);
    for NamedWindowDefinition(name, defined) in std::mem::take(&mut select.named_window) {
        let spec = match defined {
            NamedWindowExpr::NamedWindow(other) => known.named(&other)?.clone(),
            NamedWindowExpr::WindowSpec(spec) => known.whole(spec)?,
        };
        if known.get(&name).is_some() {
            return Err(refused(format!("the window {}", quoted(&name)), "it is defined twice"));
        }
        known.0.push((normal(&name), spec));
    }
    each_own(select, order_by, &mut |expr| {
        let Expr::Function(function) = expr else { return Ok(()) };
        if let Some(over) = &mut function.over {
            *over = WindowType::WindowSpec(match over {
                WindowType::NamedWindow(name) => known.named(name)?.clone(),
                WindowType::WindowSpec(spec) if spec.window_name.is_some() => known.whole(spec.clone())?,
                WindowType::WindowSpec(_) => return Ok(()),
            });
        }
        Ok(())
    })
}

/// The windows that are defined so far, by name.
struct Windows(Vec<(String, WindowSpec)>);

impl Windows {
    fn get(&self, name: &Ident) -> Option<&WindowSpec> {
        let name = normal(name);
        self.0.iter().find(|(known, _)| *known == name).map(|(_, spec)| spec)
    }

    fn named(&self, name: &Ident) -> Result<&WindowSpec> {
        self.get(name).ok_or_else(|| {
            refused(format!("the window {}", quoted(name)), "the query has no WINDOW of this name before it")
        })
    }

    /// A window with what it has of the one that it extends.
    fn whole(&self, spec: WindowSpec) -> Result<WindowSpec> {
        let Some(name) = &spec.window_name else { return Ok(spec) };
        let base = self.named(name)?;
        if !spec.partition_by.is_empty() {
            return Err(extends(name, &format!("cannot override PARTITION BY clause of window {}", quoted(name))));
        }
        if !spec.order_by.is_empty() && !base.order_by.is_empty() {
            return Err(extends(name, &format!("cannot override ORDER BY clause of window {}", quoted(name))));
        }
        if base.window_frame.is_some() {
            let reason = format!(
                "cannot override frame clause of window {0}; write OVER {0} without parentheses, or a window without a frame",
                quoted(name)
            );
            return Err(extends(name, &reason));
        }
        Ok(WindowSpec {
            window_name: None,
            partition_by: base.partition_by.clone(),
            order_by: if base.order_by.is_empty() { spec.order_by } else { base.order_by.clone() },
            window_frame: spec.window_frame,
        })
    }
}

fn quoted(name: &Ident) -> String {
    format!("\"{}\"", normal(name))
}

fn extends(name: &Ident, reason: &str) -> Error {
    refused(format!("a window that extends {}", quoted(name)), reason)
}
