//! `provium doctor` on hosts that lack something. It changes nothing. No guest is booted: a script answers
//! the probe instead of QEMU.

use crate::preparation::{project, write_program};

#[test]
fn a_check_downloads_and_makes_nothing() {
    let project = project("guest = \"default\"");
    // A download would leave a trace.
    write_program(&project, "apt-get", "echo \"$@\" >> ../downloads");
    let programs = project.beside("bin");
    project.set_env("PATH", programs.to_str().unwrap());
    let ran = project.provium(&["doctor", "--accel", "tcg"]).passes();
    ran.prints("warn     default guest  not prepared yet; `apt-get` can download it\n");
    ran.prints("effect: the first run downloads it");
    ran.prints("fix:    provium setup");
    ran.prints("passt is not installed\n");
    ran.prints("effect: bridge:enable_uplink() is not possible");
    ran.prints("`qemu-img`, which converts qcow2 images, is not installed");
    ran.prints("effect: some disks of VMs cannot be made from folders or images");
    ran.prints("a run would work\n");
    ran.does_not_print("\x1b");
    assert!(!project.beside("cache").exists());
    assert!(!project.beside("downloads").exists());

    let ran = project.provium(&["doctor", "--accel", "tcg", "--color", "always"]);
    ran.passes().prints("\x1b[1m\x1b[33mwarn");
    // The measured speed is kept where there is a cache.
    std::fs::create_dir(project.beside("cache")).unwrap();
    project.provium(&["doctor", "--accel", "tcg"]).passes();
    assert!(!project.beside("downloads").exists());
}

#[test]
fn a_host_that_cannot_download_the_guest_lacks_a_verifier() {
    let project = project("guest = \"default\"");
    project.set_env("PATH", project.beside("bin").to_str().unwrap());
    let ran = project.provium(&["doctor", "--accel", "tcg"]).exits_with(2);
    ran.prints("MISSING  default guest  not prepared yet, and it cannot be downloaded: neither `apt-get` is");
    ran.prints("effect: profiles without a kernel");
    ran.prints("a run would not work\n");

    let ran = project.run(&["--accel", "tcg", "b.test.lua"]).exits_with(2);
    ran.warns("nor `gpgv` or `sqv`");
}
