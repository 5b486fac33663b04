//! [`ServerUsage`]: what a server has cost so far, its children included.

use std::collections::HashMap;
use std::io;

use ferrokit_engine::{Error, Result};
use rustix::process::Pid;

use super::raw::process_cpu_ns;

/// CPU time and memory of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerUsage {
    /// User and system time in nanoseconds: of the process, all its threads, and its descendants,
    /// also those that have ended.
    pub cpu_ns: u64,
    /// Resident memory of the process in bytes. A child forked for a snapshot shares it.
    pub resident_bytes: u64,
}

impl ServerUsage {
    /// Of the process `pid`.
    ///
    /// # Errors
    /// Those of the operating system, `NotFound` if there is no such process.
    pub fn of(pid: Pid) -> Result<Self> {
        Self::read(pid).map_err(|error| Error::io("bench.server.usage", error))
    }

    fn read(pid: Pid) -> io::Result<Self> {
        let number = pid.as_raw_nonzero().get();
        let Some(own) = ProcessStat::of(number)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut cpu_ns = process_cpu_ns(pid)? + own.waited_children_ns;
        let children = children_of_all()?;
        let mut parents = vec![number];
        while let Some(parent) = parents.pop() {
            for child in children.get(&parent).map_or(&[][..], Vec::as_slice) {
                let cpu = Pid::from_raw(*child).map(process_cpu_ns);
                let (Some(Ok(child_ns)), Some(stat)) = (cpu, ProcessStat::of(*child)?) else {
                    // It ended meanwhile.
                    continue;
                };
                cpu_ns += child_ns + stat.waited_children_ns;
                parents.push(*child);
            }
        }
        let resident_bytes = own.resident_pages * rustix::param::page_size() as u64;
        Ok(Self { cpu_ns, resident_bytes })
    }
}

/// Every process' children.
fn children_of_all() -> io::Result<HashMap<i32, Vec<i32>>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = ProcessStat::of(pid)? {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    Ok(children)
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq)]
struct ProcessStat {
    parent: i32,
    /// User and system time of ended children that were waited for, and of theirs.
    waited_children_ns: u64,
    resident_pages: u64,
}

impl ProcessStat {
    /// `None` if there is no such process.
    fn of(pid: i32) -> io::Result<Option<Self>> {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(text) => Self::parse(&text)
                .map(Some)
                .ok_or_else(|| io::Error::other("/proc/PID/stat has another form")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A process that ends while it is read.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses and may hold anything.
        let fields: Vec<&str> =
            text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let ticks = number(13)? + number(14)?;
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            waited_children_ns: ticks * tick_ns,
            resident_pages: number(21)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_fields_of_stat_are_found_after_any_name() {
        let text = "12 (a) b) S 7 12 12 0 -1 4194560 1 2 3 4 100 50 20 10 20 0 3 0 9 1000 321 18 1";
        let stat = ProcessStat::parse(text).unwrap();
        let expected = ProcessStat {
            parent: 7,
            waited_children_ns: 30 * (1_000_000_000 / rustix::param::clock_ticks_per_second()),
            resident_pages: 321,
        };
        assert_eq!(stat, expected);
        assert_eq!(ProcessStat::parse("12 (a) S 7"), None);
    }

    #[test]
    fn the_work_of_a_process_and_its_child_count() {
        // The child counts to 200,000 while its parent waits, then the parent does.
        let count = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let mut child = Command::new("sh")
            .args(["-c", &format!("({count}); echo; read _; {count}; echo; read _")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut cpu_ns = [0; 2];
        for cpu_ns in &mut cpu_ns {
            std::io::BufRead::read_line(&mut lines, &mut String::new()).unwrap();
            let usage = ServerUsage::of(pid).unwrap();
            assert!(usage.resident_bytes > 100_000, "{usage:?}");
            *cpu_ns = usage.cpu_ns;
            std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        }
        child.wait().unwrap();
        let [of_child, of_both] = cpu_ns;
        assert!(of_child > 20_000_000, "{of_child}");
        assert!(of_both > of_child + of_child / 3, "{of_child} {of_both}");
        assert!(ServerUsage::of(pid).is_err(), "it is gone");
    }
}
