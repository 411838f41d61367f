//! Disks against a model: an array of bytes, and the writes that are not durable.

use crate::rig::{Guest, Rig};
use proptest::prelude::*;
use provium_disk::{Base, CommandKind, Disk, Keep, PowerCut};

/// Not a multiple of a block.
const SECTORS: u64 = 61;

#[derive(Debug, Clone)]
enum Step {
    Write { first: u64, count: u64, fua: bool },
    TestWrite { first: u64, count: u64 },
    Zeroes { first: u64, count: u64 },
    Discard { first: u64, count: u64 },
    Flush,
    PowerCut(Keep),
    Save,
    Fork,
    Log(bool),
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (0..SECTORS, 1..24u64).prop_map(|(first, count)| (first, count.min(SECTORS - first)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (range(), proptest::bool::weighted(0.15)).prop_map(|((first, count), fua)| Step::Write { first, count, fua }),
        1 => range().prop_map(|(first, count)| Step::TestWrite { first, count }),
        1 => range().prop_map(|(first, count)| Step::Zeroes { first, count }),
        1 => range().prop_map(|(first, count)| Step::Discard { first, count }),
        2 => Just(Step::Flush),
        2 => prop_oneof![Just(Keep::None), Just(Keep::Random), Just(Keep::Torn)].prop_map(Step::PowerCut),
        1 => Just(Step::Save),
        1 => Just(Step::Fork),
        1 => any::<bool>().prop_map(Step::Log),
    ]
}

type Change = (u64, Vec<u8>, bool);

struct Model {
    /// What is durable, without those of the changes that are.
    durable: Vec<u8>,
    /// Since the last flush, each with whether it is durable.
    changes: Vec<Change>,
}

impl Model {
    fn content(&self) -> Vec<u8> {
        self.with(|_| true)
    }

    /// The content with the changes of these numbers, and those that are durable.
    fn with(&self, kept: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut content = self.durable.clone();
        for (number, (first, data, is_durable)) in self.changes.iter().enumerate() {
            if *is_durable || kept(number) {
                let start = *first as usize * 512;
                content[start..start + data.len()].copy_from_slice(data);
            }
        }
        content
    }

    fn volatile(&self) -> Vec<usize> {
        (0..self.changes.len())
            .filter(|&number| !self.changes[number].2)
            .collect()
    }

    fn settle(&mut self, content: Vec<u8>) {
        self.durable = content;
        self.changes.clear();
    }

