#!/usr/bin/env python3
"""Compiles the CUDA kernels to PTX, which is committed beside them and embedded in the binary.

    build.py                 compiles what is stale
    build.py --all           compiles everything
    build.py UNIT ...        compiles these (a unit is a .cu file, named without its suffix)
    build.py --check         tells what is stale, by hashes of the sources; needs nothing but Python

Needs neither a GPU nor a CUDA toolkit: NVRTC, its headers and ptxas come from the PyPI wheels that
toolchain.json pins by hash (about 220 MB, kept in $GPUWHY_CUDA_WHEELS or ~/.cache/gpuwhy/cuda).

The PTX says `.version 8.0`, so that drivers from 525 on load it, although NVRTC writes a newer
version; that it is 8.0 indeed is shown by the oldest assembler of toolchain.json. Each PTX file is
assembled for every architecture it may meet, because NVRTC lets pass what ptxas refuses. PTX for 9.0
is made only of units whose kernels may overlap with the kernel before them. Registers,
spills and shared memory that ptxas reports stand in ptx/UNIT.json beside the hashes.
"""

import argparse
import concurrent.futures
import ctypes
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

KERNELS = pathlib.Path(__file__).resolve().parent
PTX = KERNELS / "ptx"
TOOLCHAIN = KERNELS / "toolchain.json"
INDEX = KERNELS.parent / "ptx.rs"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
ENTRY = re.compile(r"^\.visible \.entry (\w+)\(", re.MULTILINE)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ---- What is stale ----


def units():
    return sorted(path.stem for path in KERNELS.glob("*.cu"))


def sources(unit):
    """The unit's file and all that it includes, by name, with their hashes."""
    found, todo = {}, [f"{unit}.cu"]
    while todo:
        name = todo.pop()
        if name not in found:
            data = (KERNELS / name).read_bytes()
            found[name] = sha256(data)
            todo += INCLUDE.findall(data.decode())
    return dict(sorted(found.items()))


def read_manifest():
    """What ptx/ holds: an entry for every unit that was compiled."""
    split_old_manifest()
    return {file.stem: json.loads(file.read_text()) for file in sorted(PTX.glob("*.json"))}


def split_old_manifest():
    """There was one file for all units, over which every two changes were in conflict."""
    old = PTX / "manifest.json"
    if old.exists():
        for unit, entry in json.loads(old.read_text())["units"].items():
            if not (PTX / f"{unit}.json").exists():
                write_entry(unit, entry)
        old.unlink()


def why_stale(unit, entry):
    """None, or the reason why the unit's PTX is not what its sources say."""
    if entry is None:
        return "was never compiled"
    if entry["toolchain_sha256"] != sha256(TOOLCHAIN.read_bytes()):
        return "was compiled with other settings than those of toolchain.json"
    now = sources(unit)
    changed = sorted(set(now.items()) ^ set(entry["sources"].items()))
    if changed:
        return f"{changed[0][0]} has changed"
    for ptx in entry["ptx"].values():
        file = PTX / ptx["file"]
        if not file.exists() or sha256(file.read_bytes()) != ptx["sha256"]:
            return f"ptx/{ptx['file']} is not what was compiled"
    return None


def check():
    manifest = read_manifest()
    problems = [f"{u}.cu: {why}" for u in units() if (why := why_stale(u, manifest.get(u)))]
    problems += [f"{u}.cu is gone, its PTX is not" for u in sorted(set(manifest) - set(units()))]
    known = {p["file"] for entry in manifest.values() for p in entry["ptx"].values()}
    problems += [f"ptx/{f.name} belongs to no unit" for f in sorted(PTX.glob("*.ptx")) if f.name not in known]
    for problem in problems:
        print(problem)
    if problems:
        sys.exit(f"stale PTX: run {pathlib.Path(__file__).name}")
    print(f"the PTX of {len(manifest)} units is up to date")


# ---- The toolchain ----


def wheel(package, version, digest):
    """The folder of an unpacked wheel; downloads it the first time."""
    default = pathlib.Path.home() / ".cache/gpuwhy/cuda"
    cache = pathlib.Path(os.environ.get("GPUWHY_CUDA_WHEELS", default))
    folder = cache / f"{package}-{version}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        scratch = pathlib.Path(scratch)
        requirement = scratch / "requirement.txt"
        requirement.write_text(f"{package}=={version} --hash=sha256:{digest}\n")
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        subprocess.run(
            [*pip, "--require-hashes", "-r", requirement, "-d", scratch], check=True
        )
        file = next(scratch.glob("*.whl"))
        if sha256(file.read_bytes()) != digest:
            sys.exit(f"{file.name} has another hash than toolchain.json says")
        unpacked = scratch / "unpacked"
        with zipfile.ZipFile(file) as archive:
            archive.extractall(unpacked)
        for program in unpacked.rglob("ptxas"):
            program.chmod(0o755)
        unpacked.rename(folder)
    return folder


