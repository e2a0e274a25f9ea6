"""CIFAR-10 from small archives of the publisher's layout, whole and in every way damaged."""

import gzip
import io
import os
import tarfile
import tracemalloc
from hashlib import sha256

import numpy as np
import pytest

from harness.data import cifar10, load_dataset, prepare, shape_of
from harness.data.batch_archive import RECORD, BatchArchive, read_archive
from harness.data.dataset import split
from harness.errors import DataError
from harness.spec.models import DataSpec

FOLDER = "cifar-10-batches-bin"
BATCHES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
IMAGES = 20


def record(number):
    """An image whose label is its number modulo 10, and that names each pixel and plane."""
    planes = np.arange(3 * 1024).reshape(3, 1024) % 251
    planes[:, 0] = number, 100, 200  # the upper left corner
    return bytes([number % 10]) + planes.astype(np.uint8).tobytes()


def contents():
    """Each file of the archive, by its name: 20 images a batch, numbered from 0."""
    files = {
        name: b"".join(record(IMAGES * batch + index) for index in range(IMAGES))
        for batch, name in enumerate(BATCHES)
    }
    # In no order, as in the publisher's.
    return {
        "batches.meta.txt": ("\n".join(cifar10.CLASSES) + "\n\n").encode(),
        "readme.html": b"<html/>",
        **dict(reversed(files.items())),
    }


def member(name, content=b"", kind=tarfile.REGTYPE, to=""):
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, to, len(content)
    return found, content


def members(files=None):
    files = contents() if files is None else files
    return [
        member(FOLDER, kind=tarfile.DIRTYPE),
        *(member(f"{FOLDER}/{name}", content) for name, content in files.items()),
    ]


def tar_of(given):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for found, content in given:
            tar.addfile(found, io.BytesIO(content))
    return stream.getvalue()


def packed(given):
    return gzip.compress(tar_of(given), mtime=0)


def described(content):
    """The description of an archive of twenty images a batch with a hash of its own."""
    said = vars(cifar10.ARCHIVE) | {
        "size": len(content), "sha256": sha256(content).hexdigest(), "images": IMAGES,
    }  # fmt: skip
    return BatchArchive(**said)


