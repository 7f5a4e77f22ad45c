//! What an error of NVML means, in words, and what can be done about it.

use nvml_wrapper::error::NvmlError as E;

use crate::base::event::AbsentReason as R;
use crate::observe::telemetry::unread::Unread;

/// An error as a reason with a hint.
pub(super) fn unread(error: &E) -> Unread {
    let (reason, hint) = match error {
        E::LibloadingError(_) | E::LibraryNotFound => (
            R::LibraryMissing,
            "without an NVIDIA GPU this is as it should be; otherwise install the driver's \
             libraries, and in a container allow the capability `utility` \
             (NVIDIA_DRIVER_CAPABILITIES=compute,utility)",
        ),
        E::DriverNotLoaded => (
            R::DriverNotLoaded,
            "load the kernel module (`sudo modprobe nvidia`; `dmesg | grep -i nvidia` says why it \
             does not load); a container must be started with its GPUs, as with `--gpus all`",
        ),
        E::NoPermission => (
            R::NoPermission,
            "this user may not open the GPU: see `ls -l /dev/nvidia*`; in a virtual machine or a \
             container the host may forbid this counter",
        ),
        E::OperatingSystem => (
            R::NoPermission,
            "the container's control group does not allow the GPU's device: start it again",
        ),
        // What a container gets whose devices were taken away while it ran.
        E::Unknown => (
            R::Unreadable,
            "in a container: its devices may have been taken away by `systemctl daemon-reload` on \
             the host; start it again. Otherwise look for `NVRM` in `dmesg`",
        ),
        E::LibRmVersionMismatch => (
            R::VersionMismatch,
            "the driver was updated while its old kernel module was loaded: reboot, or unload and \
             load the module; start containers again",
        ),
        E::GpuLost => (
            R::DeviceLost,
            "look for `Xid` in `dmesg`; the GPU comes back with a reboot, and if it is lost again, \
             check its power, its seat and its temperature",
        ),
        E::ResetRequired => (
            R::DeviceLost,
            "reset it with `sudo nvidia-smi --gpu-reset -i INDEX` when nothing uses it, or reboot",
        ),
        E::InsufficientPower => (R::DeviceLost, "the GPU's power cables are not attached well"),
        E::NotSupported
        | E::FunctionNotFound
        | E::FailedToLoadSymbol(_)
        | E::NotFound
        | E::InvalidArg
        | E::NoData
        | E::VgpuEccNotSupported => (R::NotSupported, ""),
        _ => (R::Unreadable, ""),
    };
    let text = match error {
        E::LibloadingError(_) | E::LibraryNotFound => {
            "NVIDIA's management library (libnvidia-ml.so.1) was not found".to_string()
        }
        E::FailedToLoadSymbol(_) => "the driver is too old to tell".to_string(),
        other => format!("NVML: {other}"),
    };
    Unread::new(reason, text, hint)
}

/// Whether all that follows of this GPU would fail as well.
pub(super) fn is_lost(why: &Unread) -> bool {
    why.reason == R::DeviceLost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_do_is_told() {
        for (error, reason) in [
            (E::LibraryNotFound, R::LibraryMissing),
            (E::DriverNotLoaded, R::DriverNotLoaded),
            (E::NoPermission, R::NoPermission),
            (E::Unknown, R::Unreadable),
            (E::LibRmVersionMismatch, R::VersionMismatch),
            (E::GpuLost, R::DeviceLost),
        ] {
            let why = unread(&error);
            assert_eq!(why.reason, reason);
            assert!(!why.hint.is_empty() && !why.text.is_empty(), "{why:?}");
        }
        assert_eq!(unread(&E::FailedToLoadSymbol("x".into())).reason, R::NotSupported);
        assert!(is_lost(&unread(&E::ResetRequired)) && !is_lost(&unread(&E::NotSupported)));
    }
}
