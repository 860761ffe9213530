//! The data of the example shop, made in memory.

use super::random::Random;
use super::words::{ADJECTIVES, CARRIERS, CATEGORIES, COUNTRIES, FIRST_NAMES, LAST_NAMES, STREET_MAILS};

pub(super) const CUSTOMERS: u32 = 20_000;
pub(super) const ORDERS: u32 = 100_000;
pub(super) const PRODUCTS: u32 = 2_000;

/// The first day of the shop, 2024-01-01, in days since 1970.
const FIRST_DAY: i32 = 19_723;
/// How many days it has been open: to 2025-12-31.
const DAYS: i32 = 731;
/// A parcel that travels longer is late.
const PROMISED_DAYS: i32 = 5;

pub(super) struct Customer {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) city: &'static str,
    pub(super) country: &'static str,
    pub(super) segment: &'static str,
    pub(super) joined_day: i32,
}

pub(super) struct Product {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) category: &'static str,
    pub(super) price_cents: u32,
    pub(super) weight_kg: Option<f64>,
    pub(super) discontinued: bool,
}

pub(super) struct Order {
    pub(super) id: u32,
    pub(super) customer: u32,
    pub(super) placed_day: i32,
    pub(super) placed_second: u32,
    pub(super) status: &'static str,
    pub(super) lines: Vec<Line>,
}

pub(super) struct Line {
    pub(super) product: u32,
    pub(super) quantity: u32,
    pub(super) unit_cents: u32,
}

pub(super) struct Shipment {
    pub(super) id: u32,
    pub(super) order: u32,
    pub(super) carrier: &'static str,
    pub(super) shipped_day: i32,
    pub(super) delivered_day: Option<i32>,
    pub(super) status: &'static str,
}

impl Order {
    pub(super) fn total_cents(&self) -> u32 {
        self.lines.iter().map(|line| line.quantity * line.unit_cents).sum()
    }
}

pub(super) fn customers() -> Vec<Customer> {
    let mut random = Random::new(1);
    (1..=CUSTOMERS).map(|id| customer(id, &mut random)).collect()
}

fn customer(id: u32, random: &mut Random) -> Customer {
    let (first, last) = (random.pick(FIRST_NAMES), random.pick(LAST_NAMES));
    let (country, cities) = country(random);
    let email = random.percent(96).then(|| {
        let user: String = format!("{first}.{last}")
            .to_lowercase()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
            .collect();
        format!("{user}{id}@{}", random.pick(STREET_MAILS))
    });
    Customer {
        id,
        name: format!("{first} {last}"),
        email,
        city: random.pick(cities),
        country,
        segment: if random.percent(30) { "business" } else { "private" },
        // Most were there in the first year.
        joined_day: FIRST_DAY + i32::try_from(random.skewed(DAYS.unsigned_abs())).unwrap_or(0),
    }
}

fn country(random: &mut Random) -> (&'static str, &'static [&'static str]) {
    let mut place = random.below(COUNTRIES.iter().map(|(_, _, share)| share).sum());
    for (country, cities, share) in COUNTRIES {
        if place < *share {
            return (country, cities);
        }
        place -= share;
    }
    (COUNTRIES[0].0, COUNTRIES[0].1)
}

pub(super) fn products() -> Vec<Product> {
    let mut random = Random::new(2);
    (1..=PRODUCTS).map(|id| product(id, &mut random)).collect()
}

fn product(id: u32, random: &mut Random) -> Product {
    let (category, things, (least, most)) = random.pick(CATEGORIES);
    let price = least + random.skewed(most - least);
    Product {
        id,
        name: format!("{} {}", random.pick(ADJECTIVES), random.pick(things)),
        category,
        // Prices end in 9 or 0.
        price_cents: price - price % 10 + if random.percent(70) { 9 } else { 0 },
        weight_kg: random.percent(95).then(|| f64::from(50 + random.skewed(20_000)) / 1000.0),
        discontinued: random.percent(6),
    }
}

/// Orders in the order of their placing.
pub(super) fn orders(products: &[Product]) -> Vec<Order> {
    let mut random = Random::new(3);
    (1..=ORDERS).map(|id| order(id, products, &mut random)).collect()
}

fn order(id: u32, products: &[Product], random: &mut Random) -> Order {
    // The square root makes the days fuller with time: the shop grows.
    let age = (f64::from(id - 1) / f64::from(ORDERS)).sqrt() * f64::from(DAYS);
    let placed_day = FIRST_DAY + age as i32;
    let last_days = FIRST_DAY + DAYS - placed_day;
    let status = match random.below(100) {
        0..3 => "cancelled",
        3..7 if last_days > 10 => "returned",
        _ if last_days <= 2 => "open",
        _ => "completed",
    };
    let lines = (0..1 + random.skewed(6)).map(|_| line(products, random)).collect();
    Order { id, customer: 1 + random.skewed(CUSTOMERS), placed_day, placed_second: random.below(86_400), status, lines }
}

fn line(products: &[Product], random: &mut Random) -> Line {
    let product = &products[random.skewed(PRODUCTS) as usize];
    // One in ten is sold for less than its price of today.
    let unit_cents = if random.percent(10) { product.price_cents * 9 / 10 } else { product.price_cents };
    Line { product: product.id, quantity: 1 + random.skewed(4), unit_cents }
}

pub(super) fn shipments(orders: &[Order]) -> Vec<Shipment> {
    let mut random = Random::new(4);
    let shipped = orders.iter().filter(|order| matches!(order.status, "completed" | "returned"));
    (1..).zip(shipped).map(|(id, order)| shipment(id, order, &mut random)).collect()
}

fn shipment(id: u32, order: &Order, random: &mut Random) -> Shipment {
    let shipped_day = order.placed_day + i32::from(random.percent(60));
    let days = 1 + i32::try_from(random.skewed(9)).unwrap_or(0);
    let delivered_day = Some(shipped_day + days).filter(|day| *day < FIRST_DAY + DAYS);
    let status = match delivered_day {
        None => "on the way",
        Some(_) if days > PROMISED_DAYS => "late",
        Some(_) => "delivered",
    };
    Shipment { id, order: order.id, carrier: random.pick(CARRIERS), shipped_day, delivered_day, status }
}

/// A day since 1970 as `2024-02-29`.
pub(super) fn date(day: i32) -> String {
    // Howard Hinnant: chrono-Compatible Low-Level Date Algorithms, civil_from_days.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i32::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

/// A day and its second as `2024-02-29 12:30:00`.
pub(super) fn timestamp(day: i32, second: u32) -> String {
    format!("{} {:02}:{:02}:{:02}", date(day), second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(FIRST_DAY), "2024-01-01");
        assert_eq!(date(FIRST_DAY + 59), "2024-02-29");
        assert_eq!(date(FIRST_DAY + DAYS - 1), "2025-12-31");
        assert_eq!(timestamp(0, 86_399), "1970-01-01 23:59:59");
    }

    #[test]
    fn shop_fits_together() {
        let products = products();
        let orders = orders(&products);
        let shipments = shipments(&orders);
        assert_eq!(orders.len(), 100_000);
        assert!(orders.is_sorted_by_key(|order| order.placed_day));
        assert!(orders.iter().all(|order| (1..=CUSTOMERS).contains(&order.customer) && !order.lines.is_empty()));
        assert!(shipments.len() > 80_000);
        for status in ["late", "delivered", "on the way"] {
            assert!(shipments.iter().any(|shipment| shipment.status == status), "{status}");
        }
    }
}