    /// Contents that a power cut can leave, each with how many changes it keeps and tears.
    fn after_cut(&self, keep: Keep) -> Vec<(Vec<u8>, u64, u64)> {
        let volatile = self.volatile();
        match keep {
            Keep::None => vec![(self.with(|_| false), 0, 0)],
            Keep::Random => (0..1u32 << volatile.len())
                .map(|mask| {
                    let kept = |number| {
                        volatile
                            .iter()
                            .position(|&at| at == number)
                            .is_some_and(|bit| mask >> bit & 1 == 1)
                    };
                    (self.with(kept), u64::from(mask.count_ones()), 0)
                })
                .collect(),
            Keep::Torn => {
                let Some(&last) = volatile.last() else {
                    return vec![(self.content(), 0, 0)];
                };
                let before = volatile.len() as u64 - 1;
                let sectors = self.changes[last].1.len() / 512;
                if sectors == 1 {
                    return vec![(self.with(|number| number != last), before, 0)];
                }
                (1..sectors)
                    .map(|sectors| {
                        let mut torn = Model {
                            durable: self.durable.clone(),
                            changes: self.changes.clone(),
                        };
                        torn.changes[last].1.truncate(sectors * 512);
                        (torn.content(), before, 1)
                    })
                    .collect()
            }
        }
    }
}

fn data(number: usize, count: u64) -> Vec<u8> {
    (0..count)
        .flat_map(|sector| [(number as u64 * 7 + sector * 31 + 1) as u8; 512])
        .collect()
}

fn check(base: u8, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let rig = Rig::new();
    let image = rig.path("image");
    let bytes: Vec<u8> = (0..20_000u32).map(|at| (at / 300) as u8).collect();
    std::fs::write(&image, &bytes).unwrap();
    let (base, mut durable) = match base {
        0 => (Base::Zeroes, Vec::new()),
        1 => (Base::Image(image.clone()), bytes),
        _ => (Base::InPlace(image.clone()), bytes),
    };
    durable.resize(SECTORS as usize * 512, 0);
    let mut in_place = matches!(base, Base::InPlace(_));
    let mut disk = Disk::open(rig.spec(SECTORS * 512, base)).unwrap();
    let mut model = Model {
        durable,
        changes: Vec::new(),
    };
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write { first, count, fua } => {
                let data = data(number, count);
                disk.write(first, &data, fua).unwrap();
                model.changes.push((first, data, fua));
            }
            Step::TestWrite { first, count } => {
                let data = data(number, count);
                disk.write_sectors(first, &data).unwrap();
                model.changes.push((first, data, true));
            }
            Step::Zeroes { first, count } | Step::Discard { first, count } => {
                let kind = match step {
                    Step::Zeroes { .. } => CommandKind::WriteZeroes,
                    _ => CommandKind::Discard,
                };
                disk.other(kind, first, count).unwrap();
                model
                    .changes
                    .push((first, vec![0; count as usize * 512], false));
            }
            Step::Flush => {
                disk.flush().unwrap();
                model.settle(model.content());
            }
            Step::PowerCut(keep) => {
                let volatile = model.volatile().len() as u64;
                let keep = if volatile > 9 { Keep::None } else { keep };
                let seed = number as u64;
                let loss = disk.power_cut(PowerCut { keep, seed }).unwrap();
                let left = disk.read_sectors(0, SECTORS).unwrap();
                prop_assert_eq!(loss.dropped + loss.kept + loss.torn, volatile);
                let possible = model.after_cut(keep);
                prop_assert!(
                    possible.contains(&(left.clone(), loss.kept, loss.torn)),
                    "{:?} left what no cut can leave: {:?}",
                    keep,
                    loss
                );
                model.settle(left);
                disk.power_on();
            }
            Step::Save => {
                let folder = rig.folder(&format!("saved-{number}"));
                let saved = disk.save(&folder).unwrap();
                disk = Disk::restore(&saved, &folder, &rig.scratch(), 1).unwrap();
                in_place = false;
            }
            Step::Fork => {
                disk = disk.fork(&rig.scratch()).unwrap();
                in_place = false;
            }
            Step::Log(on) => {
                let _ = disk.record_log(on);
            }
        }
        let expected = model.content();
        prop_assert_eq!(&disk.read_sectors(0, SECTORS).unwrap(), &expected);
        let (first, count) = (number as u64 % SECTORS, 1 + number as u64 % 9);
        let count = count.min(SECTORS - first);
        let read = Guest::read(&disk, first, count).unwrap();
        prop_assert_eq!(
            &read[..],
            &expected[first as usize * 512..(first + count) as usize * 512]
        );
        prop_assert_eq!(disk.stats().unflushed_writes, model.volatile().len() as u64);
        if in_place {
            let mut image = std::fs::read(&image).unwrap();
            image.resize(SECTORS as usize * 512, 0);
            prop_assert_eq!(
                image,
                model.with(|_| false),
                "the image has what is durable"
            );
        }
    }
    disk.power_cut(PowerCut {
        keep: Keep::None,
        seed: 0,
    })
    .unwrap();
    prop_assert_eq!(
        disk.read_sectors(0, SECTORS).unwrap(),
        model.with(|_| false)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_is_its_model(base in 0..3u8, steps in proptest::collection::vec(step(), 1..40)) {
        check(base, steps)?;
    }
}
