//! The smallest step: says hello to whom its argument names, or to the world.

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "world".to_owned());
    println!("hello, {name}");
}
