//! `uvs sched compare`: where two policies differ on the same connections, and what that comes to.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::simulate::engine::{self, Outcome, arrival_flow};
use crate::simulate::plan::{Plan, Scenario};
use crate::simulate::{failures, open};
use crate::subject;
use crate::text::{Table, grouped, percent};

/// `uvs sched compare`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
#[command(after_help = "\
First A places every connection and B is asked the same with the same loads, as a candidate in shadow is: what it would have
done otherwise is a difference. Then B places them all itself, for what it comes to.
The options are those of `uvs sched simulate`.")]
pub struct Args {
    /// A component's file, or the name of a shipped scheduler
    #[arg(value_name = "A")]
    pub a: String,
    /// Another one, or the same with other options (then write its path otherwise: ./b.wasm)
    #[arg(value_name = "B")]
    pub b: String,
    #[command(flatten)]
    pub scenario: Scenario,
    /// How many differences to list
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub show: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs and prints.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let plan = args.scenario.plan()?;
    let host = subject::host(false, &args.scenario.limits)?;
    let files = [args.a.as_str(), args.b.as_str()];
    let start = |file: &str| open(file, args.scenario.options_of(file, &files)?, plan.seed, &host);
    let (a, mut leader) = start(&args.a)?;
    let (b, mut shadow) = start(&args.b)?;
    let shadowed = engine::run(&plan, &mut leader, Some(&mut shadow));
    let (_, mut own) = start(&args.b)?;
    let alone = engine::run(&plan, &mut own, None);

    let (failed_a, failed_shadow, failed_b) = (failures(&leader), failures(&shadow), failures(&own));
    let names = if a.short() == b.short() { [a.name, b.name] } else { [a.short(), b.short()] };
    let different: Vec<usize> =
        (0..plan.arrivals.len()).filter(|&n| shadowed.picks[n] != shadowed.shadow[n]).collect();
    let compared =
        Compared { plan: &plan, names: &names, shadowed: &shadowed, alone: &alone, different: &different };
    let failed = [failed_a.0, failed_shadow.0 + failed_b.0];
    if args.json {
        println!("{}", serde_json::to_string_pretty(&compared.json(args.show, failed))?);
    } else {
        print!("{}", compared.text(args.show));
        for (name, failure) in
            [(&names[0], &failed_a.1), (&names[1], &failed_shadow.1), (&names[1], &failed_b.1)]
        {
            if let Some(failure) = failure {
                println!("{name} failed, the fallback picked; last: {failure}");
            }
        }
    }
    Ok(if failed == [0, 0] { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Compared<'a> {
    plan: &'a Plan,
    names: &'a [String; 2],
    /// A placed, B was asked.
    shadowed: &'a Outcome,
    /// B placed.
    alone: &'a Outcome,
    different: &'a [usize],
}

impl Compared<'_> {
    #[expect(clippy::cast_precision_loss, reason = "counts of connections")]
    fn different_share(&self) -> f64 {
        self.different.len() as f64 / (self.plan.arrivals.len() as f64).max(1.0)
    }

    fn figures(&self) -> [(&'static str, [f64; 2]); 6] {
        let both = |of: fn(&Outcome) -> f64| [of(self.shadowed), of(self.alone)];
        [
            ("off_weight", both(Outcome::misplaced)),
            ("imbalance_mean", both(Outcome::imbalance_mean)),
            ("imbalance_p95", both(Outcome::imbalance_p95)),
            ("peak", both(Outcome::peak)),
            ("answer_ms_mean", both(Outcome::answer_ms_mean)),
            ("calm_moves", both(Outcome::calm_moves)),
        ]
    }

    fn text(&self, show: usize) -> String {
        let [a, b] = self.names;
        let (all, different) = (self.plan.arrivals.len() as u64, self.different.len() as u64);
        let mut out = format!(
            "Asked the same, with the loads that {a} makes, {b} differs in {} of {} picks, {}\n\n",
            grouped(different),
            grouped(all),
            percent(self.different_share())
        );
        if show > 0 && different > 0 {
            let mut first = Table::new(["at", "client", a, b]);
            for &n in self.different.iter().take(show) {
                let client = arrival_flow(self.plan, n).client.to_string();
                let [pick, other] = [self.shadowed.picks[n], self.shadowed.shadow[n]].map(place);
                first.row([format!("{:.3} s", self.plan.arrivals[n].at), client, pick, other]);
            }
            out += &first.to_string();
            out.push('\n');
        }
        let mut shares = Table::new(["connections", "weight", a, b, "difference"]);
        for (number, weight) in self.plan.weights.iter().enumerate().take(24) {
            let [x, y] = [self.shadowed.placed[number], self.alone.placed[number]];
            let sign = if y >= x { "+" } else { "-" };
            let name = format!("rs{}", number + 1);
            shares.row([
                name,
                weight.to_string(),
                grouped(x),
                grouped(y),
                format!("{sign}{}", grouped(x.abs_diff(y))),
            ]);
        }
        out += &format!("Each by itself\n{shares}\n");
        let mut figures = Table::new(["", a, b]);
        for (name, [x, y]) in self.figures() {
            let tell = |value: f64| match name {
                "peak" => format!("{value:.2} x"),
                "answer_ms_mean" => format!("{value:.1} ms"),
                _ => percent(value),
            };
            figures.row([name.replace('_', " "), tell(x), tell(y)]);
        }
        figures.row(["refused".to_owned(), grouped(self.shadowed.refused), grouped(self.alone.refused)]);
        figures.row(["lost".to_owned(), grouped(self.shadowed.lost), grouped(self.alone.lost)]);
        out + &figures.to_string()
    }

    fn json(&self, show: usize, failed: [u64; 2]) -> serde_json::Value {
        let number = |pick: Option<u32>| pick.map(|number| number + 1);
        let first: Vec<_> = self
            .different
            .iter()
            .take(show)
            .map(|&n| {
                json!({
                    "seconds": self.plan.arrivals[n].at,
                    "client": arrival_flow(self.plan, n).client.to_string(),
                    "a": number(self.shadowed.picks[n]),
                    "b": number(self.shadowed.shadow[n]),
                })
            })
            .collect();
        let side = |side: usize, outcome: &Outcome| {
            let mut all = serde_json::Map::new();
            all.insert("policy".into(), json!(self.names[side]));
            all.insert("connections".into(), json!(outcome.placed));
            all.extend(self.figures().iter().map(|(name, values)| ((*name).to_owned(), json!(values[side]))));
            all.insert("refused".into(), json!(outcome.refused));
            all.insert("lost".into(), json!(outcome.lost));
            all.insert("failures".into(), json!(failed[side]));
            all
        };
        json!({
            "connections": self.plan.arrivals.len(),
            "seed": self.plan.seed,
            "different": self.different.len(),
            "different_share": self.different_share(),
            "first_differences": first,
            "a": side(0, self.shadowed),
            "b": side(1, self.alone),
        })
    }
}

fn place(pick: Option<u32>) -> String {
    pick.map_or_else(|| "none".to_owned(), |number| format!("rs{}", number + 1))
}
