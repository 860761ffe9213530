//! `view_updates` in differential-dataflow with one worker. Rows are bytes, as in an engine that learns its columns at run time.

#[path = "../../workload.rs"]
mod workload;

use differential_dataflow::input::InputSession;
use timely::dataflow::operators::probe::Handle;

use workload::Workload;

/// All programs of this benchmark have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Row = Vec<u8>;
type Input = InputSession<u64, Row, isize>;

struct State {
    orders: Input,
    customers: Input,
    probe: Handle<u64>,
    time: u64,
}

fn row(values: &[i64]) -> Row {
    values.iter().flat_map(|value| ((*value as u64) ^ (1 << 63)).to_be_bytes()).collect()
}

fn value(row: &[u8], place: usize) -> i64 {
    let bytes: [u8; 8] = row[place * 8..place * 8 + 8].try_into().expect("eight bytes");
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

fn main() {
    timely::execute_directly(|worker| {
        let (mut orders, mut customers) = (Input::new(), Input::new());
        let probe = worker.dataflow(|scope| {
            let by_customer = orders.to_collection(scope).map(|row| (row[8..16].to_vec(), row[16..24].to_vec()));
            let regions = customers.to_collection(scope).map(|row| (row[0..8].to_vec(), row[8..16].to_vec()));
            let joined = by_customer.join_map(regions, |_, amount, region| (region.clone(), amount.clone()));
            let sums = joined.explode(|(region, amount)| Some((region, (value(&amount, 0) as isize, 1_isize))));
            let rows = sums.count().map(|(mut region, (total, count))| {
                region.extend(row(&[total as i64, count as i64]));
                region
            });
            rows.probe().0
        });
        let mut state = State { orders, customers, probe, time: 0 };
        let worker = std::cell::RefCell::new(worker);
        let settle = |state: &mut State| {
            state.time += 1;
            state.orders.advance_to(state.time);
            state.orders.flush();
            state.customers.advance_to(state.time);
            state.customers.flush();
            while state.probe.less_than(&state.time) {
                worker.borrow_mut().step();
            }
        };
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Workload::from_arguments(&arguments).run(
            |workload| {
                for (id, region) in workload.regions.iter().enumerate() {
                    state.customers.insert(row(&[id as i64, *region]));
                }
                for (id, (customer, amount)) in workload.orders.iter().enumerate() {
                    state.orders.insert(row(&[id as i64, *customer, *amount]));
                }
                settle(&mut state);
                state
            },
            |state, batch| {
                for (id, customer, old, new) in batch.orders {
                    state.orders.remove(row(&[id, customer, old]));
                    state.orders.insert(row(&[id, customer, new]));
                }
                for (id, old, new) in batch.customers {
                    state.customers.remove(row(&[id, old]));
                    state.customers.insert(row(&[id, new]));
                }
                settle(state);
            },
        );
    });
}
