//! The fuzz targets, with known inputs and mutations of them.

use provium_switch::fuzzing;
use provium_testkit::replay;

#[test]
fn framing_survives_any_bytes() {
    let seeds = [b"\0\0\0\x04ping\0\0\0\0".to_vec(), vec![0xff; 64]];
    replay(&seeds, 5_000, fuzzing::framing);
}

#[test]
fn dissection_survives_any_frame() {
    let ethernet = b"\x52\0\0\0\0\x02\x52\0\0\0\0\x01";
    let ip = b"\x08\0\x45\0\0\x20\0\0\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\0\x35\x30\x39\0\x0c\0\0abcd";
    let arp =
        b"\x08\x06\0\x01\x08\0\x06\x04\0\x01\x52\0\0\0\0\x01\x0a\0\0\x01\0\0\0\0\0\0\x0a\0\0\x02";
    let ip6 = b"\x86\xdd\x60\0\0\0\0\x08\x3a\xff\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x85\0\0\0\0\0\0\0";
    let seeds = [
        [&ethernet[..], ip].concat(),
        [&ethernet[..], arp].concat(),
        [&ethernet[..], ip6].concat(),
        [&ethernet[..], b"\x81\0\0\x2a", ip].concat(),
    ];
    replay(&seeds, 20_000, fuzzing::dissection);
}

#[test]
fn the_fabric_survives_any_series_of_actions() {
    let latency = [1, 0, 0, 20];
    let frame = [12, 0, 1, 60];
    let mut seed = Vec::new();
    for _ in 0..4 {
        seed.extend(latency);
        seed.extend(frame);
        seed.extend([0xff; 60]);
    }
    replay(&[seed], 300, fuzzing::fabric);
}
