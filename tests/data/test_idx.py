"""IDX files built byte by byte, and the datasets that are made of four of them."""

import gzip
import struct
import tracemalloc
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from harness.data import fashion_mnist, load_dataset, mnist, prepare
from harness.data.idx import SLACK, IdxFile, parse_idx, read_idx
from harness.errors import DataError
from harness.spec.models import DataSpec


def idx(magic, sizes, values):
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + bytes(values)


def packed(content):
    return gzip.compress(content, mtime=0)


def idx_file(name, packed, shape):
    content = gzip.decompress(packed)
    return IdxFile(
        name, len(packed), sha256(packed).hexdigest(), shape, content=sha256(content).hexdigest()
    )


def readable(value):
    """What a test is called: by the flaw, not by the bytes that have it."""
    return value[:40] if isinstance(value, str) else ""


IMAGES = idx(2051, (2, 2, 3), range(12))
"""Two images of 2 × 3 pixels."""


def test_idx_images_are_parsed_in_row_order():
    array = parse_idx(IMAGES, Path("images"), (2, 2, 3), "toy")
    assert array.dtype == np.uint8
    assert array.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


def test_idx_labels_are_parsed():
    labels = parse_idx(idx(2049, (3,), [7, 2, 255]), Path("labels"), (3,), "toy")
    assert labels.tolist() == [7, 2, 255]


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (idx(2049, (2, 2, 3), range(12)), "magic number is 2049, expected 2051"),
        (idx(2051, (3, 2, 3), range(18)), "holds 3 × 2 × 3 values, expected 2 × 2 × 3"),
        (idx(2051, (2, 3, 2), range(12)), "holds 2 × 3 × 2 values, expected 2 × 2 × 3"),
        (IMAGES[:-1], "truncated: 11 of 12 values"),
        (IMAGES + b"\0", "too long: more than 12 values"),
        (IMAGES[:15], "truncated: its header has 15 of 16 bytes"),
        (b"", "truncated: its header has 0 of 16 bytes"),
    ],
    ids=readable,
)
def test_a_wrong_idx_file_is_diagnosed(content, flaw):
    with pytest.raises(DataError) as caught:
        parse_idx(content, Path("the/file"), (2, 2, 3), "toy")
    assert str(caught.value) == f"the/file: {flaw}; delete it and run `harness data toy`"


PUBLISHED = packed(IMAGES)
OTHER = idx(2051, (2, 2, 3), range(1, 13))
FILE = idx_file("images.gz", PUBLISHED, (2, 2, 3))


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (b"", f"truncated: 0 of {len(PUBLISHED)} bytes"),
        (b"\x1f", r"is not gzip: it begins with b'\x1f'"),
        (PUBLISHED[:20], f"truncated: 20 of {len(PUBLISHED)} bytes"),
        (PUBLISHED[:-1], f"truncated: {len(PUBLISHED) - 1} of {len(PUBLISHED)} bytes"),
        (b"<html>403</html>", "is not gzip: it begins with b'<html>40'"),
        (PUBLISHED[:-8] + bytes(8), "corrupt gzip: CRC check failed"),
        (PUBLISHED[:10] + b"\xff" * 20, "corrupt gzip: Error -3"),
        (PUBLISHED + b"junk", "corrupt gzip: Not a gzipped file"),
        (PUBLISHED + np.random.default_rng(0).bytes(SLACK), "too long: more than 65,564 bytes"),
        (packed(idx(2049, (12,), range(12))), "magic number is 2049, expected 2051"),
        (packed(idx(2051, (1, 2, 3), range(6))), "holds 1 × 2 × 3 values"),
        (packed(IMAGES + bytes(10**6)), "too long: more than 12 values"),
        (
            packed(OTHER),
            f"SHA-256 of its content is {sha256(OTHER).hexdigest()}, "
            f"expected {sha256(IMAGES).hexdigest()}",
        ),
    ],
    ids=readable,
)
def test_a_damaged_file_is_diagnosed_in_one_line_that_names_it(tmp_path, content, flaw):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, FILE, "toy")
    message = str(caught.value)
    assert message.startswith(f"{path}: {flaw}")
    assert message.endswith("; delete it and run `harness data toy`")
    assert "\n" not in message


def test_a_file_of_8_gb_is_refused_by_its_size(tmp_path):
    """Mostly a hole, which takes no room on the disk, and would take all memory if it was read."""
    path = tmp_path / "images.gz"
    with path.open("wb") as stream:
        stream.write(PUBLISHED)
        stream.truncate(8 << 30)
    with pytest.raises(DataError, match="too long: more than 65,564 bytes"):
        read_idx(path, FILE, "toy")


