"""Files: tried before they are needed, never half there, and cleared after killed writers."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness import files
from harness.data import require_data
from harness.errors import HarnessError, RunError, SpecError
from harness.files import (
    cache_dir,
    check_folder,
    check_writable,
    data_path,
    folder_of,
    read_document,
    replacing,
)
from harness.spec.models import DataSpec
from harness.spec.reading import load_spec, parse_spec

posix = pytest.mark.skipif(os.name != "posix", reason="signals and modes are POSIX's")

WRITER = """
import os, signal, sys
from pathlib import Path
from harness.files import replacing

with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.readline()
"""
CLEAR = """
import sys
from pathlib import Path
from harness.files import replacing

with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"whole")
"""


def writer(path):
    """A process that is half way through writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"writing\n"
    return process


def written(path):
    subprocess.run([sys.executable, "-c", CLEAR, str(path)], check=True)
    return sorted(found.name for found in path.parent.iterdir())


# What killed processes left


@posix
def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path):
    path = tmp_path / "run.json"
    killed = writer(path)
    killed.kill()
    killed.communicate()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".run.json.")
    foreign = [".run.json.backup", ".run.json.12345678", ".other.json.12345678.tmp", "run.json~"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"not ours")
    assert written(path) == sorted([*foreign, "run.json"])
    assert path.read_bytes() == b"whole"


@posix
def test_what_a_living_writer_writes_is_left_alone(tmp_path):
    path = tmp_path / "run.json"
    alive = writer(path)
    assert len(written(path)) == 2
    alive.communicate(b"go on\n")
    assert alive.returncode == 0
    assert path.read_bytes() == b"half"  # the later of the two
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


# Trying first


def test_a_folder_is_tried_and_nothing_is_left(tmp_path):
    check_folder(tmp_path / "deep" / "out")
    check_writable(tmp_path / "gate.xml")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(HarnessError, match=r"^--out: .*file is a file; name a folder$"):
        check_folder(tmp_path / "file" / "out", "--out")
    with pytest.raises(HarnessError, match=r"^--junit: .* is a folder; name a file$"):
        check_writable(tmp_path, "--junit")


@posix
def test_a_disk_without_room_is_found_and_named(tmp_path):
    """A limit on the size of files stands for it: the system refuses the write in the same way."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from harness.files import check_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "check_folder(Path(sys.argv[1]), '--out')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "new"], capture_output=True, text=True, check=False
    )
    assert f"HarnessError: --out: {tmp_path / 'new'}: cannot be written to (" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_only_to_be_read_is_found(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(HarnessError, match="cannot be written to"):
            check_folder(tmp_path / "out")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


# Reading within bounds


@pytest.mark.parametrize("depth", [60, 10_000, 1_000_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_a_document_that_is_nested_deeply_is_refused(tmp_path, depth, brackets):
    middle = len(brackets) - 1
    path = tmp_path / "run.json"
    nested = brackets[:middle] * depth + "1" + brackets[middle:] * depth
    path.write_text(f'{{"schema": 4, "spec": {nested}}}')
    with pytest.raises(RunError, match="nested more than 50 levels deep; mend it") as caught:
        read_document(path, 4, "mend it")
    assert str(caught.value).startswith(f"{path}: ")


def test_a_document_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 2 << 20)
    path = tmp_path / "run.json"
    path.write_bytes(b" " * (2 << 20) + b"{}")
    with pytest.raises(RunError, match="it is longer than 2 MiB"):
        read_document(path, 4, "mend it")


TOML = {
    "dotted": "a" + ".a" * 100_000 + " = 1",
    "spaced": "a . " * 100_000 + "a = 1",
    "quoted": '"a".' * 100_000 + "a = 1",
    "header": "[" + "a." * 100_000 + "a]\nb = 1",
    "lists": "a = " + "[" * 100_000 + "]" * 100_000,
    "tables": "a = " + "{a = " * 100_000 + "1" + "}" * 100_000,
}


@pytest.mark.parametrize("text", TOML)
def test_a_spec_that_would_hang_or_break_the_parser_is_refused(text):
    with pytest.raises(SpecError, match=r"^s.toml: a key of more than 50 parts, or lists nested"):
        parse_spec(TOML[text], "s.toml")


@pytest.mark.parametrize(
    "line",
    ["description = '" + "a." * 500 + "'", 'description = "' + "[" * 500 + '"', "# " + "a." * 500,
     'description = """' + '\\"{' * 500 + '"""'],
)  # fmt: skip
def test_dots_and_brackets_in_texts_and_comments_are_no_nesting(line):
    from tiny_spec import tiny_spec

    assert parse_spec(f"{line}\n{tiny_spec()}", "s.toml").name == "tiny"


