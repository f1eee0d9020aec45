//! `uvs top`: the running director on a terminal, as it changes.

use std::process::ExitCode;
use std::time::Duration;

use super::Which;

/// `uvs top`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs top                  services, destinations, checks, schedulers, drops, interfaces, events; ? explains the keys
  uvs top --interval 5s    look every 5 seconds
  NO_COLOR=1 uvs top       without colours

For scripts and logs: uvs status --watch, or --json.
Exit status: 0 somebody quit; 1 it cannot draw here.")]
pub struct Args {
    /// Look so often, as in 500ms, 2s or 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// The director is asked no more often than this.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

fn interval(text: &str) -> Result<Duration, String> {
    let time = uvs_config::parse_duration(text).map_err(|error| error.to_string())?;
    if time < INTERVAL_MIN {
        return Err(format!("{text} is too often; at least {} ms", INTERVAL_MIN.as_millis()));
    }
    Ok(time)
}

/// Draws until somebody has enough.
///
/// # Errors
/// It cannot draw here.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    uvs_top::run(arguments.which.path(), arguments.interval)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_that_a_director_can_bear() {
        assert_eq!(interval("2s").unwrap(), Duration::from_secs(2));
        for wrong in ["0s", "1ms", "0", "soon"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