def test_an_unreadable_file_is_an_error_of_one_line(tmp_path):
    with pytest.raises(DataError, match=r"^[^\n]*images.gz: cannot be read \([^\n]*\)$"):
        read_idx(tmp_path / "images.gz", FILE, "toy")


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(IMAGES, 0, mtime=7),
        gzip.compress(IMAGES, 1),
        gzip.compress(IMAGES[:20]) + gzip.compress(IMAGES[20:]),
        PUBLISHED + bytes(9),
    ],
    ids=["stored", "fast", "in two parts", "padded"],
)
def test_a_file_that_was_compressed_anew_is_known_by_its_content(tmp_path, content):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    assert content != PUBLISHED
    assert read_idx(path, FILE, "toy").tolist() == parse_idx(IMAGES, path, (2, 2, 3), "").tolist()


def test_a_file_that_unpacks_to_gigabytes_is_unpacked_no_further_than_to_see_that(tmp_path):
    path = tmp_path / "images.gz"
    squeeze = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    packed = [squeeze.compress(IMAGES), *(squeeze.compress(zeros) for _ in range(60))]
    path.write_bytes(b"".join(packed))
    tracemalloc.start()
    with pytest.raises(DataError, match="too long: more than 12 values"):
        read_idx(path, FILE, "toy")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


# Datasets of four such files

CONTENTS = {
    "train-x.gz": ((2, 1, 2), packed(idx(2051, (2, 1, 2), [0, 51, 102, 255]))),
    "train-y.gz": ((2,), packed(idx(2049, (2,), [5, 0]))),
    "test-x.gz": ((1, 1, 2), packed(idx(2051, (1, 1, 2), [1, 2]))),
    "test-y.gz": ((1,), packed(idx(2049, (1,), [7]))),
}


@pytest.fixture(params=[(mnist, "mnist"), (fashion_mnist, "fashion-mnist")], ids=lambda p: p[1])
def small(request, tmp_path, monkeypatch):
    """A dataset of three images whose files lie nowhere; its module and name."""
    module, name = request.param
    files = tuple(idx_file(name, content, shape) for name, (shape, content) in CONTENTS.items())
    monkeypatch.setattr(module, "FILES", files)
    monkeypatch.setattr(module, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "system")
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return module, name


def put(folder, names=tuple(CONTENTS), recompressed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        content = CONTENTS[name][1]
        anew = gzip.compress(gzip.decompress(content), 1, mtime=1) if recompressed else content
        (folder / name).write_bytes(anew)
    return [folder / name for name in CONTENTS]


def test_a_dataset_is_its_training_images_and_then_its_test_images(small, tmp_path):
    module, name = small
    paths = put(tmp_path / name)
    assert prepare(name) == paths
    loaded = module.load()
    assert loaded.pixels.tolist() == [[[0, 51]], [[102, 255]], [[1, 2]]]
    assert loaded.y.tolist() == [5, 0, 7]
    assert (loaded.peak, loaded.published_train) == (255, 2)
    assert (loaded.classes, loaded.channel_axis) == (module.CLASSES, None)

    (tmp_path / name / "test-y.gz").write_bytes(b"oops")
    for ask in (module.load, module.prepare):
        with pytest.raises(DataError, match=rf"test-y\.gz: is not gzip.*`harness data {name}`$"):
            ask()


in_debian = pytest.mark.parametrize("small", [(fashion_mnist, "fashion-mnist")], indirect=True)


@in_debian
def test_debians_copy_is_the_last_that_is_looked_for(small, tmp_path):
    module, name = small
    system = put(tmp_path / "system", recompressed=True)
    assert prepare(name) == system
    assert module.load().y.tolist() == [5, 0, 7]
    cached = put(tmp_path / "cache" / "data" / name, ["test-x.gz"])
    assert prepare(name) == [*system[:2], cached[2], system[3]]
    given = put(tmp_path / name)
    assert prepare(name) == given


@in_debian
def test_what_is_no_copy_in_the_systems_folder_is_passed_over(small, tmp_path):
    _, name = small
    system = put(tmp_path / "system", recompressed=True)
    system[3].write_bytes(packed(idx(2049, (1,), [8])))
    with pytest.raises(DataError, match=r"^test-y\.gz: cannot be downloaded .* get test-y\.gz e"):
        prepare(name)


def test_the_classes_of_fashion_mnist_are_in_the_order_of_the_labels():
    assert len(fashion_mnist.CLASSES) == 10
    assert fashion_mnist.CLASSES[0] == "T-shirt/top"
    assert fashion_mnist.CLASSES[9] == "Ankle boot"


# The real Fashion-MNIST


@pytest.mark.fashion_mnist
@pytest.mark.usefixtures("fashion_mnist_files")
def test_real_fashion_mnist_is_the_publishers():
    dataset = load_dataset(DataSpec(name="fashion-mnist", split="canonical"))
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(part) for part in parts] == [50_000, 10_000, 10_000]
    assert dataset.input_shape == (28, 28)
    assert np.bincount(dataset.test.y).tolist() == [1_000] * 10
    assert np.bincount(dataset.train.y).tolist() == [5_000] * 10
    assert dataset.test.y[:5].tolist() == [9, 2, 1, 1, 6]
    fitted = np.concatenate([dataset.train.x, dataset.validation.x])
    assert fitted.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert fitted.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)
