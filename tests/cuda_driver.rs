//! The CUDA backend's dealings with the driver: how it starts, moves bytes and fails, through an
//! emulated driver library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod support;

use std::fs;
use std::process::Command;

use gpuwhy::engine::backend::{
    CopyTime, CudaUnavailable, Device, DeviceError, OpenCudaError, copy, cuda_device_count,
    open_cuda_device,
};

use support::cuda::{emulated, in_child, said};

fn open(index: usize) -> impl Device {
    open_cuda_device(index).unwrap()
}

#[test]
fn a_device_tells_what_it_is() {
    let settings = [("CUDA_EMULATOR_DEVICES", "2"), ("CUDA_EMULATOR_MEMORY", "1000000,2000000")];
    emulated("a_device_tells_what_it_is", &settings, || {
        assert_eq!(cuda_device_count().unwrap(), 2);
        let mut device = open(1);
        assert_eq!(device.info().name, "CUDA1");
        let words =
            "Emulated GPU 1, compute capability 8.0, 4 multiprocessors, driver for CUDA 12.4";
        assert_eq!(device.info().description, words);
        let memory = device.memory();
        assert_eq!((memory.total_bytes, memory.free_bytes), (2_000_000, 2_000_000));
        let buffer = device.alloc(1000, "a test").unwrap();
        assert_eq!(device.memory().free_bytes, 1_999_000);
        device.free(buffer);
        assert_eq!(device.memory().free_bytes, 2_000_000);
        let gone = open_cuda_device(2).map(|_| ()).unwrap_err();
        assert!(matches!(gone, OpenCudaError::NoSuchDevice { index: 2, count: 2 }), "{gone}");
    });
}

/// Bytes that differ from place to place, more than fits into the staging memory at once.
fn pattern() -> Vec<u8> {
    (0..20_000_003usize).map(|i| (i * 31 + i / 4096) as u8).collect()
}

#[test]
fn bytes_come_back_as_they_went() {
    emulated("bytes_come_back_as_they_went", &[], || {
        let (mut device, bytes) = (open(0), pattern());
        let buffer = device.alloc(bytes.len() + 5, "a test").unwrap();
        device.write(buffer, 5, &bytes).unwrap();
        let mut back = vec![1; bytes.len()];
        device.read(buffer, 5, &mut back).unwrap();
        assert!(back == bytes);
        let mut start = [1; 5];
        device.read(buffer, 0, &mut start).unwrap();
        assert_eq!(start, [0; 5], "a new buffer is zeroed");
        assert!(matches!(
            device.read(buffer, bytes.len(), &mut back),
            Err(DeviceError::Bounds { .. })
        ));
        assert!(matches!(device.write(buffer, 6, &bytes), Err(DeviceError::Bounds { .. })));
        device.free(buffer);
        assert!(matches!(device.read(buffer, 0, &mut start), Err(DeviceError::Bounds { .. })));
    });
}

#[test]
fn devices_copy_to_each_other_behind_the_host() {
    for peers in ["0", "1"] {
        let settings = [("CUDA_EMULATOR_DEVICES", "2"), ("CUDA_EMULATOR_PEERS", peers)];
        emulated("devices_copy_to_each_other_behind_the_host", &settings, || {
            let (mut a, mut b, bytes) = (open(0), open(1), pattern());
            let can = std::env::var("CUDA_EMULATOR_PEERS").unwrap() == "1";
            assert_eq!(a.reach(&mut b).unwrap(), Some(can));
            let (there, here) =
                (a.alloc(bytes.len(), "a test").unwrap(), b.alloc(bytes.len(), "a test").unwrap());
            a.write(there, 0, &bytes).unwrap();
            let time = copy((&mut a, there, 7), (&mut b, here, 0), bytes.len() - 7).unwrap();
            let CopyTime::Queued(ticket) = time else { panic!("{time:?}") };
            // The source may be overwritten at once: its device waits for the copy.
            a.write(there, 0, &vec![9; bytes.len()]).unwrap();
            assert_eq!(b.interval(ticket), None, "not finished, so not known");
            b.finish().unwrap();
            let time = b.interval(ticket).unwrap();
            assert!(time.end_ns > time.start_ns);
            let mut back = vec![0; bytes.len() - 7];
            b.read(here, 0, &mut back).unwrap();
            assert!(back == bytes[7..]);
        });
    }
}

#[test]
fn times_lie_between_asking_and_knowing() {
    emulated("times_lie_between_asking_and_knowing", &[], || {
        let mut device = open(0);
        let buffer = device.alloc(1 << 20, "a test").unwrap();
        let before = gpuwhy::base::clock::now_ns();
        let ticket = device.copy_in((buffer, 0), &vec![3; 1 << 20]).unwrap().unwrap();
        device.finish().unwrap();
        let after = gpuwhy::base::clock::now_ns();
        let time = device.interval(ticket).unwrap();
        // The clocks are aligned to within the time that watching an event takes.
        let slack = 2_000_000;
        assert!(time.start_ns + slack > before && time.end_ns < after + slack, "{time:?}");
        assert!(time.end_ns > time.start_ns);
    });
}

