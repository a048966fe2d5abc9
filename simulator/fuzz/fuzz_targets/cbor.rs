//! Any bytes as a cbor request, and what came of them written back in every protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use ringfence_simulator::wire::{Protocol, Service, cbor, write};
    let result = cbor::parse(data);
    for protocol in [Protocol::Query, Protocol::Ec2, Protocol::Json("1.1"), Protocol::Cbor] {
        write(protocol, Service::Rds, "Op", "id", &result);
    }
});
