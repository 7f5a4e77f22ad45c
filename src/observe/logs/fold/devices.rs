//! GPUs, merged from the many lines that tell of the same one; backends and libraries.

use super::super::record::Record;
use super::super::session::{Device, LibraryKind, LineId, LogSession, Seen};
use super::kind::Kind;
use super::value::{kept, mib, size};

/// More devices than a machine can have are not kept.
const DEVICES_MAX: usize = 128;
const LIBRARIES_MAX: usize = 128;

/// The library that the next numbered devices belong to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Current {
    library: Option<LibraryKind>,
}

impl Current {
    /// Takes a line about devices in.
    pub(super) fn apply(&mut self, session: &mut LogSession, record: &Record<'_>) {
        let fields = &record.fields;
        match record.kind {
            Kind::DevicesFound => {
                self.library = fields.get("library").and_then(LibraryKind::from_word);
            }
            Kind::DeviceCompute => compute(session, record),
            Kind::DeviceNumber => self.numbered(session, record),
            Kind::DeviceListed | Kind::DeviceUsing => named(session, record),
            Kind::DeviceVulkan => {
                let mut device = blank(LibraryKind::Vulkan, fields.number("index"), record.line);
                device.description = fields.get("description").map(kept);
                device.integrated = fields.get("uma").map(|uma| uma == "1");
                merge(session, device);
            }
            Kind::DeviceSycl => {
                let mut device = blank(LibraryKind::Sycl, fields.number("index"), record.line);
                device.description = fields.get("description").map(kept);
                device.compute = fields.get("compute").map(kept);
                device.total_bytes = fields.number::<f64>("total_m").and_then(mib);
                merge(session, device);
            }
            _ => metal(session, record),
        }
    }

    /// `Device 0: …` of CUDA or ROCm.
    fn numbered(self, session: &mut LogSession, record: &Record<'_>) {
        let fields = &record.fields;
        let gfx = fields.get("gfx");
        let library = match (gfx, self.library) {
            (Some(_), _) => LibraryKind::Rocm,
            (None, Some(library)) => library,
            (None, None) => LibraryKind::Cuda,
        };
        let mut device = blank(library, fields.number("index"), record.line);
        device.description = fields.get("description").map(kept);
        device.compute = gfx.or_else(|| fields.get("compute")).map(kept);
        device.id = fields.get("id").map(kept);
        device.total_bytes = fields.number::<f64>("total_mib").and_then(mib);
        merge(session, device);
    }
}

fn blank(library: LibraryKind, index: Option<u32>, line: LineId) -> Device {
    let name = index.map(|i| format!("{}{i}", library.name()));
    Device { name, index, library: Some(library), line, ..Device::default() }
}

/// Ollama's list. To 0.12.3 `name` is the product, after that it is ggml's name.
fn compute(session: &mut LogSession, record: &Record<'_>) {
    let fields = &record.fields;
    let text = |name: &str| fields.get(name).filter(|v| !v.trim().is_empty()).map(kept);
    let library = text("library").unwrap_or_default();
    for folder in fields.get("libdirs").into_iter().flat_map(|dirs| dirs.split(',')) {
        add_library(session, folder, record.line);
    }
    let Some(library) = LibraryKind::from_word(&library) else {
        if library.eq_ignore_ascii_case("cpu") {
            session.cpu_only_inference.get_or_insert(record.line);
            host(session, record);
        }
        return;
    };
    let name = text("name").filter(|n| ggml_name(n).is_some());
    let product = text("description").or_else(|| text("name").filter(|n| ggml_name(n).is_none()));
    let bytes = |name: &str| fields.get(name).and_then(size);
    let driver = text("driver").filter(|d| d != "0.0");
    let device = Device {
        index: name.as_deref().and_then(ggml_name).map(|n| n.1),
        name,
        id: text("id"),
        library: Some(library),
        description: product,
        compute: text("compute"),
        driver,
        total_bytes: bytes("total"),
        free_bytes: bytes("available"),
        integrated: text("type").map(|t| matches!(t.as_str(), "integrated" | "iGPU" | "igpu")),
        line: record.line,
    };
    merge(session, device);
}

/// A CPU in the list of devices tells the memory of the host.
fn host(session: &mut LogSession, record: &Record<'_>) {
    let bytes = |name: &str| record.fields.get(name).and_then(size);
    let mut host = session.host.unwrap_or_default();
    host.total_bytes = bytes("total").or(host.total_bytes);
    host.free_bytes = bytes("available").or(host.free_bytes);
    host.line = record.line;
    session.host = Some(host);
}

/// `CUDA0 … MiB free`.
fn named(session: &mut LogSession, record: &Record<'_>) {
    let fields = &record.fields;
    let Some((library, index)) = fields.get("device").and_then(ggml_name) else { return };
    let mut device = blank(library, Some(index), record.line);
    device.name = fields.get("device").map(kept);
    device.description = fields.get("description").map(kept);
    device.total_bytes = fields.number::<f64>("total_mib").and_then(mib);
    device.free_bytes = fields.number::<f64>("free_mib").and_then(mib);
    merge(session, device);
}

