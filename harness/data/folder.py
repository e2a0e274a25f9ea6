"""A folder of test images: a subfolder a class, PNG or JPEG.

Files are decoded once, into bytes in memory or in a temporary file: there are many passes over the
images, and to read one takes a hundredth of the time of decoding it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.data.arrays import BYTE, check_bytes
from harness.data.images import Spool
from harness.errors import DataError, one_line
from harness.progress import progress_bar
from harness.protocol import Bounds, Images, IntArray

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
OTHERS = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".heic", ".jp2")
"""Images of other formats, which must not be left out without a word."""
PARTS = frozenset({"train", "test", "val", "valid", "validation"})
"""What subfolders are called that hold parts of a dataset, and no class each."""
WORD = 65535
"""The largest value of 16 bits."""
PER_BYTE = 257
"""65535 / 255."""
GREY = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Kind:
    """What the header of an image file says.

    Attributes:
        size: (height, width).
        colour: Whether it has more than grey.
        deep: Whether it is grey with 16 bits a pixel.
        converted: What has to be said of its conversion; or empty.
    """

    size: tuple[int, int]
    colour: bool
    deep: bool
    converted: str = ""


def read_folder(
    path: Path,
    bounds: Bounds,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    channel_axis: int | None = None,
) -> tuple[Images, IntArray, tuple[str, ...], tuple[str, ...]]:
    """The images of a folder, their labels, the names of the classes, and notes.

    The order of the images is drawn by chance, by a fixed seed, so that the first of them are a
    fair sample. Grey ones are (h, w), and colour ones (h, w, 3); where one is in colour, all are.

    Args:
        path: The folder.
        bounds: [0, 1], or [0, 255] for bytes as they are.
        size: (height, width) that each is resized to, bilinearly; by default all must have one.
        classes: The subfolders in the order of the labels, by default in that of their names; or
            other names for the subfolders in that order.
        channel_axis: The axis of one image that is to hold its channels, also of grey ones.

    Raises:
        DataError: It is no such folder, or a file cannot be taken; the message names it.
    """
    if bounds[0] != 0 or bounds[1] not in (1, BYTE):
        raise DataError(
            f"{path}: the bounds of images in files are [0, 1] or [0, {BYTE}], not {list(bounds)}"
        )
    folders = _folders(path)
    names, numbers = _classes(path, [folder.name for folder in folders], classes)
    files = [
        (file, number)
        for folder, number in zip(folders, numbers, strict=True)
        for file in _files(folder)
    ]
    files = [files[index] for index in np.random.default_rng(0).permutation(len(files))]
    with progress_bar(f"looking at {path}", len(files)) as step:
        kinds = [_kind_of(file, step) for file, _ in files]
    if size is None:
        _require_one_size(files, kinds)
    colour, deep = any(kind.colour for kind in kinds), any(kind.deep for kind in kinds)
    spool, highest = Spool(str(path)), 0
    with progress_bar(f"decoding {path}", len(files)) as step:
        for file, _ in files:
            pixels = _laid(_decoded(file, size, colour, deep), colour, channel_axis)
            highest = max(highest, int(pixels.max()))
            spool.add(pixels[None])
            step("")
    divisor = (WORD if deep else BYTE) / bounds[1]
    check_bytes(highest, divisor, str(path))
    y = np.array([number for _, number in files], dtype=np.int64)
    return spool.images(divisor), y, names, tuple(_notes(kinds, size, divisor))


def _folders(path: Path) -> list[Path]:
    """The subfolders, one a class, in the order of their names."""
    if not path.is_dir():
        what = "is a file; name the folder" if path.exists() else "there is no such folder"
        raise DataError(f"{path}: {what}")
    entries = _entries(path)
    folders = [entry for entry in entries if entry.is_dir()]
    for entry in entries:
        if entry.suffix.lower() in SUFFIXES and entry not in folders:
            raise DataError(
                f"{entry}: lies in no class; put each image into a subfolder of {path} that is "
                "named as its class"
            )
    if len(folders) < 2:
        have = f"has one subfolder, {folders[0].name}" if folders else "has no subfolders"
        raise DataError(f"{path}: {have}; it needs one for each of two classes or more")
    if {folder.name.lower() for folder in folders} <= PARTS:
        test = next((one for one in folders if one.name.lower() == "test"), folders[0])
        raise DataError(f"{path}: its subfolders are parts of a dataset, no classes; name {test}")
    return folders


def _files(folder: Path) -> list[Path]:
    found = []
    for entry in _entries(folder):
        if entry.is_dir():
            raise DataError(f"{entry}: is a folder in that of a class; move its images up")
        if entry.suffix.lower() in OTHERS:
            raise DataError(f"{entry}: is no PNG or JPEG; convert it")
        if entry.suffix.lower() in SUFFIXES:
            found.append(entry)
    if not found:
        raise DataError(f"{folder}: holds no images, .png or .jpg; add some, or remove the folder")
    return found


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, by its name; a link is what it leads to."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__")))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({one_line(error)})") from error


def _classes(
    path: Path, there: list[str], given: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int]]:
    """Names of the classes in the order of the labels, and the label of each subfolder."""
    if given is None:
        return tuple(there), list(range(len(there)))
    known = set(there) & set(given)
    if not known and len(given) == len(there):
        return tuple(given), list(range(len(there)))
    for name in there:
        if name not in given:
            raise DataError(
                f"{path / name}: is none of the classes, {', '.join(given)}; name all subfolders "
                "in classes, in the order of the labels"
            )
    return tuple(given), [list(given).index(name) for name in there]


@contextmanager
def _opened(file: Path) -> Iterator[Image]:
    """An image whose header has been read; whatever goes wrong is said of the file."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A small file can claim to be of any size.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{file}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down"
        ) from error
    except DataError:
        raise
    except Exception as error:  # Pillow raises several of its own
        reason = one_line(f"{type(error).__name__}: {error}").replace(f" {str(file)!r}", "")
        raise DataError(
            f"{file}: is no PNG or JPEG, or damaged ({reason}); repair or remove it"
        ) from error


