//! The snippets of docs/clients.md, run as they stand there.

use std::path::Path;

use headwater_server::Security;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::variable;

use crate::doors::{Doors, run};
use headwater_sql_tests::process::headwater;

/// The blocks of a page in one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_snippet_of_the_page_of_clients_works() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md")).unwrap();
    let services = Services::new().with_sqlite(
        "orders",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL); INSERT INTO orders VALUES (1, 20.5), (2, 5), (3, NULL)",
    );
    let doors = Doors::open(services.engine().await, Security::default()).await;
    let placed = |block: &str| {
        block
            .replace("127.0.0.1:50051", &doors.flight.to_string())
            .replace("127.0.0.1:5432", &doors.postgres.to_string())
            .replace("PORT=5432", &format!("PORT={}", doors.postgres.port()))
    };
    let python = variable("HEADWATER_TEST_PYTHON");
    let snippets = blocks(&page, "python");
    assert_eq!(snippets.len(), 7);
    for snippet in snippets {
        let (is_content, text) = run(Path::new(&python), &["-c", &placed(snippet)], &[]).await;
        assert!(is_content && text.contains('2'), "{snippet}\n{text}");
    }
    let directory = tempfile::tempdir().unwrap();
    for snippet in blocks(&page, "java") {
        let program = directory.path().join("Orders.java");
        std::fs::write(&program, placed(snippet)).unwrap();
        let arguments = ["-cp", &variable("HEADWATER_TEST_JDBC"), program.to_str().unwrap()];
        let (is_content, text) = run(Path::new("java"), &arguments, &[]).await;
        assert!(is_content && text.contains("2 5.0"), "{snippet}\n{text}");
    }
    for snippet in blocks(&page, "js") {
        let modules = variable("HEADWATER_TEST_NODE_PATH");
        let (is_content, text) = run(Path::new("node"), &["-e", &placed(snippet)], &[("NODE_PATH", &modules)]).await;
        assert!(is_content && text.contains("id: '2'"), "{snippet}\n{text}");
    }
    let path = format!("{}:{}", headwater().parent().unwrap().display(), std::env::var("PATH").unwrap());
    // The first starts a server, which the test has already.
    for snippet in &blocks(&page, "sh")[1..] {
        let (is_content, text) = run(Path::new("bash"), &["-c", &placed(snippet)], &[("PATH", &path)]).await;
        assert!(is_content && text.contains('3'), "{snippet}\n{text}");
    }
    doors.close().await;
}
