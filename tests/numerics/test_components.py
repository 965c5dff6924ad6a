import numpy as np
import pytest
from scipy import ndimage

from xmist.numerics.images.components import part_sizes


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (33, 40)])
def test_parts_have_the_sizes_that_labels_say(share, shape):
    mask = np.random.default_rng(3).random(shape) < share
    for diagonal in (False, True):
        labels, _ = ndimage.label(mask, ndimage.generate_binary_structure(2, 1 + diagonal))
        assert sorted(part_sizes(mask, diagonal=diagonal)) == sorted(np.bincount(labels.ravel())[1:])
