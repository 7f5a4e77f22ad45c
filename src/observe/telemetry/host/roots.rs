//! Where the system's own files are found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder under which `proc` and `sys` lie: `/`, or a made-up one in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    root: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl Roots {
    /// The files under another folder.
    pub fn under(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// A path below the root; `path` has no leading slash.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The text of a file. Names that programs give their threads need not be UTF-8.
    pub fn text(&self, path: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.path(path))?).into_owned())
    }

    /// Names in a folder that are numbers: processes, threads.
    pub fn numbers(&self, path: &str) -> io::Result<Vec<u32>> {
        let entries = fs::read_dir(self.path(path))?;
        Ok(entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
    }

    /// Bytes of a page, from what the kernel tells every program as it starts.
    pub fn page_bytes(&self) -> u64 {
        const PAGE_SIZE: usize = 6;
        let vector = fs::read(self.path("proc/self/auxv")).unwrap_or_default();
        let words: Vec<usize> = vector
            .chunks_exact(size_of::<usize>())
            .filter_map(|c| Some(usize::from_ne_bytes(c.try_into().ok()?)))
            .collect();
        let page = words.chunks_exact(2).find(|pair| pair[0] == PAGE_SIZE);
        page.map_or(4096, |pair| pair[1] as u64)
    }
}

/// The number after a field's name, as in `VmRSS:\t  12 kB`.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|l| l.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}
