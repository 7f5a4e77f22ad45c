//! Made-up machines, looked at.

use std::fs;
use std::path::Path;

use super::*;

/// A made-up machine: files by path, a folder of PCI devices, links to drivers.
struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    #[cfg(unix)]
    fn gpu(&self, address: &str, vendor: &str, driver: Option<&str>) -> &Self {
        let folder = format!("sys/bus/pci/devices/{address}");
        self.file(&format!("{folder}/class"), "0x030000\n");
        self.file(&format!("{folder}/vendor"), &format!("{vendor}\n"));
        if let Some(driver) = driver {
            let target = Path::new("../../../bus/pci/drivers").join(driver);
            std::os::unix::fs::symlink(target, self.path(&format!("{folder}/driver"))).unwrap();
        }
        self
    }

    fn look(&self, servers: &[u32]) -> Inspection {
        Inspection::of(&Roots::under(self.0.path()), servers)
    }
}

fn value<'a>(machine: &'a Inspection, name: &str) -> &'a str {
    let seen = machine.seen.iter().find(|s| s.name == name);
    seen.map_or_else(|| panic!("{name}: {:?}", machine.seen), |s| s.value.as_str())
}

#[cfg(unix)]
#[test]
fn gpus_drivers_libraries_and_permissions_are_seen() {
    use std::os::unix::fs::PermissionsExt;
    let made = Made::new();
    made.gpu("0000:01:00.0", "0x10de", Some("nvidia")).gpu("0000:02:00.0", "0x1002", None);
    made.file("sys/bus/pci/devices/0000:03:00.0/class", "0x020000\n");
    made.file("proc/modules", "nvidia 1 0 - Live 0x0\nnvidia_uvm 1 0 - Live 0x0\n");
    made.file(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module  580.95.05  Release\nGCC 12\n",
    );
    made.file("usr/lib64/libcuda.so.1.1", "");
    made.file(
        "proc/self/status",
        "Uid:\t4000000000 4000000000 1 1\nGid:\t1 4000000000 1 1\nGroups:\t7\n",
    );
    made.file("dev/kfd", "");
    made.file("dev/nvidiactl", "");
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(made.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("dev/kfd", 0o660);
    mode("dev/nvidiactl", 0o666);
    let machine = made.look(&[]);
    let gpus: Vec<(Vendor, Option<&str>)> =
        machine.gpus.iter().map(|g| (g.vendor, g.driver.as_deref())).collect();
    assert_eq!(gpus, [(Vendor::Nvidia, Some("nvidia")), (Vendor::Amd, None)]);
    assert_eq!(value(&machine, "NVIDIA driver in the kernel"), "580.95.05");
    assert_eq!(value(&machine, "kernel modules for GPUs"), "nvidia, nvidia_uvm");
    assert_eq!(value(&machine, "the CUDA driver"), "libcuda.so.1 in /usr/lib64");
    assert_eq!(machine.file("/dev/kfd").unwrap().may_use, Some(false));
    assert_eq!(machine.file("/dev/nvidiactl").unwrap().may_use, Some(true));
}

#[test]
fn what_cannot_be_read_is_a_fact() {
    let machine = Made::new().look(&[17]);
    assert_eq!(machine.modules, None);
    let hinted = machine.seen.iter().filter(|s| !s.hint.is_empty()).map(|s| s.name.as_str());
    let hinted: Vec<&str> = hinted.collect();
    let expected = ["kernel modules for GPUs", "memory", "environment of the running server"];
    assert_eq!(hinted, expected);
}

#[test]
fn a_container_with_limits_is_seen() {
    let made = Made::new();
    made.file(".dockerenv", "");
    made.file(&format!("proc/{}/cgroup", std::process::id()), "0::/\n");
    made.file("sys/fs/cgroup/cpu.max", "150000 100000\n");
    made.file("sys/fs/cgroup/memory.max", "1073741824\n");
    let machine = made.look(&[]);
    assert_eq!(machine.container, Some("Docker"));
    assert_eq!(value(&machine, "CPU quota"), "1.5 CPUs in /");
    assert_eq!(value(&machine, "memory limit"), "1.00 GiB in /");
}

#[test]
fn units_and_the_running_environment_are_told_apart() {
    let made = Made::new();
    let unit = "[Service]\nExecStart=/usr/bin/ollama serve\nEnvironment=\"PATH=/bin\"\n";
    made.file("usr/lib/systemd/system/ollama.service", unit);
    let drop_in = "etc/systemd/system/ollama.service.d/override.conf";
    made.file(drop_in, "[Service]\nEnvironment=\"OLLAMA_NUM_PARALEL=2\" OLLAMA_DEBUG=1\n");
    let machine = made.look(&[]);
    let names: Vec<&str> = machine.settings.keys().map(String::as_str).collect();
    assert_eq!(names, ["OLLAMA_DEBUG", "OLLAMA_NUM_PARALEL"]);
    assert!(machine.settings["OLLAMA_DEBUG"].from.ends_with("override.conf"));
    // The running server was started before that.
    made.file("proc/5/environ", "HOME=/root\0OLLAMA_DEBUG=1\0SECRET=x\0");
    let machine = made.look(&[5]);
    assert_eq!(machine.settings.len(), 1);
    let stale = machine.seen.iter().find(|s| s.name == "OLLAMA_NUM_PARALEL").unwrap();
    assert!(stale.value.ends_with("not in the running server"), "{stale:?}");
    assert!(stale.hint.contains("restart ollama"));
    assert!(machine.seen.iter().all(|s| !s.value.contains("SECRET")));
}
