//! Whatever is lent as a plan is a plan or an error; what was a plan once is the same plan again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warmstep_wire::plan::Plan;

fuzz_target!(|data: &[u8]| {
    if let Ok(plan) = Plan::decode(data) {
        assert_eq!(Plan::decode(&plan.encode()).expect("a plan"), plan);
    }
});
