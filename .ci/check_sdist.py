"""Whether the sdist in a folder holds every file of the repository, so that its tests can run."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path


def missing(tracked: Iterable[str], packed: Iterable[str]) -> list[str]:
    """Files of the repository that an sdist lacks; it has one folder, which they are in."""
    within = {name.partition("/")[2] for name in packed}
    return sorted(set(tracked) - within)


def main(folder: Path) -> int:
    """Print what is missing; 1 if anything is."""
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = archive.getnames()
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    absent = missing(listed.stdout.splitlines(), packed)
    for name in absent:
        print(f"{sdist.name} lacks {name}: name it in MANIFEST.in")
    return 1 if absent else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
