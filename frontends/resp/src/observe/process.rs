//! [`ProcessMemory`], [`ProcessTime`]: what the process takes, as the system tells.

/// Memory of the process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessMemory {
    pub(crate) resident_bytes: u64,
    pub(crate) peak_bytes: u64,
}

impl ProcessMemory {
    /// As of now; zeros where the system does not tell.
    pub(crate) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let resident_bytes = bytes("VmRSS:").unwrap_or(0);
        Self { resident_bytes, peak_bytes: bytes("VmHWM:").unwrap_or(0).max(resident_bytes) }
    }
}

/// Memory of the machine; 0 if the system does not tell.
pub(crate) fn system_memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Ticks per second of the times in `/proc`: part of Linux' interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of the process, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessTime {
    pub(crate) system_secs: f64,
    pub(crate) user_secs: f64,
    pub(crate) children_system_secs: f64,
    pub(crate) children_user_secs: f64,
}

impl ProcessTime {
    /// As of now; zeros where the system does not tell.
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name, in parentheses, may hold anything; after it fields 3, 4, ... follow.
        let after_name = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let secs = |column: usize| {
            let ticks = fields.get(column).and_then(|field| field.parse::<f64>().ok());
            ticks.unwrap_or(0.0) / TICKS_PER_SECOND
        };
        Self {
            user_secs: secs(11),
            system_secs: secs(12),
            children_user_secs: secs(13),
            children_system_secs: secs(14),
        }
    }
}
