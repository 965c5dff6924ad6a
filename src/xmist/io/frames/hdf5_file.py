"""Objects of an HDF5 file and of the files that it links to, by HDF5's own resolution of links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xmist.core.errors import InputError
from xmist.io.frames.addresses import Links
from xmist.io.frames.hdf5_heap import check_heaps
from xmist.io.frames.sources import MOST_AXES, check_file, frame_errors, written_flags

if TYPE_CHECKING:
    import h5py

# Files of beamlines hold some hundred objects; these bounds end what a hostile file could make us read.
_MOST_OBJECTS: Final = 20_000
_MOST_LINKS: Final = 8
_DEEPEST: Final = 12
_MOST_FILES: Final = 10_000
_SWMR: Final = 4  # flag of a file that is written so that others can read


@dataclass(frozen=True)
class Place:
    """An object (h5py Group or Dataset), its path from the file that was opened, and the file it is in."""

    node: Any
    path: str
    home: Path

    @property
    def identity(self) -> tuple[int, int]:
        """The same for all paths to one object."""
        import h5py

        info = h5py.h5o.get_info(self.node.id)
        return info.fileno, info.addr


class Hdf5:
    """An HDF5 file opened to read, with the files that its links lead to.

    `links="inside"` refuses links to files outside the folder of the file.
    """

    def __init__(self, path: Path, links: Links = "all") -> None:
        self.path = path
        self._folder = Path(os.path.realpath(path)).parent if links == "inside" else None
        self._opened: dict[Path, h5py.File] = {}
        self._used: list[Path] = []
        self._stack = ExitStack()

    def __enter__(self) -> Hdf5:
        self._open(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def files(self) -> tuple[Path, ...]:
        """The file that was given, and those whose data were used."""
        return tuple(dict.fromkeys([self.path, *self._used]))

    def use(self, path: Path) -> None:
        """Note that data of a file are used."""
        self._used.append(path)

    @property
    def root(self) -> Place:
        """The root group."""
        return Place(self._opened[self.path]["/"], "/", self.path)

    def find(self, path: str, start: Place | None = None, depth: int = 0) -> Place | None:
        """Return the object at a path from the root, or from `start`; None if there is none.

        `depth` counts the links into files that are being written which led here.
        A link that leads to nothing, or outside where that is not allowed, is an error.
        """
        import h5py

        base = self.root if start is None or path.startswith("/") else start
        parts = [part for part in path.split("/") if part not in ("", ".")]
        shown = "/".join([base.path.rstrip("/"), *parts]) or "/"
        if not parts:
            return base
        if not isinstance(base.node, h5py.Group):
            return None
        try:
            node = base.node["/".join(parts)]
        except (KeyError, RuntimeError, OSError, ValueError):
            found = self._find_in_written(base, parts, shown, depth) if depth < _MOST_LINKS else None
            if found is None:
                self._check_links(base, parts, shown)
            return found
        return Place(node, shown, self._home(node, base, shown))

    def entry_of(self, place: Place) -> Place:
        """Return the entry that a dataset is in, a group at the top of the file, or the root group."""
        import h5py

        entry = self.find("/" + place.path.strip("/").partition("/")[0])
        return entry if entry is not None and isinstance(entry.node, h5py.Group) else self.root

    def _find_in_written(self, base: Place, parts: list[str], shown: str, depth: int) -> Place | None:
        """Return the object at a path that leads into a file that is being written; None if it does not.

        HDF5 does not follow links into such a file.
        """
        import h5py

        place: Place | None = base
        for part in parts:
            if place is None or not isinstance(place.node, h5py.Group):
                return None
            link = place.node.get(part, getlink=True) if part in place.node else None
            if isinstance(link, h5py.ExternalLink):
                home = Path(os.path.realpath(place.home)).parent / link.filename
                if not written_flags(home):
                    return None
                self._check_inside(home, shown)
                place = self.find(link.path.lstrip("/"), Place(self._open(home)["/"], "/", home), depth + 1)
            elif isinstance(link, h5py.SoftLink):
                start = self._top(place) if link.path.startswith("/") else place
                place = self.find(link.path.lstrip("/"), start, depth + 1)
            else:
                place = self.find(part, place, depth + 1) if link is not None else None
        return None if place is None else Place(place.node, shown, place.home)

    def _top(self, place: Place) -> Place:
        """Return the root of the file that an object is in."""
        return Place(place.node.file["/"], "/", place.home)

    def walk(
        self, start: Place, *, inside: bool = False, broken: list[InputError] | None = None
    ) -> Iterator[Place]:
        """Yield everything under a group once, higher levels first.

        `inside` follows no links into files that are not open yet; `broken` receives the errors of broken
        links.
        """
        import h5py

        seen = {start.identity}
        level = [start]
        for _ in range(_DEEPEST):
            groups = []
            for group in level:
                for name in group.node:
                    link = group.node.get(name, getlink=True) if inside else None
                    if isinstance(link, h5py.ExternalLink) and not self._is_open(link.filename, group):
                        continue
                    try:
                        place = self.find(name, group)
                    except InputError as error:
                        if broken is not None:
                            broken.append(error)
                        continue
                    if place is None or place.identity in seen:
                        continue
                    if len(seen) > _MOST_OBJECTS:
                        return
                    seen.add(place.identity)
                    yield place
                    if isinstance(place.node, h5py.Group):
                        groups.append(place)
            level = groups

    def _is_open(self, name: str, group: Place) -> bool:
        """Return whether the file of an external link is open: the one that holds the frames."""
        home = os.path.realpath(group.home.parent / name)
        return home in map(os.path.realpath, self._opened)

    def source(self, place: Place, name: str, dataset: str) -> tuple[Place | None, Path]:
        """Return a source of a virtual dataset, None if its file has no such dataset, and its file.

        The file is looked for where HDF5 does: under its name from the folder of the virtual dataset, and if
        that is absolute and missing, in that folder.
        """
        folder = Path(os.path.realpath(place.home)).parent
        home = place.home if name == "." else folder / name
        if Path(name).is_absolute() and not home.exists():
            home = folder / Path(name).name
        if home != place.home:
            self._check_inside(home, place.path)
            if not home.is_file():
                raise InputError(
                    f"{self.path}::{place.path} takes data from {home}, which does not exist; copy it there",
                    "link-broken",
                )
        return self.find(dataset.lstrip("/"), Place(self._open(home)["/"], "/", home)), home

    def raw_file(self, place: Place, name: str) -> Path:
        """Return a raw file in which a dataset keeps its numbers: named from the folder of the dataset."""
        path = Path(os.path.realpath(place.home)).parent / name
        self._check_inside(path, place.path)
        self._used.append(path)
        return path

    def _home(self, node: Any, base: Place, shown: str) -> Path:
        """Return the file that an object is in."""
        name = node.file.filename
        if name == base.node.file.filename:
            return base.home
        home = Path(os.path.realpath(name))
        if home not in self._opened:
            self._check_inside(home, shown)
            self._open(home)
        return home

    def _check_inside(self, home: Path, shown: str) -> None:
        if self._folder is not None and not Path(os.path.realpath(home)).is_relative_to(self._folder):
            raise InputError(
                f'{self.path}::{shown} leads to {home}, outside its folder, which links = "inside" does '
                "not allow; name that file itself, or allow all links",
                "link-outside",
            )

    def _check_links(self, base: Place, parts: list[str], shown: str) -> None:
        """Raise an error if the first part of a path that cannot be opened is a link."""
        import h5py

        node = base.node
        for part in parts:
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            try:
                node = node[part]
            except (KeyError, RuntimeError, OSError, ValueError, TypeError):
                if isinstance(link, h5py.ExternalLink):
                    target = f"{link.filename}::{link.path}"
                elif isinstance(link, h5py.SoftLink):
                    target = link.path
                else:
                    return
                raise InputError(
                    f"{self.path}::{shown} leads to {target}, which cannot be opened; copy it to where the "
                    "link leads",
                    "link-broken",
                ) from None

    def _open(self, path: Path) -> h5py.File:
        import h5py

        if path not in self._opened:
            check_file(path)
            if len(self._opened) >= _MOST_FILES:
                raise InputError(f"{self.path} leads to more than {_MOST_FILES} files", "frames-unsupported")
            if not h5py.is_hdf5(path):
                raise InputError(f"{path} is not an HDF5 file, or its beginning is damaged", "file-damaged")
            check_heaps(path, whole=False)
            self._opened[path] = _open_beside_writer(path, self._stack)
        return self._opened[path]


def _open_beside_writer(path: Path, stack: ExitStack) -> h5py.File:
    """Open a file to read, without a lock: a lock would keep an acquisition from opening it to write."""
    import h5py

    try:
        return stack.enter_context(h5py.File(path, "r", locking=False))
    except OSError:
        flags = written_flags(path)
        if not flags:
            raise
    if flags & _SWMR:
        return stack.enter_context(h5py.File(path, "r", locking=False, swmr=True))
    # HDF5 refuses a file that is written otherwise, or whose writer has died, but not an open Python file.
    return stack.enter_context(h5py.File(stack.enter_context(path.open("rb")), "r"))


def with_raw_files(node: Any) -> Any:
    """Return a dataset whose external raw files are looked for in its folder, not in the current one.

    HDF5 does not open it in another way meanwhile, not even for its attributes.
    """
    import h5py

    if not node.external:
        return node
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_efile_prefix(b"${ORIGIN}")
    file, name = node.file.id, node.name.encode()
    node.id.close()  # an open dataset keeps its prefix
    return h5py.Dataset(h5py.h5d.open(file, name, access))


def is_plausible(place: Place, *, colour: bool = False) -> bool:
    """Return whether an object could be frames, by its shape and type.

    With `colour` an array (y, x, 3) may be frames along the last axis.
    """
    import h5py

    data = place.node
    if not isinstance(data, h5py.Dataset) or data.shape is None:
        return False
    shape = tuple(data.shape)
    if not frame_errors("", shape, data.dtype):
        return True
    # Frames along other axes are found too, so that they can be read, or a message can say how.
    coloured = len(shape) == 3 and shape[2] in (1, 3, 4)
    several = 3 <= len(shape) <= MOST_AXES and 0 not in shape and (colour or not coloured)
    return several and not frame_errors("", sorted(shape)[-2:], data.dtype)
