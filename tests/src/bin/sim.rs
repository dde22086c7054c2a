//! The program of `cargo xtask sim`: prints tables of the effect of protections, and of a firmware update to a fleet.

fn main() {
    if std::env::args().nth(1).is_some_and(|what| what == "rollout") {
        let boxes = std::env::args().nth(2).and_then(|it| it.parse().ok()).unwrap_or(1000);
        print!("{}", skycache_tests::rollout::report(boxes));
        return;
    }
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap_or(0));
    let objects = arguments.next().filter(|&count| count > 0).unwrap_or(160);
    let seeds = arguments.next().filter(|&count| count > 0).unwrap_or(8);
    print!("{}", skycache_tests::sim::table(objects, seeds as u64));
}