def test_a_spec_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / "s.toml"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(SpecError, match="it is longer than 1 MiB"):
        load_spec(str(path))


# The cache without a home


@pytest.mark.parametrize("variable", ["HARNESS_CACHE_DIR", "HARNESS_DATA_DIR"])
def test_the_home_of_nobody_is_one_line(monkeypatch, variable):
    monkeypatch.setenv(variable, "~nosuchuser/x")
    with pytest.raises(HarnessError, match=rf"^{variable}=~nosuchuser/x: there is no such home"):
        folder_of(variable)


@posix
def test_without_a_home_the_cache_is_in_a_private_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("HARNESS_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = tmp_path / f"robustness-harness-{os.getuid()}"
    # As in a container whose user has no entry: the path begins with ~ still.
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"~/.cache/{name}")
    assert cache_dir() == cache_dir() == own
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    own.chmod(0o777)
    with pytest.raises(HarnessError, match=r"not yours alone.* set HARNESS_CACHE_DIR"):
        cache_dir()
    own.rmdir()
    own.symlink_to(tmp_path)
    with pytest.raises(HarnessError, match="not yours alone"):
        cache_dir()


def test_a_home_that_is_there_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("HARNESS_CACHE_DIR", raising=False)
    usual = str(tmp_path / "not" / "yet" / "made")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: usual)
    assert cache_dir() == Path(usual)


def test_replacing_is_in_the_folder_of_the_file(tmp_path):
    with replacing(tmp_path / "a") as stream:
        (temporary,) = tmp_path.iterdir()
        stream.write(b"x")
    assert temporary.name.startswith(".a.")


# Data that somebody names


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folder of a spec, that of the user's data, and that of the cache."""
    found = [tmp_path / name for name in ("home", "given", "cache")]
    for folder in found:
        folder.mkdir()
    monkeypatch.setenv("HARNESS_DATA_DIR", str(found[1]))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(found[2]))
    (found[2] / "data").mkdir()
    return found[0], found[1], found[2] / "data"


def test_data_is_found_beside_the_spec_else_where_datasets_are(places):
    home = places[0]
    assert data_path("x.npz", home) == home / "x.npz"
    for folder in reversed(places):
        (folder / "x.npz").touch()
        assert data_path("x.npz", home) == folder / "x.npz"


def test_absolute_paths_and_those_of_a_home_stay(places, monkeypatch):
    monkeypatch.setenv("HOME", str(places[1]))
    monkeypatch.setenv("USERPROFILE", str(places[1]))
    assert data_path(str(places[2] / "x.npz"), places[0]) == places[2] / "x.npz"
    assert data_path("~/x.npz", places[0]) == places[1] / "x.npz"
    with pytest.raises(HarnessError, match=r"^~nosuchuser/x\.npz: there is no such home"):
        data_path("~nosuchuser/x.npz", places[0])


def test_what_is_nowhere_is_named_with_the_places(places):
    with pytest.raises(HarnessError) as error:
        require_data(DataSpec(file="none.npz"), places[0])
    assert str(error.value) == (
        f"data.file: {places[0] / 'none.npz'}: there is no such file or folder, nor in "
        "HARNESS_DATA_DIR"
    )
    (places[1] / "none.npz").touch()
    require_data(DataSpec(file="none.npz"), places[0])