PUBLISHED = packed(members())


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Where the archive is looked for, in place of the publisher's one of 60,000 images."""
    monkeypatch.setattr(cifar10, "ARCHIVE", described(PUBLISHED))
    monkeypatch.setattr(cifar10, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "mine" / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    return path


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_archive_is_the_publishers():
    assert cifar10.ARCHIVE.size == 170_052_171
    assert len(cifar10.ARCHIVE.batches) * cifar10.ARCHIVE.images == 60_000
    assert cifar10.CLASSES[:4] == ("airplane", "automobile", "bird", "cat")
    assert RECORD == 3073


def test_images_have_their_channels_last_and_their_labels_in_the_publishers_order(small):
    small.write_bytes(PUBLISHED)
    assert prepare("cifar10") == [small]
    source = cifar10.load()
    assert source.pixels.shape == (120, 32, 32, 3)
    assert (source.pixels.dtype, source.y.dtype, source.peak) == (np.uint8, np.int64, 255)
    assert source.y.tolist() == [number % 10 for number in range(120)]
    assert source.published_train == 100
    assert source.classes == cifar10.CLASSES
    assert source.pixels[:, 0, 0].tolist() == [[number, 100, 200] for number in range(120)]
    # Pixel (2, 5) is number 69 of its plane, and a plane has 1,024.
    assert source.pixels[7, 2, 5].tolist() == [69, (1024 + 69) % 251, (2048 + 69) % 251]


def test_as_a_dataset_it_says_its_shape_and_has_a_canonical_split(small):
    small.write_bytes(PUBLISHED)
    dataset = load_dataset(DataSpec(name="cifar10", split="canonical"))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [84, 16, 20]
    assert dataset.test.index.tolist() == list(range(100, 120))
    assert shape_of("cifar10") == (dataset.input_shape, len(dataset.classes), dataset.channel_axis)
    assert len(split(cifar10.load(), DataSpec(name="cifar10")).test) == 12


def test_nothing_is_written_where_the_archive_is_read(small, tmp_path):
    small.write_bytes(PUBLISHED)
    small.parent.chmod(0o500)
    cifar10.load()
    assert files_below(tmp_path) == ["mine/cifar10/cifar-10-binary.tar.gz"]


def changed(**files):
    """The archive with some files replaced, or without them."""
    found = contents() | {name.replace("__", "."): value for name, value in files.items()}
    return members({name: value for name, value in found.items() if value is not None})


OUTSIDE = b"outside"
PEOPLE = "\n".join(reversed(cifar10.CLASSES)).encode()
LABELLED = bytes([10]) + record(0)[1:] + contents()["test_batch.bin"][RECORD:]
DAMAGED = {
    "no member at all": (packed([]), "is incomplete: it lacks data_batch_1.bin, data_batch_2.bin"),
    "a path upwards": (
        packed([*members(), member("../evil", OUTSIDE)]),
        "its member '../evil' leads out of the folder",
    ),
    "a path upwards within": (
        packed([member(f"{FOLDER}/../../evil", OUTSIDE), *members()]),
        f"its member '{FOLDER}/../../evil' leads out of the folder",
    ),
    "an absolute path": (
        packed([member("/tmp/evil", OUTSIDE)]),  # noqa: S108
        "its member '/tmp/evil' leads out of the folder",
    ),
    "a drive": (packed([member("C:evil", OUTSIDE)]), "its member 'C:evil' leads out of the folder"),
    "backslashes": (
        packed([member("..\\evil", OUTSIDE)]),
        r"its member '..\\evil' leads out of the folder",
    ),
    "a symbolic link": (
        packed([member(f"{FOLDER}/test_batch.bin", kind=tarfile.SYMTYPE, to="/etc/passwd")]),
        f"its member '{FOLDER}/test_batch.bin' is a link",
    ),
    "a hard link": (
        packed([member(f"{FOLDER}/test_batch.bin", kind=tarfile.LNKTYPE, to="/etc/passwd")]),
        f"its member '{FOLDER}/test_batch.bin' is a link",
    ),
    "a device": (
        packed([member(f"{FOLDER}/zero", kind=tarfile.CHRTYPE)]),
        f"its member '{FOLDER}/zero' is neither a file nor a folder",
    ),
    "a pipe": (
        packed([member(f"{FOLDER}/pipe", kind=tarfile.FIFOTYPE)]),
        f"its member '{FOLDER}/pipe' is neither a file nor a folder",
    ),
    "a name that moves the cursor": (
        packed([member("../\x1b[31m\nred", OUTSIDE)]),
        r"its member '../\x1b[31m\nred' leads out of the folder",
    ),
    "a batch that is missing": (
        packed(changed(data_batch_3__bin=None)),
        "is incomplete: it lacks data_batch_3.bin;",
    ),
    "a batch that is too short": (
        packed(changed(data_batch_3__bin=contents()["data_batch_3.bin"][:-1])),
        "data_batch_3.bin has 61,459 bytes, expected 61,460",
    ),
    "a batch that is there twice": (
        packed([*members(), member(f"{FOLDER}/test_batch.bin", OUTSIDE)]),
        "holds test_batch.bin twice",
    ),
    "a batch in another folder": (
        packed([member(found.name.replace(FOLDER, "other"), data) for found, data in members()]),
        "is incomplete: it lacks data_batch_1.bin",
    ),
    "a label that is no class": (
        packed(changed(test_batch__bin=LABELLED)),
        "has the label 10, and there are 10 classes",
    ),
    "other classes": (
        packed(changed(batches__meta__txt=PEOPLE)),
        "batches.meta.txt names other classes than airplane, automobile",
    ),
    "other pixels": (
        packed(changed(readme__html=b"<htm1/>")),
        "is not the publisher's: SHA-256 is ",
    ),
    "nothing": (b"", f"truncated: 0 of {len(PUBLISHED):,} bytes"),
    "half of it": (
        PUBLISHED[: len(PUBLISHED) // 2],
        f"truncated: {len(PUBLISHED) // 2:,} of {len(PUBLISHED):,} bytes",
    ),
    "a page about an error": (b"<html>404</html>", "is not gzip: it begins with b'<html>40'"),
    "a tail": (PUBLISHED + b"tail", "corrupt gzip: Not a gzipped file"),
    "padding": (PUBLISHED + bytes(9), "is not the publisher's: SHA-256 is "),
    "gzip of no archive": (gzip.compress(bytes(range(256)) * 40), "is not an intact tar archive: "),
    "half of a tar": (
        gzip.compress(tar_of(members())[:100_000], mtime=0),
        "is not an intact tar archive: unexpected end of data",
    ),
    "compressed anew": (gzip.compress(tar_of(members()), 1, mtime=0), "is not the publisher's: "),
}


@pytest.mark.parametrize(("content", "flaw"), DAMAGED.values(), ids=DAMAGED)
def test_another_archive_is_diagnosed_in_one_line_and_nothing_is_written(
    small, tmp_path, content, flaw
):
    small.write_bytes(content)
    for ask in (cifar10.prepare, cifar10.load):
        with pytest.raises(DataError) as caught:
            ask()
        message = str(caught.value)
        assert message.startswith(f"{small}: {flaw}")
        assert message.endswith("; delete it and run `harness data cifar10`")
        assert message.isprintable()
    assert files_below(tmp_path) == ["mine/cifar10/cifar-10-binary.tar.gz"]


def with_header(size, kind):
    """A header that promises so many bytes, and an archive behind it."""
    found = tarfile.TarInfo(f"{FOLDER}/test_batch.bin")
    found.size, found.type = size, kind
    return found.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize("size", [1 << 20, 1 << 40])
@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE]
)
def test_a_header_that_promises_too_much_is_one_line(tmp_path, kind, size):
    content = gzip.compress(with_header(size, kind))
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^[^\n]*archive: [^\n]*$"):
        read_archive(path, described(content), cifar10.CLASSES, "cifar10")


