//! `ferrokit-server`: parameters in, a server until it is told to stop.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use ferrokit_engine::{Error, Result};
use ferrokit_server::cli::{self, Invocation};
use ferrokit_server::logs::Logs;
use ferrokit_server::supervisor::Supervisor;
use ferrokit_server::{Server, StopSignal, start_up};
use ferrokit_storage::Host;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// An opening of the engine that takes longer is told of in the log.
const TELLS_AFTER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let outcome = cli::parse(&arguments).and_then(|invocation| match invocation {
        Invocation::Help => {
            print!("{}", cli::command().render_long_help());
            Ok(())
        }
        Invocation::Version => {
            println!("ferrokit-server {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Invocation::Engines => {
            for engine in ferrokit_engines::engines() {
                println!("{:<10} {} ({})", engine.name, engine.description, engine.example);
            }
            Ok(())
        }
        Invocation::Serve(line) => serve(&line),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrokit-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(line: &cli::CommandLine) -> Result<()> {
    let mut input = String::new();
    if line.reads_input {
        std::io::stdin()
            .read_to_string(&mut input)
            .map_err(|error| Error::io("standard input", error))?;
    }
    // A variable that is no text is no parameter's.
    let variables = std::env::vars_os()
        .filter_map(|(name, it)| Some((name.into_string().ok()?, it.into_string().ok()?)));
    let config = start_up::configure(line, &input, variables)?;
    let host = Host::system(config.settings.io_backend())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("server.start", error))?;
    // Before the server starts: from its first reply on a signal means an orderly end.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(|error| Error::io("server.signals", error))?
    };
    let mut supervisor = Supervisor::new(&config.settings, &host)?;
    let server = Server::begin(&host, &config)?;
    let opening = opened(&server, &supervisor, &mut signals, &config.logs);
    if let Some(reason) = runtime.block_on(opening)? {
        tracing::info!(reason, "stopping before the engine is open");
        supervisor.stopping();
        return server.shutdown();
    }
    // Scripts wait for this line and take the port from it: the README promises its beginning.
    tracing::info!(
        port = server.port(),
        engine = config.settings.engine_url(),
        appendfsync = server.appendfsync().name(),
        io = host.fs.backend(),
        workers = server.workers(),
        "ready to accept connections"
    );
    supervisor.ready()?;
    let reason = runtime.block_on(async {
        loop {
            let signal = tokio::select! {
                signal = signals.received(&config.logs) => signal,
                () = server.shutdown_requested() => return "SHUTDOWN",
            };
            if server.prepare_shutdown(signal) {
                return signal.name();
            }
        }
    });
    tracing::info!(reason, "stopping");
    supervisor.stopping();
    server.shutdown()?;
    tracing::info!("stopped");
    Ok(())
}

/// Waits until the engine is open; why it was not waited for, if so. Meanwhile a signal ends the
/// server at once: what the engine has on its device is as good as after a crash.
async fn opened(
    server: &Server,
    supervisor: &Supervisor,
    signals: &mut Signals,
    logs: &Logs,
) -> Result<Option<&'static str>> {
    let mut opened = pin!(server.opened());
    let mut is_told = pin!(tokio::time::sleep(TELLS_AFTER));
    loop {
        tokio::select! {
            opened = &mut opened => return opened.map(|()| None),
            signal = signals.received(logs) => return Ok(Some(signal.name())),
            () = server.shutdown_requested() => return Ok(Some("SHUTDOWN")),
            () = &mut is_told, if !is_told.is_elapsed() => {
                supervisor.loading();
                tracing::info!(port = server.port(), "the engine is being opened; clients wait");
            }
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop; meanwhile the log is opened again whenever that is asked for.
    async fn received(&mut self, logs: &Logs) -> StopSignal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return StopSignal::Terminate,
                _ = self.interrupt.recv() => return StopSignal::Interrupt,
                _ = self.hang_up.recv() => logs.reopen(),
            }
        }
    }
}
