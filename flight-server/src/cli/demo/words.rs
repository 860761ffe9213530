//! Names for the people and things of the example shop.

pub(super) const FIRST_NAMES: &[&str] = &[
    "Ada", "Alan", "Amina", "Anders", "Anna", "Aoife", "Barbara", "Carlos", "Chen", "Clara", "Dmitri", "Edsger", "Elif", "Emma",
    "Fatima", "Felix", "Grace", "Hana", "Ines", "Ivan", "Jack", "Jin", "João", "Katherine", "Lars", "Leila", "Luca", "Maja",
    "Marie", "Mateo", "Mei", "Nadia", "Niklaus", "Noor", "Olga", "Pablo", "Priya", "Ravi", "Rosa", "Samuel", "Sofia", "Tim",
    "Tomás", "Uma", "Viktor", "Wanda", "Yuki", "Zoë",
];

pub(super) const LAST_NAMES: &[&str] = &[
    "Almeida", "Andersson", "Bakker", "Bernard", "Bianchi", "Castillo", "Chen", "Costa", "Dubois", "Fischer", "García", "Gupta",
    "Haddad", "Hansen", "Hoffmann", "Ito", "Jansen", "Jones", "Kaya", "Kim", "Kowalski", "Larsen", "López", "Martin", "Meyer",
    "Moreau", "Murphy", "Nakamura", "Nguyen", "Novák", "O'Brien", "Olsen", "Patel", "Petrov", "Popescu", "Ricci", "Rossi",
    "Santos", "Schmidt", "Silva", "Smith", "Svensson", "Tanaka", "Van Dijk", "Weber", "Wilson", "Yılmaz", "Zhang",
];

/// A country, its cities, and how many of a hundred customers live there.
pub(super) const COUNTRIES: &[(&str, &[&str], u32)] = &[
    ("DE", &["Berlin", "Hamburg", "München", "Köln", "Leipzig"], 24),
    ("FR", &["Paris", "Lyon", "Marseille", "Nantes"], 18),
    ("NL", &["Amsterdam", "Rotterdam", "Utrecht", "'s-Hertogenbosch"], 14),
    ("ES", &["Madrid", "Barcelona", "Valencia", "A Coruña"], 12),
    ("IT", &["Roma", "Milano", "Torino"], 11),
    ("PL", &["Warszawa", "Kraków", "Łódź"], 9),
    ("SE", &["Stockholm", "Göteborg", "Malmö"], 7),
    ("PT", &["Lisboa", "Porto"], 5),
];

pub(super) const STREET_MAILS: &[&str] = &["example.com", "example.org", "example.net", "mail.example"];

/// A category, what is sold in it, and the range of its prices in cents.
pub(super) const CATEGORIES: &[(&str, &[&str], (u32, u32))] = &[
    ("Books", &["Novel", "Cookbook", "Atlas", "Field Guide", "Notebook"], (700, 4500)),
    ("Garden", &["Watering Can", "Rake", "Planter", "Hose", "Seed Set"], (400, 9000)),
    ("Kitchen", &["Kettle", "Pan", "Knife", "Scale", "Grinder"], (900, 18_000)),
    ("Office", &["Desk Lamp", "Chair", "Monitor Arm", "Whiteboard", "Shredder"], (1500, 42_000)),
    ("Outdoor", &["Tent", "Backpack", "Headlamp", "Stove", "Sleeping Bag"], (1200, 35_000)),
    ("Toys", &["Puzzle", "Train Set", "Kite", "Building Blocks", "Yo-yo"], (500, 8000)),
];

pub(super) const ADJECTIVES: &[&str] = &[
    "Basic", "Blue", "Classic", "Compact", "Deluxe", "Double", "Folding", "Green", "Large", "Light", "Mini", "Nordic", "Plain",
    "Pro", "Quiet", "Red", "Sturdy", "Travel", "Urban", "Wide",
];

pub(super) const CARRIERS: &[&str] = &["Parcelhorse", "Blue Van", "Northpost", "Cargo Bike Co-op"];