def targets_of(unit, targets):
    """The architectures a unit is compiled for: not those whose instructions it does not use."""
    texts = [(KERNELS / name).read_text() for name in sources(unit) if name != "device.cuh"]
    return [
        arch
        for arch, target in targets.items()
        if "only_with" not in target or any(target["only_with"] in text for text in texts)
    ]


class Toolchain:
    def __init__(self):
        settings = json.loads(TOOLCHAIN.read_text())
        self.targets = settings["targets"]
        self.ptx_isa = settings["ptx_isa"]
        folders = {
            name: wheel(name, pin["version"], pin["sha256"])
            for name, pin in settings["wheels"].items()
        }
        oldest = settings["oldest_assembler"]
        oldest = wheel(oldest["package"], oldest["version"], oldest["sha256"])
        self.ptxas_oldest = next(oldest.rglob("ptxas"))
        self.ptxas = next(folders["nvidia-cuda-nvcc-cu12"].rglob("ptxas"))
        headers = next(folders["nvidia-cuda-runtime-cu12"].rglob("cuda_fp16.h")).parent
        self.options = [*settings["options"], f"-I{headers}", f"-I{KERNELS}"]
        nvrtc = folders["nvidia-cuda-nvrtc-cu12"]

        def library(pattern):
            return str(next(p for p in sorted(nvrtc.rglob(pattern)) if ".alt." not in p.name))

        ctypes.CDLL(library("libnvrtc-builtins.so.*"), mode=ctypes.RTLD_GLOBAL)
        self.nvrtc = ctypes.CDLL(library("libnvrtc.so.*"))

    def compile(self, unit, arch):
        """The unit's PTX as text."""
        lib, program = self.nvrtc, ctypes.c_void_p()

        def text(what):
            size = ctypes.c_size_t()
            getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
            buffer = ctypes.create_string_buffer(size.value)
            getattr(lib, f"nvrtcGet{what}")(program, buffer)
            return buffer.value.decode()

        source = (KERNELS / f"{unit}.cu").read_bytes()
        options = [f"--gpu-architecture={arch}", *self.options]
        array = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
        name = f"{unit}.cu".encode()
        created = lib.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None)
        if created != 0:
            sys.exit(f"nvrtcCreateProgram: error {created}")
        failed = lib.nvrtcCompileProgram(program, len(options), array)
        log = text("ProgramLog").strip()
        if log:
            print(log)
        if failed:
            sys.exit(f"{unit}.cu does not compile for {arch}")
        ptx = text("PTX")
        lib.nvrtcDestroyProgram(ctypes.byref(program))
        # Comments of the compiler name its build, which says nothing of the code.
        ptx = re.sub(r"(?m)^//.*\n", "", ptx).lstrip("\n")
        # A hint for newer assemblers about loads of which not every byte is used.
        ptx = re.sub(r'(?m)^\s*\.pragma "used_bytes_mask [^"]*";\n', "", ptx)
        return re.sub(r"(?m)^\.version .*$", f".version {self.ptx_isa}", ptx)


# ---- Assembling ----


def assemble(ptxas, file, sm):
    """What ptxas reports of each kernel of a PTX file, or its complaint."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        command = [ptxas, "-v", f"-arch={sm}", file, "-o", cubin.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{file.name} does not assemble for {sm}:\n{done.stderr}")
    kernels, kernel = {}, None
    for line in done.stderr.splitlines():
        if named := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = kernels.setdefault(named[1], {"registers": 0, "spill_bytes": 0, "shared_bytes": 0})
        elif kernel is not None:
            if spills := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
                kernel["spill_bytes"] = int(spills[1]) + int(spills[2])
            if used := re.search(r"Used (\d+) registers", line):
                kernel["registers"] = int(used[1])
            if shared := re.search(r"(\d+) bytes smem", line):
                kernel["shared_bytes"] = int(shared[1])
    return kernels


def verify(toolchain, unit, arch):
    """Assembles one PTX file for every architecture; gives each kernel's figures."""
    target, file = toolchain.targets[arch], PTX / f"{unit}.{arch}.ptx"
    for sm in target["assemble_oldest"]:
        assemble(toolchain.ptxas_oldest, file, sm)
    figures = {}
    for sm in target["assemble"]:
        for kernel, found in assemble(toolchain.ptxas, file, sm).items():
            entry = figures.setdefault(kernel, {"shared_bytes": 0, "registers": {}, "spill_bytes": {}})
            entry["shared_bytes"] = max(entry["shared_bytes"], found["shared_bytes"])
            entry["registers"][sm] = found["registers"]
            if found["spill_bytes"]:
                entry["spill_bytes"][sm] = found["spill_bytes"]
                print(f"{kernel}: {found['spill_bytes']} bytes of spills on {sm}")
    return dict(sorted(figures.items()))


