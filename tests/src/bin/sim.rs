//! `cargo xtask sim table` runs this: the table of what protections are worth, on stdout.

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap_or(0));
    let objects = arguments.next().filter(|&count| count > 0).unwrap_or(160);
    let seeds = arguments.next().filter(|&count| count > 0).unwrap_or(8);
    print!("{}", skycache_tests::sim::table(objects, seeds as u64));
}
