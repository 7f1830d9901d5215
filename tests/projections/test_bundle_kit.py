"""A bundle where nothing of ours is installed: OpenSSH says who signed it, 200 lines of Python what it proves."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from orchestrator.codec.records import Codec
from orchestrator.codec.signing import NAMESPACE, SIGNER, PublicKeys, Signer, generate, public_path, signers_path
from orchestrator.core.tasks import Anchor
from orchestrator.log.ports import Wire
from orchestrator.projections.bundle import KIT, MANIFEST, SIGNATURE, BundleWriter
from orchestrator.projections.bundle_export import Exporter, Range, Runs
from orchestrator.projections.bundle_verify import verify_bundle
from orchestrator.store.blobs import DirectoryBlobs, MemoryBlobs
from tests.oracle.logs import NULL, EventLog, scheduled, started
from tests.projections.test_audit_named import runs

pytestmark = pytest.mark.slow

CODEC = Codec()
VERIFY = KIT / "verify.py"


class Site:
    """An engine's and an exporter's key, a log of four runs, and blobs."""

    def __init__(self, place: Path) -> None:
        for name in ("engine", "exporter"):
            generate(place / f"{name}.pem")
        self.place = place
        self.engine, self.exporter = (Signer.load(place / f"{name}.pem") for name in ("engine", "exporter"))
        self.keys = PublicKeys.load([public_path(place / "exporter.pem"), public_path(place / "engine.pem")])
        self.log = runs()
        self.blobs = DirectoryBlobs(place / "blobs")

    def head(self) -> bytes:
        """The log's last footer, signed by the engine."""
        wire = self.log.records[-1]
        record = CODEC.decode_event(wire.key, wire.value)
        at = (wire.offset, record.event.claim_no, record.event.batch_no, record.hash, 1_700_000_100_000)
        return CODEC.encode(self.engine.sign(Anchor("cluster", "events", 0, *at)))

    def export(self, chosen: Runs | Range, anchors: list[bytes] | None = None) -> Path:
        """A bundle."""
        path = self.place / "made.zip"
        wires = [[Wire(*record) for record in self.log.records]]
        with path.open("wb") as file:
            writer = BundleWriter(file)
            exporter = Exporter(writer, CODEC)
            if isinstance(chosen, Runs):
                exporter.runs(0, wires, chosen)
            else:
                exporter.batches(0, wires, chosen)
            exporter.anchors([self.head()] if anchors is None else anchors)
            exporter.blobs(self.blobs)
            scope = {"kind": "runs" if isinstance(chosen, Runs) else "batches", **chosen._asdict()}
            ids = {"app": "app", "cluster_id": "cluster", "commands_id": "commands", "events_id": "events"}
            manifest = {**ids, "scope": scope, "blobs": "included", "absent_blobs": exporter.absent}
            writer.seal({**manifest, **exporter.heads(), **exporter.schemas()}, self.exporter, 1_700_000_200_000)
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def alone(bundle: Path, *keys: Path) -> subprocess.CompletedProcess[str]:
    """`verify.py` as it lies in the bundle, without this checkout, its environment or any installed package."""
    with zipfile.ZipFile(bundle) as opened:
        opened.extract("verify.py", bundle.parent / "elsewhere")
    named = [word for key in keys for word in ("--key", str(public_path(key)))]
    command = [sys.executable, "-I", "-S", "verify.py", str(bundle), *named]
    return subprocess.run(
        command, cwd=bundle.parent / "elsewhere", env={}, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_verifier_is_short_and_imports_the_standard_library_alone() -> None:
    text = VERIFY.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).split(".")[0])
    assert names <= set(sys.stdlib_module_names)
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import orchestrator"], env={}, capture_output=True, check=False
    )
    assert found.returncode != 0, "without site-packages nothing of ours can be imported"


