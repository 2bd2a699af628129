use super::*;

fn stored(directory: &Path, count: u64) -> Vec<u8> {
    let (mut backend, _) = RedbBackend::open(directory).unwrap();
    for number in 1..=count {
        let key = ObjectKey::new("default", &format!("o{number}"));
        let json = format!("{{\"data\":\"{}\"}}", "x".repeat(300));
        let record = Record {
            collection: "configmaps",
            key: &key,
            revision: number,
            json: Some(json.as_bytes()),
        };
        backend.commit(&[record]).unwrap();
    }
    drop(backend);
    std::fs::read(file_in(directory)).unwrap()
}

#[test]
fn a_store_that_is_cut_short_is_named_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stored(directory.path(), 200);
    let path = file_in(directory.path());
    // Cut at the start, within headers, and everywhere in steps of a part of a page.
    let mut cuts: Vec<usize> = (1..whole.len()).step_by(whole.len() / 97).collect();
    cuts.extend([1, 8, 9, 63, 64, 320, 4095, 4096, whole.len() - 1]);
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).unwrap();
        match RedbBackend::open(directory.path()) {
            Err(error @ BackendError::Damaged { .. }) => {
                let text = error.to_string();
                assert!(
                    text.contains(path.to_str().unwrap()) && text.contains("left as it is"),
                    "{text}"
                );
                assert!(std::fs::read(&path).unwrap() == whole[..cut], "cut at {cut}");
            }
            Err(other) => panic!("cut at {cut}: {other}"),
            // What is cut off may be free space.
            Ok((_, loaded)) => assert_eq!(loaded.objects.len(), 200, "cut at {cut}"),
        }
    }
}

#[test]
fn nonsense_and_newer_stores_are_left_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = file_in(directory.path());
    std::fs::write(&path, b"this is no store".repeat(1000)).unwrap();
    let error = RedbBackend::open(directory.path()).err().unwrap();
    assert!(matches!(error, BackendError::Damaged { .. }), "{error}");
    std::fs::remove_file(&path).unwrap();
    stored(directory.path(), 3);
    let database = Database::create(&path).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(META)
        .unwrap()
        .insert("format", FORMAT + 1)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let error = RedbBackend::open(directory.path()).err().unwrap();
    assert!(error.to_string().contains("use the newer program"), "{error}");
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn bytes_that_changed_are_named_or_read_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stored(directory.path(), 100);
    let path = file_in(directory.path());
    for step in 0..60 {
        let mut changed = whole.clone();
        let at = (step * 7919 * 31) % changed.len();
        for byte in changed.iter_mut().skip(at).take(64) {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, &changed).unwrap();
        // No panic, no endless work; what is damaged stays as it is.
        if RedbBackend::open(directory.path()).is_err() {
            assert!(std::fs::read(&path).unwrap() == changed, "changed at {at}");
        }
    }
}

#[test]
fn a_store_has_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let first = RedbBackend::open(directory.path()).unwrap();
    let error = RedbBackend::open(directory.path()).err().unwrap();
    assert!(matches!(error, BackendError::InUse { .. }), "{error}");
    drop(first);
    assert!(RedbBackend::open(directory.path()).is_ok());
}
