//! What a fuzzer gives hostile bytes to. It panics where a promise does not hold.

use crate::manifest::Manifest;

/// What is a manifest stays the same manifest when it is written and read again.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else {
        return;
    };
    let again = serde_json::to_vec(&manifest)
        .and_then(|written| serde_json::from_slice::<Manifest>(&written));
    let Ok(again) = again else {
        panic!("what was read cannot be read again: {manifest:?}");
    };
    assert_eq!(manifest, again);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyBuilder;
    use camino::Utf8Path;
    use provium_testkit::replay;

    #[test]
    fn hostile_manifests() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        fs_err::create_dir(folder.join("sub")).unwrap();
        fs_err::write(folder.join("sub/file"), "content").unwrap();
        fs_err::write(folder.join("large"), vec![0; 100_000]).unwrap();
        let key = KeyBuilder::new("fuzzing").finish();
        let manifest = Manifest::of(folder, &key).unwrap();
        let written = serde_json::to_vec(&manifest).unwrap();
        let pretty = serde_json::to_vec_pretty(&manifest).unwrap();
        replay(&[written, pretty], 5000, super::manifest);
    }
}
