//! `ringfence-simulator`: an AWS organization in memory, for rehearsals and tests.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ringfence_simulator::run::main()
}