@pytest.mark.contract("audit-export")
@pytest.mark.parametrize(
    ("chosen", "heads"),
    [
        (Range(), "complete up to head 1/13, signed at 2023-11-14 22:15:00Z"),
        (Range(from_offset=20), "complete up to head 1/13"),
        (Range(from_offset=8, to_offset=40), "prefix only, no anchor"),
        (Runs("r3"), "complete up to head 1/13"),
    ],
    ids=["all", "to the end", "in the middle", "a run"],
)
def test_a_bundle_verifies_without_the_package(site: Site, chosen: Runs | Range, heads: str) -> None:
    bundle = site.export(chosen)
    assert verify_bundle(bundle, site.keys).ok
    done = alone(bundle, site.place / "engine.pem")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was found" in done.stdout
    assert heads in done.stdout
    without = alone(bundle)
    assert without.returncode == 0
    assert "prefix only, no anchor" in without.stdout


@pytest.mark.contract("audit-export")
@pytest.mark.parametrize("chosen", [Range(), Runs("r1")], ids=["batches", "run"])
def test_what_does_not_fit_is_found_without_the_package(site: Site, chosen: Runs | Range) -> None:
    """Whoever may sign removes, changes or inserts a record, and signs: every one is found, by its offset."""
    bundle = site.export(chosen)
    with zipfile.ZipFile(bundle) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    rows = files["records/0.jsonl"].splitlines(keepends=True)
    records = [at for at, row in enumerate(rows) if b'"key"' in row]
    changed = []
    for at in records[1 : -1 : max(1, len(records) // 4)]:
        row = json.loads(rows[at])
        row["value"] = row["value"][:-8] + ("AAAA" if row["value"][-8:-4] != "AAAA" else "BBBB") + row["value"][-4:]
        changed += [[*rows[:at], json.dumps(row).encode() + b"\n", *rows[at + 1 :]]]
        changed += [[*rows[:at], *rows[at + 1 :]], [*rows[: at + 1], *rows[at:]]]
    for lie in changed:
        resigned(site, bundle, {**files, "records/0.jsonl": b"".join(lie)})
        done = alone(bundle)
        assert done.returncode == 1, done.stdout
        assert "offset " in done.stdout
        assert done.stderr == ""


def resigned(site: Site, bundle: Path, files: dict[str, bytes]) -> None:
    """A bundle of these files, as whoever has the key would make it."""
    with bundle.open("wb") as file:
        writer = BundleWriter(file)
        for name, data in files.items():
            if name not in (MANIFEST, SIGNATURE, "FORMAT.md", "verify.py"):
                writer.file(name, data)
        told = json.loads(files[MANIFEST])
        left = {name: value for name, value in told.items() if name not in ("files", "made_at_ms", "key_id", "format")}
        writer.seal(left, site.exporter, 1)


@pytest.mark.contract("audit-export")
def test_files_that_are_not_the_manifest_s_are_found_without_the_package(site: Site) -> None:
    bundle = site.export(Range())
    with zipfile.ZipFile(bundle) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    for name in ("records/0.jsonl", "anchors.jsonl", "FORMAT.md"):
        with zipfile.ZipFile(bundle, "w") as made:
            for other, data in files.items():
                made.writestr(other, data + b" " if other == name else data)
        done = alone(bundle)
        assert (done.returncode, done.stdout) == (1, f"{name} is not what the manifest says\n")
    with zipfile.ZipFile(bundle, "w") as made:
        for name, data in {**files, "more": b""}.items():
            made.writestr(name, data)
    assert "its files are not those" in alone(bundle).stdout


@pytest.mark.contract("audit-export")
def test_a_forged_head_is_found_without_the_package(site: Site) -> None:
    good = CODEC.decode(site.head())
    forged = CODEC.encode(good._replace(time_ms=good.time_ms + 1))
    done = alone(site.export(Range(), [forged]), site.place / "engine.pem")
    assert done.returncode == 1
    assert f"partition 0 offset {good.offset}: a signed head that is forged" in done.stdout


def blob_log(site: Site) -> str:
    """A run whose result is a blob; the blob's name."""
    ref = site.blobs.put(b"x" * 100_000)
    site.log = log = EventLog()
    log.claim()
    log.position = 1
    log.event("RunStarted", started(), "big", "big")
    log.event("StepScheduled", scheduled(0), "big", "big")
    result = {**NULL, "data": b"", "blob": ref._asdict()}
    log.event("StepCompleted", {"step": "0:0", "attempt": 1, "result": result}, "big", "big")
    log.footer()
    return ref.name


@pytest.mark.contract("audit-export")
@pytest.mark.parametrize("chosen", [Range(), Runs("big")], ids=["batches", "run"])
def test_blobs_come_with_it_and_a_dropped_one_is_named(site: Site, chosen: Runs | Range) -> None:
    name = blob_log(site)
    bundle = site.export(chosen)
    with zipfile.ZipFile(bundle) as opened:
        assert opened.read(f"blobs/{name}") == b"x" * 100_000
    found = verify_bundle(bundle, site.keys)
    assert found.ok, found.audit.findings
    assert found.audit.partitions[0].blobs == 1
    (site.place / "blobs" / name[:2] / name).unlink()
    bundle = site.export(chosen)
    (finding,) = verify_bundle(bundle, site.keys).audit.findings
    completed = site.log.records[-2]
    assert (finding.kind, finding.offset) == ("blob", completed.offset)
    with zipfile.ZipFile(bundle) as opened:
        assert json.loads(opened.read(MANIFEST))["absent_blobs"] == [name]


def test_memory_blobs_can_be_exported_too(site: Site) -> None:
    site.blobs = MemoryBlobs()  # type: ignore[assignment]
    blob_log(site)
    assert verify_bundle(site.export(Range()), site.keys).ok


# -- the detached signature --------------------------------------------------------------------------------------------


def openssh(*words: str, text: bytes, cwd: Path) -> subprocess.CompletedProcess[bytes] | None:
    """`ssh-keygen`; None, and a word why, where there is none."""
    found = shutil.which("ssh-keygen")
    if found is None:
        print("no ssh-keygen on this machine: the signature is checked by this package alone")
        return None
    return subprocess.run([found, *words], input=text, cwd=cwd, capture_output=True, timeout=30, check=False)


@pytest.mark.contract("audit-export")
def test_openssh_says_who_signed(site: Site) -> None:
    with zipfile.ZipFile(site.export(Range())) as opened:
        opened.extract(SIGNATURE, site.place)
        text = opened.read(MANIFEST)
    check = ("-Y", "verify", "-I", SIGNER, "-n", NAMESPACE.decode(), "-s", SIGNATURE, "-f")
    listed, other = (str(signers_path(site.place / f"{name}.pem")) for name in ("exporter", "engine"))
    for signers, data, good in ((listed, text, True), (listed, text + b" ", False), (other, text, False)):
        done = openssh(*check, signers, text=data, cwd=site.place)
        assert done is None or (done.returncode == 0) is good, done.stderr
    elsewhere = openssh(*check[:5], "file", *check[6:], listed, text=text, cwd=site.place)
    assert elsewhere is None or elsewhere.returncode != 0


def test_a_signature_by_openssh_is_one_for_us(site: Site) -> None:
    (site.place / "text").write_bytes(b"what it says")
    key = site.place / "theirs"
    made = openssh("-q", "-t", "ed25519", "-N", "", "-f", str(key), text=b"", cwd=site.place)
    if made is None:
        return
    sign = ("-Y", "sign", "-q", "-n", NAMESPACE.decode(), "-f", str(key), "text")
    done = openssh(*sign, text=b"", cwd=site.place)
    assert done is not None
    assert done.returncode == 0, done.stderr
    key_id, problem = site.keys.file_problem((site.place / "text.sig").read_bytes(), b"what it says")
    assert key_id
    assert "which is not one of those given" in problem


@pytest.mark.parametrize(
    ("armour", "problem"),
    [
        (b"", "not in OpenSSH's form"),
        (b"\xff", "cannot be read"),
        (b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n", "cannot be read"),
    ],
)
def test_what_is_no_signature_is_refused(site: Site, armour: bytes, problem: str) -> None:
    assert problem in site.keys.file_problem(armour, b"x")[1]


def test_a_signature_of_another_text_or_purpose_is_refused(site: Site) -> None:
    armour = site.exporter.sign_file(b"x")
    assert site.keys.file_problem(armour.encode(), b"x") == (site.exporter.key_id, "")
    assert "forged" in site.keys.file_problem(armour.encode(), b"y")[1]
