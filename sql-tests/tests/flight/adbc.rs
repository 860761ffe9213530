//! ADBC's Flight SQL driver from PyPI, in the virtual environment that `./test` makes.

use std::path::Path;
use std::time::Duration;

use headwater_sql_tests::{variable, wait};
use tokio::process::Command;

use crate::{Server, everywhere};

#[tokio::test(flavor = "multi_thread")]
async fn adbc_client_reads_prepares_and_discovers() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/adbc_client.py");
    let running = Command::new(variable("HEADWATER_TEST_PYTHON"))
        .arg(script)
        .arg(format!("grpc://{}", server.address))
        .kill_on_drop(true)
        .output();
    let output = wait::within("the script ends", Duration::from_secs(120), running).await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("every check passed"), "{text}");
    server.stop().await;
}
