//! `view_updates` in dbsp with one worker. Rows are bytes, as in an engine that learns its columns at run time.

#[path = "../../workload.rs"]
mod workload;

use std::cell::RefCell;

use dbsp::circuit::CircuitConfig;
use dbsp::utils::Tup2;
use dbsp::{Runtime, ZWeight};

use workload::Workload;

/// All programs of this benchmark have it.
#[global_allocator]
static ALLOCATOR: dbsp::mimalloc::MiMalloc = dbsp::mimalloc::MiMalloc;

type Row = Vec<u8>;

fn row(values: &[i64]) -> Row {
    values.iter().flat_map(|value| ((*value as u64) ^ (1 << 63)).to_be_bytes()).collect()
}

fn value(row: &[u8], place: usize) -> i64 {
    let bytes: [u8; 8] = row[place * 8..place * 8 + 8].try_into().expect("eight bytes");
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

fn main() {
    let circuit = |circuit: &mut dbsp::RootCircuit| {
        let (orders, of_orders) = circuit.add_input_zset::<Row>();
        let (customers, of_customers) = circuit.add_input_zset::<Row>();
        let by_customer = orders.map_index(|row| (row[8..16].to_vec(), row[16..24].to_vec()));
        let regions = customers.map_index(|row| (row[0..8].to_vec(), row[8..16].to_vec()));
        let joined = by_customer.join_index(&regions, |_, amount, region| Some((region.clone(), amount.clone())));
        let sums = joined.aggregate_linear_postprocess(
            |amount: &Row| Tup2(value(amount, 0), 1_i64),
            |Tup2(total, count)| row(&[total, count]),
        );
        Ok((of_orders, of_customers, sums.output()))
    };
    let made = Runtime::init_circuit(CircuitConfig::with_workers(1), circuit);
    let (running, (orders, customers, sums)) = made.expect("the circuit is built");
    let running = RefCell::new(running);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    Workload::from_arguments(&arguments).run(
        |workload| {
            let mut rows: Vec<Tup2<Row, ZWeight>> = Vec::new();
            rows.extend(workload.regions.iter().enumerate().map(|(id, region)| Tup2(row(&[id as i64, *region]), 1)));
            customers.append(&mut rows);
            let all = workload.orders.iter().enumerate();
            rows.extend(all.map(|(id, (customer, amount))| Tup2(row(&[id as i64, *customer, *amount]), 1)));
            orders.append(&mut rows);
            running.borrow_mut().transaction().expect("the first rows are taken");
            sums.consolidate();
        },
        |(), batch| {
            let mut rows: Vec<Tup2<Row, ZWeight>> = Vec::new();
            for (id, customer, old, new) in batch.orders {
                rows.push(Tup2(row(&[id, customer, old]), -1));
                rows.push(Tup2(row(&[id, customer, new]), 1));
            }
            orders.append(&mut rows);
            for (id, old, new) in batch.customers {
                rows.push(Tup2(row(&[id, old]), -1));
                rows.push(Tup2(row(&[id, new]), 1));
            }
            customers.append(&mut rows);
            running.borrow_mut().transaction().expect("updates are taken");
            sums.consolidate();
        },
    );
    running.into_inner().kill().expect("the worker ends");
}
