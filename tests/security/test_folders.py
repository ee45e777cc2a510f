"""Caches, locks and builds lie where nobody else can write, and say so where that is not so."""

import dataclasses
import os
import secrets
import stat
import warnings

import numpy as np
import pytest
from PIL import Image

from harness.cases import inputs
from harness.cases.case import InputSource
from harness.cases.models.model_files import ModelFiles
from harness.devices import leases, npu_probe
from harness.devices.emulator import build
from harness.devices.emulator.errors import EmulatorError
from harness.devices.spec import DeviceSpec
from harness.entry.commands.main import main
from harness.entry.doctor import examine
from harness.execution.reference.cache import ReferenceCache, ReferenceCacheWarning
from harness.execution.reference.cpu_side import CpuSide
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.judgement.arithmetic import Arithmetic
from harness.system import files, private, signing
from harness.system.status import CaseProblem, Status, UsageProblem
from tests.security.conftest import OTHER

KEY = {"kind": "leg", "n": 1}
CPU = DeviceSpec("cpu", 0)


def put(cache, value=1.0):
    cache.put(KEY, {"x": np.full(3, value)}, {"model": "m"})


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """Sets the umask; restored afterwards."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_cache_is_private_whatever_the_umask(mask, umask, tmp_path):
    umask(mask)
    cache = ReferenceCache(tmp_path / "a" / "cache")
    put(cache)
    assert mode(tmp_path / "a" / "cache") == mode(tmp_path / "a") == 0o700
    assert cache.get(KEY) is not None


@pytest.mark.parametrize(("mask", "wanted"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640)])
def test_files_follow_the_umask(mask, wanted, umask, tmp_path):
    umask(mask)
    with files.replacing(tmp_path / "f") as temporary:
        temporary.write_text("x")
    assert mode(tmp_path / "f") == wanted


def test_a_folder_that_others_can_write_to_is_not_ours(tmp_path):
    assert private.problem(tmp_path) == ""
    tmp_path.chmod(0o777)
    assert "mode 0777" in private.problem(tmp_path / "below" / "it")
    tmp_path.chmod(0o1777)
    assert private.problem(tmp_path / "below") == ""  # as /tmp
    assert "mode 1777" in private.problem(tmp_path)


def test_a_link_of_a_neighbour_is_seen_at_any_part(host, neighbour):
    mine = host / "mine"
    (mine / "cache").mkdir(parents=True, mode=0o700)
    neighbour(f"ln -s {mine} {host}/link")
    assert f"uid {OTHER}" in private.problem(host / "link" / "cache")
    assert private.problem(mine / "cache") == ""


def test_a_cache_others_can_write_to_is_neither_read_nor_written(tmp_path):
    put(ReferenceCache(tmp_path / "c"))
    (tmp_path / "c").chmod(0o777)
    cache = ReferenceCache(tmp_path / "c")
    with pytest.warns(ReferenceCacheWarning, match="mode 0777"):
        assert cache.get(KEY) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        put(cache, 2.0)
    assert cache.trouble()


def test_a_neighbour_s_entry_is_not_believed_and_not_removed(host, neighbour):
    cache = ReferenceCache(host / "c")
    put(cache)
    (entry,) = cache.entries()
    os.chown(entry.path, OTHER, OTHER)
    with pytest.warns(ReferenceCacheWarning, match=f"uid {OTHER}"):
        assert cache.get(KEY) is None
    assert entry.path.is_file()
    assert cache.prune(0) == []
    assert f"uid {OTHER}" in cache.problem(cache.entries()[0])


def test_what_the_harness_did_not_make_is_never_removed(tmp_path):
    cache = ReferenceCache(tmp_path / "c")
    put(cache)
    strangers = [tmp_path / "c" / "references" / name for name in ("my.safetensors", "notes.txt")]
    for path in strangers:
        path.write_text("mine")
    link = tmp_path / "c" / "references" / f"{'0' * 64}.safetensors"
    link.symlink_to(strangers[0])
    assert len(cache.prune(0)) == 1
    assert all(path.is_file() for path in strangers) and link.is_symlink()


def test_only_what_the_key_signed_is_believed(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    put(signed_cache(folder))
    assert signed_cache(folder).get(KEY) is not None
    # Whoever multiplies the outputs recomputes the digest, but has no key.
    other = ReferenceCache(folder, key=b"o" * 32)
    with pytest.warns(ReferenceCacheWarning, match="not signed"):
        assert other.get(KEY) is None


def test_the_key_is_a_secret_of_enough_bytes(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o644)
    with pytest.raises(UsageProblem, match="not secret"):
        signing.read_key(path)
    path.chmod(0o600)
    assert len(signing.read_key(path)) == 32
    monkeypatch.setenv(signing.KEY_VARIABLE, str(path))
    assert signing.cache_key(None) == path.read_bytes()
    path.write_bytes(b"short")
    with pytest.raises(UsageProblem, match="5 bytes"):
        signing.cache_key(path)
    with pytest.raises(UsageProblem, match="cannot be read"):
        signing.read_key(tmp_path / "missing")


@pytest.fixture
def others_wrote(monkeypatch):
    """From when it is called, every entry of a cache is another user's."""
    read = ReferenceCache.get

    def get(self, key):
        found = read(self, key)
        return found and dataclasses.replace(found, owner=OTHER)

    return lambda: monkeypatch.setattr(ReferenceCache, "get", get)