def verify_all(toolchain, unit):
    """Each kernel's figures by the architecture of the PTX."""
    all_figures = {}
    for arch in targets_of(unit, toolchain.targets):
        figures = verify(toolchain, unit, arch)
        entries = sorted(ENTRY.findall((PTX / f"{unit}.{arch}.ptx").read_text()))
        if sorted(figures) != entries:
            sys.exit(f"{unit}: ptxas reports {sorted(figures)}, the PTX has {entries}")
        all_figures[arch] = figures
    return all_figures


# ---- Results ----


def write_entry(unit, entry):
    """JSON with one line per kernel, so that a change of its figures shows as one."""
    text = json.dumps(entry, indent=1)
    one_line = re.compile(r'("\w+": )(\{\n\s+"shared_bytes"(?:[^{}]|\{[^{}]*\})*\})')
    text = one_line.sub(lambda m: m[1] + json.dumps(json.loads(m[2])), text)
    (PTX / f"{unit}.json").write_text(text + "\n")


def write_index(manifest):
    """ptx.rs: every unit with its kernels and its PTX by the architecture it needs."""
    lines = [
        "//! The kernels' PTX, embedded in the binary.",
        "//!",
        "//! Written by `kernels/build.py`; never edited. Invariant: it lists what `kernels/ptx` holds.",
        "",
        "/// The kernels of one `.cu` file.",
        "pub(super) struct Unit {",
        "    /// The file's name without its suffix.",
        "    pub name: &'static str,",
        "    /// The kernels that it defines.",
        "    pub kernels: &'static [&'static str],",
        "    /// Its PTX by the compute capability (major, minor) that it needs, lowest first.",
        "    pub ptx: &'static [((u32, u32), &'static str)],",
        "}",
        "",
        "/// All units, by name.",
        "pub(super) const UNITS: &[Unit] = &[",
    ]
    for unit, entry in sorted(manifest.items()):
        kernels = sorted({k for ptx in entry["ptx"].values() for k in ptx["kernels"]})
        lines += ["    Unit {", f'        name: "{unit}",', "        kernels: &["]
        lines += [f'            "{kernel}",' for kernel in kernels]
        lines += ["        ],", "        ptx: &["]
        for arch, ptx in sorted(entry["ptx"].items()):
            number = int(re.search(r"\d+", arch)[0])
            path = f"kernels/ptx/{ptx['file']}"
            lines.append(f'            (({number // 10}, {number % 10}), include_str!("{path}")),')
        lines += ["        ],", "    },"]
    lines.append("];")
    INDEX.write_text("\n".join(lines) + "\n")
    subprocess.run(["rustfmt", "--edition", "2024", INDEX], check=True)


def build(wanted):
    manifest = {u: e for u, e in read_manifest().items() if u in units()}
    PTX.mkdir(exist_ok=True)
    toolchain = Toolchain()
    settings = sha256(TOOLCHAIN.read_bytes())
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = []
        for unit in wanted:
            entry = {"toolchain_sha256": settings, "sources": sources(unit), "ptx": {}}
            for arch in targets_of(unit, toolchain.targets):
                ptx = toolchain.compile(unit, arch)
                file = PTX / f"{unit}.{arch}.ptx"
                file.write_text(ptx)
                entry["ptx"][arch] = {"file": file.name, "sha256": sha256(ptx.encode())}
            print(f"compiled {unit}.cu", flush=True)
            jobs.append((unit, entry, pool.submit(verify_all, toolchain, unit)))
        for unit, entry, figures in jobs:
            for arch, kernels in figures.result().items():
                entry["ptx"][arch]["kernels"] = kernels
            manifest[unit] = entry
            write_entry(unit, entry)
    known = {p["file"] for entry in manifest.values() for p in entry["ptx"].values()}
    for file in PTX.iterdir():
        if file.name not in known and file.name not in {f"{unit}.json" for unit in manifest}:
            file.unlink()
    write_index(manifest)


def main():
    parser = argparse.ArgumentParser(description="Compiles the CUDA kernels to PTX.")
    parser.add_argument("--check", action="store_true", help="only tell what is stale")
    parser.add_argument("--all", action="store_true", help="compile what is up to date, too")
    parser.add_argument("units", nargs="*", metavar="UNIT", help="compile these only")
    arguments = parser.parse_args()
    if arguments.check:
        check()
        return
    manifest = read_manifest()
    if unknown := set(arguments.units) - set(units()):
        sys.exit(f"no such unit: {', '.join(sorted(unknown))}")
    wanted = arguments.units or [
        unit for unit in units() if arguments.all or why_stale(unit, manifest.get(unit))
    ]
    build(wanted)


main()
