//! How much memory there is: that of the machine, or of the control group that holds this process where that is less.

use std::fs;
use std::path::Path;

/// The part of the memory that queries may take, in percent. The rest is for batches on their way, connections and everything else.
const SHARE_PERCENT: u64 = 60;

/// What is taken for the memory where the system does not say, in bytes.
const UNKNOWN: u64 = 4 << 30;

/// The part of the memory that queries may take, in bytes.
pub(super) fn memory_share() -> u64 {
    memory(Path::new("/")).unwrap_or(UNKNOWN) / 100 * SHARE_PERCENT
}

/// The memory in bytes, as the files below `root` say.
fn memory(root: &Path) -> Option<u64> {
    let machine = total(&read(root, "proc/meminfo")?)?;
    Some(group_limits(root).into_iter().fold(machine, u64::min))
}

/// `MemTotal` of /proc/meminfo, which counts in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of this process's group and of those around it. A container mostly sees its own group at the top.
fn group_limits(root: &Path) -> Vec<u64> {
    let mut files =
        vec!["sys/fs/cgroup/memory.max".to_owned(), "sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned()];
    let groups = read(root, "proc/self/cgroup").unwrap_or_default();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (folder, file) = match parts.next() {
            Some("") => ("sys/fs/cgroup", "memory.max"),
            Some(controllers) if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(parts.next().unwrap_or_default().trim_start_matches('/'));
        let around = group.ancestors().filter(|group| !group.as_os_str().is_empty());
        files.extend(around.map(|group| format!("{folder}/{}/{file}", group.display())));
    }
    // "max" is no number: no limit.
    files.iter().filter_map(|file| read(root, file)?.trim().parse().ok()).collect()
}

fn read(root: &Path, file: &str) -> Option<String> {
    fs::read_to_string(root.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn with(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory(root.path())
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:       8388608 kB\n");

    #[test]
    fn machine_without_groups_has_all_of_its_memory() {
        assert_eq!(with(&[MACHINE]), Some(8 * GIB));
        assert_eq!(with(&[MACHINE, ("sys/fs/cgroup/memory.max", "max\n")]), Some(8 * GIB));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn smallest_group_around_the_process_counts() {
        let groups = ("proc/self/cgroup", "0::/system.slice/headwater.service\n");
        let outer = ("sys/fs/cgroup/system.slice/memory.max", "2147483648\n");
        let inner = ("sys/fs/cgroup/system.slice/headwater.service/memory.max", "4294967296\n");
        assert_eq!(with(&[MACHINE, groups, outer, inner]), Some(2 * GIB));
        assert_eq!(with(&[MACHINE, ("sys/fs/cgroup/memory.max", "1073741824\n")]), Some(GIB));
    }

    #[test]
    fn groups_of_the_first_version_count_and_their_unlimited_is_no_limit() {
        let groups = ("proc/self/cgroup", "3:cpu:/x\n2:blkio,memory:/docker/abc\n");
        let unlimited = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(with(&[MACHINE, groups, unlimited]), Some(8 * GIB));
        let own = ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(with(&[MACHINE, groups, unlimited, own]), Some(GIB));
    }

    #[test]
    fn this_machine_has_some() {
        assert!(memory_share() >= 100 << 20);
    }
}
