//! A run as it was asked for: destinations, connections, changes of the set.

use anyhow::{Result, bail, ensure};

use super::traffic::{Arrival, Arrivals, Durations, Outage, Span, arrivals};

/// What `simulate` and `compare` have in common.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Scenario {
    /// How many destinations
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub destinations: u32,
    /// Their weights; fewer than destinations are repeated
    #[arg(long, value_name = "W,...", value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u32).range(0..=65_535))]
    pub weights: Vec<u32>,
    /// When connections come: poisson[:RATE] (a second) or the path of a trace, SECONDS,CLIENT[,DURATION] on a line
    #[arg(long, value_name = "KIND|FILE.csv", default_value = "poisson:100")]
    pub arrivals: Arrivals,
    /// How long they last: exp:MEAN, fixed:TIME, pareto:MEAN[,EXPONENT] or lognormal:MEAN[,SIGMA]
    #[arg(long, value_name = "KIND:TIME", default_value = "exp:2s")]
    pub durations: Durations,
    /// How long a connection counts as inactive after its end, as TIME_WAIT does
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub linger: Span,
    /// A destination that dies: its connections are lost and it leaves the set, until TO, when it comes back
    #[arg(long, value_name = "NUMBER@FROM[-TO]")]
    pub fail: Vec<Outage>,
    /// A destination that is quiesced (weight 0), until TO
    #[arg(long, value_name = "NUMBER@FROM[-TO]")]
    pub quiesce: Vec<Outage>,
    /// How long each destination takes to answer on average, connections or not; fewer than destinations are repeated.
    /// What `lrt` goes by
    #[arg(long, value_name = "TIME,...", value_delimiter = ',', default_value = "1ms")]
    pub answers: Vec<Span>,
    /// A destination that takes a hundred times as long to answer, until TO
    #[arg(long, value_name = "NUMBER@FROM[-TO]")]
    pub slow: Vec<Outage>,
    /// How long the run lasts
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub duration: Span,
    /// How many clients there are, each as busy as the others
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// How many addresses they ask for, as in a service by firewall mark; a client always asks for the same
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub addresses: u32,
    /// Starts all that is left to chance
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub limits: crate::subject::LimitArgs,
    /// The options of a scheduler, by the name it was given
    #[arg(long, value_name = "FILE=TEXT", value_parser = pair)]
    pub options: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (file, options) = text.split_once('=').ok_or("write FILE=TEXT")?;
    Ok((file.to_owned(), options.to_owned()))
}

/// What happens to the set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    Fails,
    Returns,
    Quiesced,
    Resumes,
    Slows,
    Recovers,
}

impl What {
    /// Whether the scheduler is told of it: the set is another.
    pub(crate) fn changes_the_set(self) -> bool {
        !matches!(self, Self::Slows | Self::Recovers)
    }
}

/// A change of the set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) at: f64,
    /// From 0.
    pub(crate) destination: usize,
    pub(crate) what: What,
}

impl Change {
    /// `rs2 fails`.
    pub(crate) fn title(&self) -> String {
        let what = match self.what {
            What::Fails => "fails",
            What::Returns => "returns",
            What::Quiesced => "is quiesced",
            What::Resumes => "resumes",
            What::Slows => "slows down",
            What::Recovers => "is fast again",
        };
        format!("rs{} {what}", self.destination + 1)
    }
}

/// The scenario, worked out.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) weights: Vec<u32>,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) linger: f64,
    pub(crate) changes: Vec<Change>,
    /// How long destinations take to answer, in seconds.
    pub(crate) answers: Vec<f64>,
    pub(crate) end: f64,
    pub(crate) addresses: u32,
    pub(crate) seed: u64,
}

impl Scenario {
    /// Draws the connections.
    ///
    /// # Errors
    /// What does not fit together.
    pub(crate) fn plan(&self) -> Result<Plan> {
        ensure!(self.duration.0 > 0.0, "the run has no length\n  fix:   give a --duration over 0");
        let count = self.destinations as usize;
        let weights: Vec<u32> = self.weights.iter().copied().cycle().take(count).collect();
        if self.weights.len() > count {
            bail!("{} weights for {count} destinations\n  fix:   give as many, or fewer", self.weights.len());
        }
        if self.answers.len() > count {
            bail!(
                "{} times to answer for {count} destinations\n  fix:   give as many, or fewer",
                self.answers.len()
            );
        }
        Ok(Plan {
            weights,
            answers: self.answers.iter().map(|span| span.0).cycle().take(count).collect(),
            arrivals: arrivals(&self.arrivals, self.durations, self.clients, self.duration.0, self.seed)?,
            linger: self.linger.0,
            changes: self.changes()?,
            end: self.duration.0,
            addresses: self.addresses,
            seed: self.seed,
        })
    }

    /// The options of a scheduler.
    ///
    /// # Errors
    /// Options for a scheduler that is not there.
    pub(crate) fn options_of(&self, file: &str, files: &[&str]) -> Result<&str> {
        if let Some((unknown, _)) = self.options.iter().find(|(name, _)| !files.contains(&name.as_str())) {
            bail!(
                "--options {unknown}=...: there is no scheduler {unknown}\n  fix:   name one of {}",
                files.join(", ")
            );
        }
        Ok(self.options.iter().rev().find(|(name, _)| name == file).map_or("", |(_, options)| options))
    }

    fn changes(&self) -> Result<Vec<Change>> {
        let kinds = [
            (&self.fail, What::Fails, What::Returns),
            (&self.quiesce, What::Quiesced, What::Resumes),
            (&self.slow, What::Slows, What::Recovers),
        ];
        let mut changes = Vec::new();
        // A destination is in one trouble at a time: two that overlap contradict each other at their ends.
        let mut troubles: Vec<(usize, f64, f64)> = Vec::new();
        for (outages, begin, end) in kinds {
            for outage in outages {
                let number = outage.destination;
                let until = outage.to.unwrap_or(f64::INFINITY);
                ensure!(
                    number <= self.destinations as usize,
                    "there is no destination {number}\n  fix:   take 1 to {}, or more --destinations",
                    self.destinations
                );
                if troubles
                    .iter()
                    .any(|&(other, from, to)| other == number && outage.from <= to && from <= until)
                {
                    bail!(
                        "destination {number} is in two troubles at a time\n  fix:   let the times not overlap"
                    );
                }
                troubles.push((number, outage.from, until));
                let destination = number - 1;
                changes.push(Change { at: outage.from, destination, what: begin });
                changes.extend(outage.to.map(|at| Change { at, destination, what: end }));
            }
        }
        changes.sort_by(|a, b| a.at.total_cmp(&b.at));
        Ok(changes)
    }
}
