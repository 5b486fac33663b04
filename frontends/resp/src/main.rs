//! The command line of `ferrokit-server`.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ferrokit_engine::{Error, Result};
use ferrokit_server::{AppendFsync, Config, Limits, Server};
use ferrokit_storage::{Host, IoBackend};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A Redis-compatible server over any ferrokit engine.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// An address to listen on; may be given several times.
    #[arg(long, value_name = "ADDR", default_values_t = [IpAddr::V4(Ipv4Addr::LOCALHOST)])]
    bind: Vec<IpAddr>,
    /// The engine, as a URL; see --engines.
    #[arg(long, value_name = "URL", default_value = "lsm:./ferrokit-data")]
    engine: String,
    /// Lists the engines and ends.
    #[arg(long)]
    engines: bool,
    /// When a write is durable: before its reply, within a second, or when the system likes.
    #[arg(long, value_enum, default_value = "everysec")]
    appendfsync: Fsync,
    /// Worker threads [default: one per core].
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// How files are reached.
    #[arg(long, value_enum, default_value = "auto")]
    io: Io,
    /// Connections at a time.
    #[arg(long, value_name = "N", default_value_t = Limits::default().clients)]
    maxclients: usize,
    /// Seconds after which a silent client is disconnected; 0 never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,
    /// Bytes of replies a client may leave untaken before it is disconnected.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().output_hard_bytes)]
    output_limit: usize,
    /// What is logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Fsync {
    Always,
    Everysec,
    No,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Io {
    Auto,
    Uring,
    Threads,
}

impl Options {
    fn io(&self) -> IoBackend {
        match self.io {
            Io::Auto => IoBackend::Auto,
            Io::Uring => IoBackend::Uring,
            Io::Threads => IoBackend::Threads,
        }
    }

    fn config(&self) -> Config {
        let output_hard_bytes = self.output_limit;
        let defaults = Limits::default();
        Config {
            bind: self.bind.clone(),
            port: self.port,
            engine: self.engine.clone(),
            appendfsync: match self.appendfsync {
                Fsync::Always => AppendFsync::Always,
                Fsync::Everysec => AppendFsync::EverySecond,
                Fsync::No => AppendFsync::No,
            },
            workers: self.workers,
            limits: Limits {
                clients: self.maxclients,
                idle_timeout: (self.timeout > 0).then(|| Duration::from_secs(self.timeout)),
                output_hard_bytes,
                output_soft_bytes: defaults.output_soft_bytes.min(output_hard_bytes / 2),
                ..defaults
            },
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.engines {
        for engine in ferrokit_engines::engines() {
            println!("{:<10} {} ({})", engine.name, engine.description, engine.example);
        }
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrokit-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    start_log(&options.log)?;
    let host = Host::system(options.io())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Error::io("server.start", error))?;
    // Before the server starts: from its first reply on a signal means an orderly end.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(|error| Error::io("server.signals", error))?
    };
    let server = Server::start(&host, &options.config())?;
    // Scripts wait for this line and take the port from it: the README promises its beginning.
    tracing::info!(
        port = server.port(),
        engine = options.engine,
        appendfsync = server.appendfsync().name(),
        io = host.fs.backend(),
        workers = server.workers(),
        "ready to accept connections"
    );
    let reason = runtime.block_on(async {
        tokio::select! {
            reason = signals.received() => reason,
            () = server.shutdown_requested() => "SHUTDOWN",
        }
    });
    tracing::info!(reason, "stopping");
    server.shutdown()?;
    tracing::info!("stopped");
    Ok(())
}

/// Logs to standard error: in colour to a terminal, as plain text to anything that may read it.
fn start_log(level: &str) -> Result<()> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| Error::invalid("--log", format!("{error}; try info")))?;
    let is_colour_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !is_colour_unwanted)
        .init();
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
