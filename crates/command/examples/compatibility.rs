//! Prints the compatibility page:
//! `cargo run -p redplane-command --example compatibility > docs/compatibility.md`.

fn main() {
    print!("{}", redplane_command::compatibility_page());
}
