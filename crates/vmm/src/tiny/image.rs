//! The tiny guest as a file to boot, and what it is to print.

/// The guest's code as assembled; its last four bytes are the number of rounds.
const CODE: &[u8] = include_bytes!("guest.bin");

/// Where it is loaded and entered.
const ADDRESS: u64 = 0x0020_0000;

/// What it occupies: code, page tables, working memory and stack.
const SIZE: u64 = 0x8000;

/// Steps of a round.
const STEPS: u32 = 16_384;

/// What it prints before its work.
pub const STARTED: &str = "work\n";

/// What it prints after its work of `rounds`.
pub fn finished(rounds: u32) -> String {
    format!("{:08x} done\n", sum(rounds))
}

/// The result of the work: a linear congruential generator, started at 1 and run for all steps of
/// all rounds. Leaps instead of steps: twice a leap is a leap again.
fn sum(rounds: u32) -> u32 {
    let (mut factor, mut addend) = (1_664_525_u32, 1_013_904_223_u32);
    let mut steps = u64::from(rounds) * u64::from(STEPS);
    let mut sum = 1_u32;
    while steps > 0 {
        if steps & 1 == 1 {
            sum = sum.wrapping_mul(factor).wrapping_add(addend);
        }
        addend = addend.wrapping_mul(factor.wrapping_add(1));
        factor = factor.wrapping_mul(factor);
        steps >>= 1;
    }
    sum
}

/// The guest as an ELF file for `-kernel`, with this much work before it obeys its console.
pub fn elf(rounds: u32) -> Vec<u8> {
    // ELF-64 header, two program headers, the note, the code: `elf(5)`.
    const HEADERS: u64 = 64 + 2 * 56;
    const CODE_AT: u64 = 0x100;
    let note = note();
    let mut file = Vec::with_capacity(CODE_AT as usize + CODE.len());
    file.extend(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    put16(&mut file, &[2, 62]);
    put32(&mut file, &[1]);
    put64(&mut file, &[ADDRESS, 64, 0]);
    put32(&mut file, &[0]);
    put16(&mut file, &[64, 56, 2, 0, 0, 0]);
    // PT_LOAD, readable, writable, executable.
    put32(&mut file, &[1, 7]);
    put64(
        &mut file,
        &[CODE_AT, ADDRESS, ADDRESS, CODE.len() as u64, SIZE, 0x1000],
    );
    // PT_NOTE, readable.
    put32(&mut file, &[4, 4]);
    put64(
        &mut file,
        &[HEADERS, 0, 0, note.len() as u64, note.len() as u64, 4],
    );
    file.extend(&note);
    file.resize(CODE_AT as usize, 0);
    let (code, _rounds) = CODE.split_at(CODE.len() - 4);
    file.extend(code);
    put32(&mut file, &[rounds]);
    file
}

/// `XEN_ELFNOTE_PHYS32_ENTRY` (18) of "Xen": where to enter, in 32-bit mode without paging.
fn note() -> Vec<u8> {
    let mut note = Vec::new();
    put32(&mut note, &[4, 8, 18]);
    note.extend(b"Xen\0");
    put64(&mut note, &[ADDRESS]);
    note
}

fn put16(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put32(file: &mut Vec<u8>, values: &[u32]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put64(file: &mut Vec<u8>, values: &[u64]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_file_are_pinned() {
        let file = elf(0x0102_0304);
        assert_eq!(file.len(), 0x100 + CODE.len());
        let shown: Vec<String> = file
            .chunks(16)
            .map(|line| {
                line.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn the_sum_is_known() {
        assert_eq!(finished(0), "00000001 done\n");
        // 500 times 16384 steps, as a real guest printed it.
        assert_eq!(sum(500), 0x8b45_0001);
        let stepped = (0..STEPS).fold(1_u32, |sum, _| {
            sum.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
        });
        assert_eq!(sum(1), stepped);
    }
}
