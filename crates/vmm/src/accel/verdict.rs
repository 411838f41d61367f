//! Compares the trials of KVM and TCG.

use std::time::Duration;

use super::trial::Trial;

/// Whether KVM is used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProbeResult {
    pub(super) kvm: bool,
    /// A clause for the user, such as "KVM ran the trial guest in 0.2 s, TCG in 0.4 s".
    pub(super) why: String,
}

/// KVM is used if its result is right and it is at least as fast as TCG. If TCG failed, a right result
/// is enough.
pub(super) fn compare(kvm: &Trial, tcg: &Trial) -> ProbeResult {
    let seconds = |time: &Duration| format!("{:.2} s", time.as_secs_f64());
    let (usable, why) = match (kvm, tcg) {
        (Trial::Right { total: kvm, .. }, Trial::Right { total: tcg, .. }) => {
            let (usable, slower) = (kvm <= tcg, kvm > tcg);
            let (kvm, tcg) = (seconds(kvm), seconds(tcg));
            let why = if slower {
                format!("KVM is slower here: it ran the trial guest in {kvm}, TCG in {tcg}")
            } else {
                format!("KVM ran the trial guest in {kvm}, TCG in {tcg}")
            };
            (usable, why)
        }
        (Trial::Right { total, .. }, _) => (
            true,
            format!("KVM ran the trial guest in {}", seconds(total)),
        ),
        (Trial::Wrong(result), _) => (
            false,
            format!("KVM computes wrongly here: the trial guest said `{result}`"),
        ),
        (Trial::Unfinished(time), Trial::Right { total: tcg, .. }) => {
            let (time, tcg) = (seconds(time), seconds(tcg));
            let why = format!(
                "KVM is too slow here: the trial guest, which TCG ran in {tcg}, did not finish in {time}"
            );
            (false, why)
        }
        (Trial::Unfinished(time), _) => (
            false,
            format!(
                "KVM is too slow here: the trial guest did not finish in {}",
                seconds(time)
            ),
        ),
        (Trial::Ended(how), _) => (false, format!("KVM does not work here: {how}")),
    };
    ProbeResult { kvm: usable, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_has_to_be_right_and_faster() {
        let right = |ms| Trial::Right {
            total: Duration::from_millis(ms),
            work: Duration::from_millis(ms / 2),
        };
        let unfinished = || Trial::Unfinished(Duration::from_secs(10));
        let results = [
            (right(200), right(400)),
            (right(500), right(400)),
            (right(500), unfinished()),
            (Trial::Wrong("0 done".into()), right(400)),
            (unfinished(), right(400)),
            (
                Trial::Ended("QEMU was killed by SIGABRT".into()),
                right(400),
            ),
        ]
        .map(|(kvm, tcg)| compare(&kvm, &tcg))
        .map(|result| format!("{}: {}", result.kvm, result.why));
        insta::assert_snapshot!(results.join("\n"));
    }
}
