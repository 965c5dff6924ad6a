"""Stacks as NXtomo has them: darks, frames without the sample and projections in one, told by image_key."""

import h5py
import numpy as np

PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3


def write_nxtomo(path, parts, *, angles=None, virtual=False, links=True):
    """Write (key, frames) one after the other; angles are those of the projections, in order."""
    keys = np.concatenate([np.full(len(frames), key) for key, frames in parts])
    data = np.concatenate([frames for _, frames in parts])
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry["definition"] = "NXtomo"
        detector = entry.create_group("instrument/detector")
        if virtual:
            with h5py.File(path.with_name(f"raw_{path.name}"), "w") as raw:
                raw["data"], raw["key"] = data, keys
            for name, source, array in (("data", "data", data), ("image_key", "key", keys)):
                layout = h5py.VirtualLayout(array.shape, array.dtype)
                layout[:] = h5py.VirtualSource(f"raw_{path.name}", source, array.shape)
                detector.create_virtual_dataset(name, layout)
        else:
            detector["data"], detector["image_key"] = data, keys
        if angles is not None:
            turned = np.full(len(keys), -1.0)
            turned[keys == PROJECTION] = angles
            entry["sample/rotation_angle"] = turned
        if links:
            group = entry.create_group("data")
            group["data"] = h5py.SoftLink("/entry/instrument/detector/data")
    return path


def replace(path, dataset, values):
    """Put other values in the place of a dataset, or None."""
    with h5py.File(path, "r+") as file:
        del file[dataset]
        if values is not None:
            file[dataset] = values