#[test]
fn too_little_memory_is_told_with_its_size() {
    let settings = [("CUDA_EMULATOR_MEMORY", "1048576")];
    emulated("too_little_memory_is_told_with_its_size", &settings, || {
        let mut device = open(0);
        device.alloc(1 << 19, "the first half").unwrap();
        let error = device.alloc((1 << 19) + 1, "the rest").unwrap_err();
        let text = error.to_string();
        assert_eq!(
            text,
            "CUDA0: the rest needs 512.00 KiB, but only 512.00 KiB of 1.00 MiB are free: 1 B short"
        );
        device.free_all();
        device.alloc(1 << 20, "all of it").unwrap();
    });
}

#[test]
fn a_lost_device_is_a_readable_error() {
    let settings = [("CUDA_EMULATOR_FAIL", "cuStreamSynchronize:999@2")];
    emulated("a_lost_device_is_a_readable_error", &settings, || {
        let mut device = open(0);
        device.finish().unwrap();
        let error = device.finish().unwrap_err();
        assert_eq!(
            error.to_string(),
            "CUDA0: waiting for its work: cuStreamSynchronize answered CUDA_ERROR_UNKNOWN: unknown \
             error"
        );
        assert!(error.hint().unwrap().contains("Xid"));
        // It stays lost, and nothing panics on the way out.
        assert!(device.alloc(1, "more").unwrap_err().to_string().contains("CUDA_ERROR_UNKNOWN"));
        assert_eq!(device.memory().free_bytes, 0);
    });
}

fn unavailable() -> CudaUnavailable {
    match open_cuda_device(0).map(|_| ()).unwrap_err() {
        OpenCudaError::Unavailable(e) => e,
        other => panic!("{other}"),
    }
}

#[test]
fn no_driver_is_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    in_child("no_driver_is_an_answer", folder.path(), &[], || {
        // A machine with a driver of its own has one on its path.
        match cuda_device_count() {
            Err(e @ CudaUnavailable::NoLibrary { .. }) => {
                assert_eq!(e.to_string(), "no NVIDIA driver: libcuda.so.1 was not found");
                assert!(e.hint().contains("525"));
            }
            Ok(_) | Err(_) => println!("skipped: this machine has a driver of its own"),
        }
    });
}

#[test]
fn a_damaged_driver_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("libcuda.so.1"), "no library at all").unwrap();
    in_child("a_damaged_driver_is_told", folder.path(), &[], || {
        let e = unavailable();
        assert!(matches!(e, CudaUnavailable::BrokenLibrary { .. }), "{e:?}");
        assert!(e.to_string().starts_with("the NVIDIA driver cannot be used: "), "{e}");
        assert!(e.hint().contains("reinstall"));
    });
}

#[test]
fn a_library_without_the_functions_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libcuda.so.1");
    let source = folder.path().join("empty.c");
    fs::write(&source, "int cuInit(unsigned f) { return 0; }\n").unwrap();
    let mut built = Command::new("cc");
    let built = built.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).output().unwrap();
    assert!(built.status.success(), "{}", said(&built));
    in_child("a_library_without_the_functions_is_told", folder.path(), &[], || {
        let e = unavailable();
        assert!(e.to_string().contains("libcuda.so.1 has no function cuDriverGetVersion"), "{e}");
    });
}

#[test]
fn an_old_driver_is_told_with_its_version() {
    let settings = [("CUDA_EMULATOR_DRIVER", "11080")];
    emulated("an_old_driver_is_told_with_its_version", &settings, || {
        let e = unavailable();
        let told = "the NVIDIA driver is too old: it offers CUDA 11.8, 12.0 is needed";
        assert_eq!(e.to_string(), told);
    });
}

#[test]
fn a_driver_that_does_not_start_is_told() {
    let settings = [("CUDA_EMULATOR_FAIL", "cuInit:803")];
    emulated("a_driver_that_does_not_start_is_told", &settings, || {
        let e = unavailable();
        assert!(e.to_string().contains("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"), "{e}");
        assert!(e.hint().contains("started anew"));
    });
}

#[test]
fn a_driver_without_a_gpu_is_told() {
    emulated("a_driver_without_a_gpu_is_told", &[("CUDA_EMULATOR_DEVICES", "0")], || {
        assert_eq!(unavailable(), CudaUnavailable::NoDevice);
    });
}

#[test]
fn a_gpu_older_than_the_kernels_is_refused() {
    let settings = [("CUDA_EMULATOR_CAPABILITY", "6.1")];
    emulated("a_gpu_older_than_the_kernels_is_refused", &settings, || {
        let e = open_cuda_device(0).map(|_| ()).unwrap_err().to_string();
        assert!(e.contains("compute capability 6.1; the kernels need 7.5"), "{e}");
    });
}