/// Lines of Metal are of one device.
fn metal(session: &mut LogSession, record: &Record<'_>) {
    let fields = &record.fields;
    let mut device = blank(LibraryKind::Metal, Some(0), record.line);
    device.name = None;
    // The newest versions print the device's name in the place of the product.
    device.description = fields.get("description").filter(|d| ggml_name(d).is_none()).map(kept);
    device.total_bytes = fields.number::<f64>("mb").map(|mb| (mb * 1e6) as u64);
    device.integrated = fields.get("unified").map(|unified| unified == "true");
    merge(session, device);
}

/// A name of ggml's: a library and a number.
fn ggml_name(name: &str) -> Option<(LibraryKind, u32)> {
    let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let library = LibraryKind::from_word(&name[..digits])?;
    let known = ["CUDA", "ROCm", "HIP", "Metal", "MTL", "Vulkan", "SYCL", "Virtual"];
    if !known.contains(&&name[..digits]) {
        return None;
    }
    let number = &name[digits..];
    Some((library, if number.is_empty() { 0 } else { number.parse().ok()? }))
}

/// Joins what is told of a device with what was known of it.
fn merge(session: &mut LogSession, new: Device) {
    let same = |old: &Device| {
        let both = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        if old.library != new.library {
            return false;
        }
        if both(&old.id, &new.id) || both(&old.name, &new.name) {
            return true;
        }
        if let (Some(a), Some(b)) = (old.index, new.index) {
            return a == b;
        }
        // One list has ids, the other numbers: the product has to do, in order.
        let distinct = old.id.is_some() && new.id.is_some();
        !distinct && alike(old.description.as_deref(), new.description.as_deref())
    };
    let Some(old) = session.devices.iter_mut().find(|d| same(d)) else {
        if session.devices.len() < DEVICES_MAX {
            session.devices.push(new);
        }
        return;
    };
    let fill = |old: &mut Option<String>, new: Option<String>| {
        if old.is_none() {
            *old = new;
        }
    };
    fill(&mut old.name, new.name);
    fill(&mut old.id, new.id);
    fill(&mut old.description, new.description);
    fill(&mut old.compute, new.compute);
    fill(&mut old.driver, new.driver);
    old.index = old.index.or(new.index);
    old.total_bytes = old.total_bytes.or(new.total_bytes);
    old.free_bytes = old.free_bytes.or(new.free_bytes);
    old.integrated = old.integrated.or(new.integrated);
}

/// Whether two names of a product can be of the same device.
fn alike(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    let bare = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.trim_start_matches("nvidia ").trim_start_matches("amd ").to_string()
    };
    let (a, b) = (bare(a), bare(b));
    a == b || a.starts_with(&b) || b.starts_with(&a)
}

/// Devices that only a list without numbers told have the numbers of their order, as all of Ollama's
/// lists do.
pub(super) fn number(session: &mut LogSession) {
    let kinds = [
        LibraryKind::Cuda,
        LibraryKind::Rocm,
        LibraryKind::Metal,
        LibraryKind::Vulkan,
        LibraryKind::Sycl,
    ];
    for kind in kinds {
        let mut of_kind: Vec<&mut Device> =
            session.devices.iter_mut().filter(|d| d.library == Some(kind)).collect();
        if of_kind.iter().any(|d| d.index.is_some()) {
            continue;
        }
        for (index, device) in (0u32..).zip(&mut of_kind) {
            device.index = Some(index);
            device.name.get_or_insert_with(|| format!("{}{index}", kind.name()));
        }
    }
}

/// A backend that a runner loaded.
pub(super) fn backend(session: &mut LogSession, record: &Record<'_>) {
    let Some(name) = record.fields.get("name") else { return };
    if record.fields.get("count") == Some("0") || session.backends.len() >= LIBRARIES_MAX {
        return;
    }
    let path = record.fields.get("path");
    let entry = session.backends.entry(kept(name));
    let known = entry.or_insert_with(|| Seen { value: String::new(), line: record.line });
    if let Some(path) = path {
        *known = Seen { value: kept(path), line: record.line };
    }
}

/// Runner variants that the server listed.
pub(super) fn libraries(session: &mut LogSession, record: &Record<'_>) {
    for name in record.fields.get("list").into_iter().flat_map(str::split_whitespace) {
        add_library(session, name, record.line);
    }
}

fn add_library(session: &mut LogSession, name: &str, line: LineId) {
    let name = kept(name);
    let known = session.libraries.iter().any(|l| l.value == name);
    if !name.is_empty() && !known && session.libraries.len() < LIBRARIES_MAX {
        session.libraries.push(Seen { value: name, line });
    }
}