def _kind_of(file: Path, step: Any) -> Kind:
    with _opened(file) as image:
        step("")
        deep = image.mode.startswith("I")
        said = ""
        if image.mode in ("CMYK", "YCCK", "LAB", "HSV"):
            said = f"in {image.mode} became RGB"
        elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            said = "with an alpha channel, which hides nothing, lost it"
        elif not deep and ";16" in str(getattr(image, "tile", "")):
            said = "in colour with 16 bits were read with 8"
        width, height = image.size
        grey = deep or image.mode in GREY
        return Kind((height, width), not grey, deep, said)


def _require_one_size(files: list[tuple[Path, int]], kinds: list[Kind]) -> None:
    first = kinds[0].size
    for (file, _), kind in zip(files, kinds, strict=True):
        if kind.size != first:
            raise DataError(
                f"{file}: is {_sides(kind.size)}, and {files[0][0]} {_sides(first)} (height × "
                f"width); say to which size all are to be brought: size = [{first[0]}, {first[1]}]"
            )


def _decoded(
    file: Path, size: tuple[int, int] | None, colour: bool, deep: bool
) -> npt.NDArray[Any]:
    """One image: (h, w), or (h, w, 3), bytes, or of 16 bits."""
    from PIL.Image import Resampling

    with _opened(file) as image:
        own_depth = image.mode.startswith("I")
        if own_depth:
            shown = image.convert("I").convert("F")  # which can be resized without rounding
        else:
            shown = _opaque(file, image).convert("RGB" if colour else "L")
        if size is not None and shown.size != (size[1], size[0]):
            shown = shown.resize((size[1], size[0]), Resampling.BILINEAR)
        pixels = np.asarray(shown)
    if deep:
        pixels = np.rint(pixels if own_depth else pixels.astype(np.float32) * PER_BYTE)
        pixels = pixels.astype(np.uint16)
    if colour and pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return pixels


def _opaque(file: Path, image: Image) -> Image:
    """An image without its alpha channel, which must hide nothing.

    Raises:
        DataError: It does.
    """
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image
    full = image.convert("RGBA")
    lowest, _ = full.getchannel("A").getextrema()
    if lowest != BYTE:
        raise DataError(f"{file}: is transparent in places; put it on a background first")
    return full


def _laid(pixels: npt.NDArray[Any], colour: bool, axis: int | None) -> npt.NDArray[Any]:
    """An image with its channels along an axis."""
    if axis is None:
        return pixels
    channels = pixels if colour else pixels[:, :, None]
    if not -3 <= axis < 3:
        raise DataError(f"channel_axis: {axis} is no axis of images (h, w, c)")
    return np.moveaxis(channels, 2, axis)


def _notes(kinds: list[Kind], size: tuple[int, int] | None, divisor: float) -> Iterator[str]:
    count = len(kinds)
    if divisor != 1:
        yield f"pixels of the image files were divided by {divisor:g}"
    resized = sum(kind.size != size for kind in kinds) if size else 0
    if size and resized:
        yield f"{resized} of {count} images were resized to {_sides(size)} (bilinear)"
    grey = sum(not kind.colour for kind in kinds)
    if 0 < grey < count:
        yield f"{grey} of {count} images are grey, and were given three equal channels"
    for said, times in Counter(kind.converted for kind in kinds if kind.converted).items():
        yield f"{times} of {count} images {said}"


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
