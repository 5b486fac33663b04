//! The command line, in Redis' manner, and its description for help, completion and the manual.
//!
//! `ferrokit-server [file] [--name value ...]... [-]`: a name may take several words, and a word may
//! hold name and value (`"--maxmemory 1gb"`); `--name=value` is understood, too. `-` at the end reads
//! further lines from standard input.

use clap::{Arg, ArgAction, Command};
use ferrokit_engine::Result;

use crate::settings::cell::Hint;
use crate::settings::load::{refused, variable};
use crate::settings::words::split_line;
use crate::settings::{ROWS, Settings, row};

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// `--engines`
    Engines,
    /// To serve.
    Serve(CommandLine),
}

/// What a command line says of the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The configuration file.
    pub file: Option<String>,
    /// Whether standard input holds more of it.
    pub reads_input: bool,
    /// Parameters, each with its words.
    pub lines: Vec<Vec<Vec<u8>>>,
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// `InvalidArgument` for what is no option.
pub fn parse(arguments: &[Vec<u8>]) -> Result<Invocation> {
    for argument in arguments.iter().take(1) {
        match argument.as_slice() {
            b"-h" | b"--help" => return Ok(Invocation::Help),
            b"-v" | b"-V" | b"--version" => return Ok(Invocation::Version),
            b"--engines" => return Ok(Invocation::Engines),
            _ => {}
        }
    }
    let mut line = CommandLine::default();
    let mut rest = arguments;
    if let Some((first, others)) = rest.split_first()
        && !first.starts_with(b"-")
    {
        line.file = Some(String::from_utf8_lossy(first).into_owned());
        rest = others;
    }
    if let Some((b"-", others)) = rest.split_last().map(|(last, others)| (last.as_slice(), others))
    {
        line.reads_input = true;
        rest = others;
    }
    line.lines = lines(rest)?;
    Ok(Invocation::Serve(line))
}

/// One line per option. A word that begins with `--` is a value if its option has none yet, so that
/// a value may begin so; only `--save` may go without.
fn lines(arguments: &[Vec<u8>]) -> Result<Vec<Vec<Vec<u8>>>> {
    let mut lines: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut awaits_value = false;
    for (index, argument) in arguments.iter().enumerate() {
        let Some(option) = argument.strip_prefix(b"--").filter(|_| !awaits_value) else {
            match lines.last_mut() {
                Some(line) => line.push(argument.clone()),
                None => {
                    let shown = String::from_utf8_lossy(argument);
                    return Err(refused(format!(
                        "'{shown}' is no option; ferrokit-server --help lists them"
                    )));
                }
            }
            awaits_value = false;
            continue;
        };
        let shown = String::from_utf8_lossy(argument);
        let words = split_option(option).ok_or_else(|| {
            refused(format!("'{shown}': a quote is not closed, or not at the end"))
        })?;
        let is_save = option.eq_ignore_ascii_case(b"save");
        awaits_value = words.len() == 1;
        lines.push(words);
        let next = arguments.get(index + 1);
        if is_save && next.is_none_or(|next| next.starts_with(b"--")) {
            lines.last_mut().into_iter().for_each(|line| line.push(Vec::new()));
            awaits_value = false;
        }
    }
    Ok(lines)
}

/// The words of an option: its name, and its value if that is in the same argument.
fn split_option(option: &[u8]) -> Option<Vec<Vec<u8>>> {
    let equals = option.iter().position(|byte| *byte == b'=');
    if let Some((name, value)) = equals.and_then(|at| option.split_at_checked(at))
        && row(name).is_some()
    {
        return Some(vec![name.to_vec(), value.get(1..).unwrap_or_default().to_vec()]);
    }
    split_line(option)
}

/// The description of the command line, from the table of parameters.
pub fn command() -> Command {
    let defaults = Settings::default();
    let mut command = Command::new("ferrokit-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Redis-compatible server over any ferrokit engine")
        .override_usage("ferrokit-server [FILE] [--NAME VALUE...]... [-]")
        .after_help(
            "Each parameter can also be set in a configuration file (the syntax of redis.conf, or \
             TOML if its name ends in .toml) and in the environment (FERROKIT_ and its name). The \
             command line counts for more than the environment, and that for more than the file. \
             A - at the end reads lines in the syntax of redis.conf from standard input.",
        )
        .disable_version_flag(true)
        .arg(Arg::new("FILE").help("A configuration file").value_hint(clap::ValueHint::FilePath))
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .action(ArgAction::Version)
                .help("Prints the version"),
        )
        .arg(
            Arg::new("engines")
                .long("engines")
                .action(ArgAction::SetTrue)
                .help("Lists the engines that can be named by --engine"),
        );
    for row in ROWS {
        let cell = (row.cell)(&defaults);
        let default = String::from_utf8_lossy(&cell.show()).into_owned();
        let default = if default.is_empty() { "none".to_owned() } else { default };
        let help = format!("{} [default: {default}] [env: {}]", row.doc, variable(row.name));
        let mut arg = Arg::new(row.name)
            .long(row.name)
            .visible_aliases(row.aliases.to_vec())
            .help(help)
            .action(ArgAction::Append);
        arg = match cell.hint() {
            Hint::Name(name) => arg.value_name(name),
            Hint::OneOf(names) => arg.value_name("NAME").value_parser(names.to_vec()),
        };
        if cell.is_list() {
            arg = arg.num_args(0..);
        }
        command = command.arg(arg);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(arguments: &[&str]) -> Vec<Vec<String>> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|it| it.as_bytes().to_vec()).collect();
        let Invocation::Serve(line) = parse(&arguments).unwrap() else { panic!("not serving") };
        let text = |word: Vec<u8>| String::from_utf8(word).unwrap();
        line.lines.into_iter().map(|line| line.into_iter().map(text).collect()).collect()
    }

    #[test]
    fn the_description_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_take_words_in_the_manner_of_redis() {
        for (arguments, lines) in [
            (&["--port", "1"][..], &["port 1"][..]),
            (&["--port=1", "--save", ""], &["port 1", "save "]),
            (&["--save", "--port", "1"], &["save ", "port 1"]),
            (&["--port", "1", "--save"], &["port 1", "save "]),
            (&["--bind", "1.1.1.1", "2.2.2.2", "--port", "1"], &["bind 1.1.1.1 2.2.2.2", "port 1"]),
            (&["--port 1", "--logfile 'a b'"], &["port 1", "logfile a b"]),
            (&["--logfile", "--x", "--port", "1"], &["logfile --x", "port 1"]),
            (&["--port", "--loglevel", "verbose"], &["port --loglevel verbose"]),
        ] {
            let got: Vec<String> = lines_of(arguments).iter().map(|it| it.join(" ")).collect();
            assert_eq!(got, lines, "{arguments:?}");
        }
    }

    #[test]
    fn a_file_comes_first_and_standard_input_last() {
        let of = |words: &[&str]| {
            let words: Vec<Vec<u8>> = words.iter().map(|it| it.as_bytes().to_vec()).collect();
            match parse(&words).unwrap() {
                Invocation::Serve(line) => (line.file, line.reads_input, line.lines.len()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of(&[]), (None, false, 0));
        assert_eq!(of(&["-"]), (None, true, 0));
        assert_eq!(of(&["a.conf", "--port", "1", "-"]), (Some("a.conf".to_owned()), true, 1));
        assert!(parse(&[b"a.conf".to_vec(), b"b".to_vec()]).is_err());
        assert!(parse(&[b"--port 'x".to_vec()]).is_err());
    }
}