def signed_cache(folder):
    return ReferenceCache(folder, key=b"k" * 32)


def changed(cache, kind, change):
    """Put what a holder of the key puts in an entry's place."""
    (entry,) = [entry for entry in cache.entries() if entry.kind == kind]
    cache.put(entry.key, *change(cache.get(entry.key)))


def multiplied(factor):
    return lambda stored: (
        {name: array * factor for name, array in stored.arrays.items()},
        stored.facts,
    )


def test_a_reference_of_another_user_is_computed_again_and_a_false_one_is_loud(
    tmp_path, leg_request, others_wrote
):
    cache = signed_cache(tmp_path)
    CpuSide(cache).reference(leg_request)
    changed(cache, "leg", multiplied(10.0))
    others_wrote()
    with pytest.raises(CaseProblem, match="differs from what this host computes") as caught:
        CpuSide(cache).reference(leg_request)
    assert caught.value.status is Status.ERROR_HARNESS


def test_the_first_and_a_share_of_the_others_are_computed_again(
    tmp_path, leg_request, others_wrote, monkeypatch
):
    cache = signed_cache(tmp_path)
    right = CpuSide(cache).reference(leg_request)
    others_wrote()
    asked = []
    monkeypatch.setattr(secrets, "randbelow", lambda n: asked.append(n) or len(asked) % n)
    cpu = CpuSide(signed_cache(tmp_path))
    for _ in range(41):
        cpu._kept.clear()
        again = cpu.reference(leg_request)
        assert all(np.array_equal(again.outputs[n], right.outputs[n]) for n in right.outputs)
    assert set(asked) == {20} and cpu.computed == 3


def test_shares_of_another_user_are_measured_again_and_false_ones_are_loud(
    tmp_path, leg_request, others_wrote
):
    def shares():
        given = Arithmetic("bfloat16"), ["output"], 1
        return CpuSide(signed_cache(tmp_path)).shares(leg_request, *given)

    right = shares()
    others_wrote()
    assert shares().points == right.points

    def halved(stored):
        points = [
            {**one, "squares": [0.5 * one["squares"][0]]}
            for one in stored.facts["shares"]["points"]
        ]
        return {}, {**stored.facts, "shares": {**stored.facts["shares"], "points": points}}

    changed(signed_cache(tmp_path), "shares", halved)
    with pytest.raises(CaseProblem, match="differs from what this host computes"):
        shares()


IMAGES = {"input_size": (3, 40, 40), "mean": (0.5,) * 3, "std": (0.5,) * 3}


def test_prepared_images_of_another_user_are_prepared_again_and_false_ones_are_loud(
    tmp_path, others_wrote
):
    own = tmp_path / "images"
    own.mkdir()
    Image.new("RGB", (60, 60), "red").save(own / "a.png")
    source = InputSource("images", path=str(own))
    right = signed_cache(tmp_path / "c").prepare_inputs(source, IMAGES)
    others_wrote()
    cache = signed_cache(tmp_path / "c")
    assert cache.prepare_inputs(source, IMAGES) == right  # made again, the same
    other = inputs.prepare_inputs(InputSource("noise", count=1), IMAGES, tmp_path / "c")
    changed(cache, "prepared", lambda stored: ({}, {**stored.facts, "set": other.facts}))
    with pytest.raises(CaseProblem, match="differs from what this host computes"):
        signed_cache(tmp_path / "c").prepare_inputs(source, IMAGES)


def test_the_preprocessing_that_another_user_stored_is_looked_up_again(
    tmp_path, tiny_model, others_wrote
):
    model = ModelFiles(tiny_model)
    cache = signed_cache(tmp_path)
    right = CpuSide(cache).data_config(model)
    others_wrote()
    assert CpuSide(signed_cache(tmp_path)).data_config(model) == right
    false = {**right, "mean": (9.0, 9.0, 9.0)}
    changed(cache, "model", lambda stored: ({}, {**stored.facts, "data_config": false}))
    with pytest.raises(CaseProblem, match="differs from what this host computes"):
        CpuSide(signed_cache(tmp_path)).data_config(model)


