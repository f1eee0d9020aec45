//! What holds whatever happens.

use crate::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Answer(u16, u8),
    Run(u64),
    Plan(Vec<u16>),
    Late,
    Maint(u16, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_u16..6, 0_u8..4).prop_map(|(host, answer)| Step::Answer(host, answer)),
        3 => (1_u64..5000).prop_map(Step::Run),
        1 => prop::collection::vec(1_u16..6, 0..5).prop_map(Step::Plan),
        1 => Just(Step::Late),
        1 => (1_u16..6, any::<bool>()).prop_map(|(host, maint)| Step::Maint(host, maint)),
    ];
    prop::collection::vec(step, 1..40)
}

fn of(hosts: &[u16]) -> Plan {
    plan([service(80, hosts.iter().map(|host| destination(*host, vec![tcp(*host)])).collect())])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happened_servers_that_answer_end_up_in_service(steps in steps()) {
        let mut world = World::bounded(of(&[1, 2, 3]), Bounds { probes: 2, processes: 1 });
        let mut all_runs: Vec<Run> = Vec::new();
        let mut hosts: Vec<u16> = vec![1, 2, 3];
        for step in steps {
            match step {
                Step::Answer(host, answer) => {
                    let answers = [Answer::Pass, Answer::Fail, Answer::Unmade, Answer::Stuck];
                    let answer = answers[usize::from(answer)].clone();
                    world.answers(host, answer);
                }
                Step::Run(millis) => world.run(Duration::from_millis(millis)),
                Step::Plan(next) => {
                    world.apply(of(&next));
                    world.told();
                    hosts = next;
                    hosts.sort_unstable();
                    hosts.dedup();
                }
                Step::Late => {
                    // Results of runs that were given up, cancelled, or told already.
                    let current: Vec<Run> = world.running.iter().map(|(_, start)| start.run).collect();
                    let view = format!("{:?}", world.core.view());
                    for run in all_runs.iter().filter(|run| !current.contains(run)) {
                        world.core.finish(*run, Outcome::plain(Verdict::Fail("late".into()), SECOND), world.now);
                    }
                    prop_assert_eq!(format!("{:?}", world.core.view()), view);
                }
                Step::Maint(host, maint) => {
                    use uvs_check::{core::Edit, weight::Admin};
                    if let Some(index) = world.core.find(&key(80), addr(host)) {
                        let admin = if maint { Admin::Maint } else { Admin::Ready };
                        world.core.edit(index, Edit::Admin(admin), world.now);
                    }
                }
            }
            all_runs.extend(world.running.iter().map(|(_, start)| start.run));
            all_runs.sort_unstable();
            all_runs.dedup();
            prop_assert!(world.core.running() <= 2);
            let told = world.told();
            let strangers = told.iter().filter(|what| match what {
                What::Check { destination, .. }
                | What::Overdue { destination, .. }
                | What::Destination { destination, .. } => !hosts.iter().any(|host| addr(*host) == *destination),
                _ => false,
            });
            prop_assert_eq!(strangers.count(), 0, "told of what was removed: {:?}", told);
        }
        world.answers.clear();
        for host in &hosts {
            let index = world.core.find(&key(80), addr(*host)).unwrap();
            world.core.edit(index, uvs_check::core::Edit::Admin(Default::default()), world.now);
        }
        // Longer than any back-off, and than damping.
        world.run(SECOND * 300);
        for host in hosts {
            prop_assert_eq!(world.state(80, host), State::Up);
            prop_assert_eq!(world.weight(80, host), 10);
        }
    }
}