def test_headers_upon_headers_are_one_line(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    content = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) * 2_000)
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^[^\n]*: is not an intact tar archive: [^\n]*$"):
        read_archive(path, described(content), cifar10.CLASSES, "cifar10")


def test_an_archive_that_unpacks_to_gigabytes_is_unpacked_no_further_than_to_see_that(tmp_path):
    head = tar_of(members())
    content = gzip.compress(head + bytes(100 << 20))
    path = tmp_path / "archive"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match="too long: unpacked it has more than 1,417,336 bytes"):
        read_archive(path, described(content), cifar10.CLASSES, "cifar10")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def test_a_file_of_8_gb_is_refused_by_its_size(small):
    """Mostly a hole, which takes no room on the disk."""
    with small.open("wb") as stream:
        stream.write(PUBLISHED)
        stream.truncate(8 << 30)
    longest = len(PUBLISHED) + (1 << 20)
    with pytest.raises(DataError, match=f"too long: more than {longest:,} bytes"):
        prepare("cifar10")


def test_an_archive_that_cannot_be_read_is_one_line(small):
    small.mkdir()
    with pytest.raises(DataError, match=r"^[^\n]*cannot be downloaded[^\n]*$"):
        prepare("cifar10")
    small.rmdir()
    os.mkfifo(small)
    with pytest.raises(DataError, match=r"^[^\n]*cannot be downloaded[^\n]*$"):
        prepare("cifar10")


def test_offline_one_line_says_what_to_put_where(small, tmp_path):
    with pytest.raises(DataError) as caught:
        cifar10.load()
    message = str(caught.value)
    assert message.startswith("cifar-10-binary.tar.gz: cannot be downloaded (127.0.0.1:9: ")
    assert "run `harness data cifar10`" in message
    assert str(tmp_path / "cache" / "data" / "cifar10") in message
    assert "\n" not in message