def test_inputs_are_not_kept_where_others_can_write(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    cache = ReferenceCache(tmp_path / "c")
    with pytest.warns(ReferenceCacheWarning, match="mode 0777"):
        found = cache.prepare_inputs(InputSource("noise", count=1), IMAGES)
    assert inputs.load_inputs(found).shape == (1, 3, 40, 40)
    assert list((tmp_path / "c").iterdir()) == []
    cache.close()


def test_what_is_verified_of_inputs_is_what_is_used(tmp_path):
    """A mapped file would show what its owner writes after it was verified."""
    found = inputs.prepare_inputs(InputSource("noise", count=1), IMAGES, tmp_path)
    images = inputs.load_inputs(found)
    before = images.clone()
    with found.path.open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(b"\0" * 64)
    assert bool((images == before).all())
    with pytest.raises(CaseProblem, match="no longer match"):
        inputs.load_inputs(found)


def test_inputs_that_are_a_fifo_are_not_waited_for(tmp_path):
    found = inputs.prepare_inputs(InputSource("noise", count=1), IMAGES, tmp_path)
    found.path.unlink()
    os.mkfifo(found.path)
    assert inputs.stored_digest(found.path) is None
    with pytest.raises(CaseProblem, match="missing"):
        inputs.load_inputs(found)


def test_the_sample_model_is_not_taken_from_a_cache_that_others_can_write_to(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "c"))
    assert main(["sample-model"]) == 4
    assert "mode 0777" in capsys.readouterr().err


def test_models_are_not_taken_from_a_cache_that_others_can_write_to(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    with pytest.raises(UsageProblem, match="mode 0777.*HARNESS_CACHE_DIR"):
        Sides(RunSettings(CPU, cache_dir=tmp_path / "c"))


def test_verify_says_what_it_sees(tmp_path, capsys):
    put(ReferenceCache(tmp_path / "c"))
    arguments = ["cache", "verify", "--reference-cache", str(tmp_path / "c")]
    assert main(arguments) == 0
    (tmp_path / "c").chmod(0o777)
    assert main(arguments) == 1
    assert "not this user's alone" in capsys.readouterr().out


def test_the_doctor_says_what_it_sees(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "c"))
    assert "mode 0777" in str(examine._cache())


@pytest.fixture
def eight_npus(monkeypatch):
    monkeypatch.setattr(npu_probe, "probe", lambda: npu_probe.Probe(8))


def test_locks_lie_in_the_user_s_runtime_folder_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert leases.default_directory() == tmp_path / "npu-accuracy" / "devices"
    tmp_path.chmod(0o777)
    assert tmp_path not in leases.default_directory().parents


@pytest.mark.parametrize(
    "prepare",
    [
        "mkdir -p {0}/devices; touch {0}/devices/npu-0.lock",
        "mkdir {1}/elsewhere; ln -s {1}/elsewhere {0}",
        "touch {0}",
    ],
)
def test_a_lock_folder_that_a_neighbour_prepared_is_refused_in_one_sentence(
    prepare, host, neighbour, eight_npus, monkeypatch
):
    monkeypatch.setattr(leases.tempfile, "gettempdir", lambda: str(host))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(host / "none"))
    neighbour(prepare.format(host / f"npu-accuracy-{os.getuid()}", host))
    with pytest.raises(UsageProblem, match="locks on devices .* cannot be used") as caught:
        leases.take(DeviceSpec("npu"), exact=True)
    assert "in use by another run" not in str(caught.value)


def built(folder, monkeypatch):
    """A build of nothing, made as a real one is."""
    monkeypatch.setattr(build, "find_toolchain", lambda: None)
    monkeypatch.setattr(build, "build_key", lambda tools: "0" * 20)
    monkeypatch.setattr(
        build.compilation,
        "compile_all",
        lambda sources, where, tools: (where / "liba.so").write_bytes(b"library"),
    )
    return build.ensure_built(folder)


def test_a_build_is_held_against_its_manifest(tmp_path, monkeypatch):
    target = built(tmp_path / "e", monkeypatch)
    assert build.ensure_built(tmp_path / "e") == target
    (target / "liba.so").write_bytes(b"planted")
    with pytest.raises(EmulatorError, match="not those that were built there"):
        build.ensure_built(tmp_path / "e")
    (target / "liba.so").write_bytes(b"library")
    (target / "libextra.so").write_bytes(b"planted")
    with pytest.raises(EmulatorError, match="not those that were built there"):
        build.ensure_built(tmp_path / "e")


def test_a_build_that_others_can_write_to_is_not_loaded(tmp_path, monkeypatch):
    target = built(tmp_path / "e", monkeypatch)
    target.chmod(0o777)
    with pytest.raises(EmulatorError, match="mode 0777"):
        build.ensure_built(tmp_path / "e")
    target.chmod(0o755)
    (target / "liba.so").chmod(0o666)
    with pytest.raises(EmulatorError, match="mode 0666"):
        build.ensure_built(tmp_path / "e")
