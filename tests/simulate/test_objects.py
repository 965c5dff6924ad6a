import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xmist
from tests.coded import coded
from xmist import simulate
from xmist.simulate.grid import Grid
from xmist.simulate.objects import check_bodies

GRID = Grid(shape=(120, 160), pixel=1e-6)
UM = 1e-6


def volume(body, grid=GRID):
    return body.thickness(grid).sum() * grid.pixel**2


def rotation(a, b):
    """About y by a, then about z by b (rad)."""
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return tuple(map(tuple, about_z @ about_y))


# Midpoints of 1/8 pixel miss 0.5 % of the thickness in the edge's pixels, which hold a third of it at most.
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (simulate.sphere(radius=40 * UM, x=3.3 * UM), 4 / 3 * math.pi * 40**3),
        (
            simulate.Ellipsoid(semi_axes=(40 * UM, 20 * UM, 9 * UM), orientation=rotation(0.7, 0.4)),
            4 / 3 * math.pi * 40 * 20 * 9,
        ),
        (simulate.Cylinder(radius=7 * UM, angle=33, length=80 * UM), math.pi * 49 * 80),
        (simulate.Cylinder(radius=7 * UM, angle=33, length=80 * UM, tilt=40), math.pi * 49 * 80),
        (simulate.Cylinder(radius=7 * UM, angle=90, length=60 * UM, tilt=75), math.pi * 49 * 60),
        (simulate.Tube(radius=9 * UM, wall=2 * UM, angle=70, length=60 * UM), math.pi * (81 - 49) * 60),
        (simulate.Slab(depth=5 * UM, width=20.3 * UM, height=31.7 * UM, x=0.4 * UM), 5 * 20.3 * 31.7),
        (
            simulate.Wedge(thin=UM, thick=9 * UM, length=50 * UM, width=30 * UM, angle=20),
            5 * 50 * 30,
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, float) else "",
)
def test_volumes(body, expected):
    assert abs(volume(body) / (expected * UM**3) - 1.0) <= 2e-3


def test_chords_of_a_sphere_and_a_tilted_fibre():
    ball = simulate.sphere(radius=30 * UM, x=2 * UM, y=-3 * UM)
    assert np.isclose(
        ball.chord(np.array(-3 * UM), np.array(20 * UM)), 2 * math.sqrt(30**2 - 18**2) * UM, atol=0
    )
    assert ball.chord(np.array(-3 * UM), np.array(33 * UM)) == 0.0
    fibre = simulate.Cylinder(radius=5 * UM, angle=0.0, tilt=60.0)
    assert np.isclose(
        fibre.chord(np.array(3 * UM), np.array(0.0)), 2 * 4 * UM / math.cos(math.radians(60)), atol=0
    )


@settings(max_examples=25)
@given(
    angle=st.floats(0, 180),
    radius=st.floats(0.2, 8.0),
    x=st.floats(-5, 5),
    tilt=st.floats(-60, 60),
)
def test_long_cylinders_keep_their_cross_section(angle, radius, x, tilt):
    """The sum across a strip of pixels is πr²/(cos tilt · |cos| of the strip), however thin the fibre is."""
    grid = Grid(shape=(61, 61), pixel=UM)
    image = simulate.Cylinder(radius=radius * UM, angle=angle, x=x * UM, tilt=tilt).thickness(grid)
    c, s = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    strip, share = (image[:, 30], c) if c > s else (image[30], s)
    expected = math.pi * radius**2 / (math.cos(math.radians(tilt)) * share) * UM
    assert np.isclose(strip.sum(), expected, rtol=2e-6, atol=0)


@settings(max_examples=20)
@given(st.floats(0, 360), st.floats(-1, 1), st.floats(-1, 1))
def test_turning_keeps_volume_and_shape(angle, a, b):
    body = simulate.Ellipsoid(
        semi_axes=(30 * UM, 18 * UM, 12 * UM), x=20 * UM, y=5 * UM, z=-10 * UM, orientation=rotation(a, b)
    )
    turned = body.turned(angle)
    assert np.isclose(math.hypot(turned.x, turned.z), math.hypot(20, 10) * UM, atol=0)
    assert turned.y == body.y
    back = turned.turned(-angle)
    y, x = GRID.y(slice(None))[:, None], GRID.x(slice(None))[None, :]
    assert np.abs(back.chord(y, x) - body.chord(y, x)).max() <= 1e-5 * UM
    # A half turn shows the mirror image.
    half = body.turned(180.0)
    assert np.abs(half.chord(y, -x) - body.chord(y, x)).max() <= 1e-5 * UM


def test_chord_is_what_the_volume_holds():
    body = simulate.Ellipsoid(semi_axes=(30 * UM, 18 * UM, 12 * UM), orientation=rotation(0.5, 0.8))
    z = np.linspace(-40, 40, 4001) * UM
    for y, x in ((0.0, 0.0), (5 * UM, -8 * UM)):
        inside = body.contains(z, np.array(y), np.array(x))
        # A line of 4000 points misses its ends by a step of 0.02 µm each.
        assert abs(inside.sum() * 0.02 * UM - body.chord(np.array(y), np.array(x))) <= 0.04 * UM


def test_wedge_grows_along_its_angle():
    image = simulate.Wedge(thin=0.0, thick=10 * UM, length=60 * UM, width=60 * UM, angle=90.0).thickness(GRID)
    assert np.allclose(np.diff(image[35:85, 80]), 10 / 60 * UM, atol=0)  # y grows downwards
    assert np.allclose(image[50, 60:100], image[50, 80], atol=0)


def test_slab_covers_parts_of_pixels():
    image = simulate.Slab(depth=UM, width=3 * UM, height=2.5 * UM).thickness(Grid(shape=(4, 4), pixel=UM))
    assert np.allclose(image, UM * np.outer([0.25, 1, 1, 0.25], [0.5, 1, 1, 0.5]), atol=1e-12 * UM)
    assert np.allclose(simulate.Slab(depth=UM).thickness(GRID), UM, rtol=1e-12, atol=0)


def test_a_map_on_the_same_pixels_is_itself():
    values = np.random.default_rng(1).uniform(0, 1e-5, (20, 30))
    body = simulate.ThicknessMap(values=values, pixel=2 * UM)
    assert np.allclose(body.thickness(Grid(shape=(20, 30), pixel=2 * UM)), values, atol=1e-18)
    wide = body.thickness(Grid(shape=(40, 50), pixel=2 * UM))
    assert np.allclose(wide[10:30, 10:40], values, atol=1e-18)
    assert wide[:9].max() == wide[:, 41:].max() == 0.0
    larger = simulate.ThicknessMap(values=values, pixel=2 * UM, continued=True)
    wide = larger.thickness(Grid(shape=(40, 50), pixel=2 * UM))
    assert np.allclose(wide, np.pad(values, 10, mode="edge"), atol=1e-18)
    values[:] = 0.0  # the body keeps its own
    assert body.thickness(Grid(shape=(20, 30), pixel=2 * UM)).max() > 0


def test_a_map_keeps_its_volume_on_finer_pixels():
    values = np.random.default_rng(2).uniform(1e-6, 1e-5, (4, 5))
    body = simulate.ThicknessMap(values=values, pixel=12 * UM)
    # Sums of a piecewise linear function at 12 points a period are its integral.
    assert abs(volume(body) / (values.sum() * (12 * UM) ** 2) - 1.0) <= 1e-9


def test_what_is_smaller_than_a_pixel_is_not_lost():
    assert (
        abs(volume(simulate.sphere(radius=0.2 * UM, x=0.3 * UM)) / (4 / 3 * math.pi * 0.008e-18) - 1) <= 0.05
    )


def test_berry_and_tubes():
    water = xmist.Material(delta=8e-7, beta=5e-10, energy_kev=17.0)
    wood = xmist.Material(delta=1e-6, beta=6e-10, energy_kev=17.0)
    parts = simulate.berry(
        radius=50 * UM,
        skin=2 * UM,
        seeds=4,
        seed_size=20 * UM,
        flesh_material=water,
        skin_material=wood,
        seed_material=wood,
        seed=3,
    )
    # δ integrates to that of its volumes: skin, flesh and seeds, each once.
    total = sum(part.index(17.0)[0] * volume(part.body) for part in parts)
    seeds = 4 * 4 / 3 * math.pi * 10 * 6 * 5
    flesh = 4 / 3 * math.pi * 48**3 - seeds
    skin = 4 / 3 * math.pi * (50**3 - 48**3)
    assert abs(total / ((flesh * 8e-7 + (seeds + skin) * 1e-6) * UM**3) - 1) <= 1e-3
    assert len({(part.body.x, part.body.y) for part in parts[2:]}) == 4
    with pytest.raises(xmist.InputError, check=coded("value-invalid")):
        simulate.berry(
            radius=50 * UM,
            skin=2 * UM,
            seeds=40,
            seed_size=40 * UM,
            flesh_material=water,
            skin_material=wood,
            seed_material=wood,
            seed=3,
        )
    tubes = simulate.tube_stack(
        radius=5 * UM, wall=UM, pitch=12 * UM, rows=3, layers=2, angle=90.0, material=wood, seed=1
    )
    image = sum(part.body.thickness(GRID) for part in tubes)
    assert np.allclose(image, image[0])  # upright
    # Columns cut every tube through its whole cross-section.
    assert np.isclose(image[0].sum() * UM, 6 * math.pi * (25 - 16) * UM**2, rtol=1e-6)


def test_what_lies_outside_is_named():
    outside = simulate.sphere(radius=5 * UM, x=90 * UM)
    errors = check_bodies([simulate.sphere(radius=5 * UM), outside], GRID)
    assert len(errors) == 1
    assert errors[0].code == "field-small"
    assert "part 1" in errors[0].message
    assert not check_bodies([simulate.sphere(radius=50 * UM, x=90 * UM)], GRID)  # leaves the field: allowed
    assert np.all(outside.thickness(GRID) == 0.0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: simulate.Cylinder(radius=-UM, angle=0), "radius"),
        (lambda: simulate.Cylinder(radius=UM, angle=math.nan), "angle"),
        (lambda: simulate.Cylinder(radius=UM, angle=0, tilt=90), "tilt"),
        (lambda: simulate.Tube(radius=UM, wall=UM, angle=0), "wall"),
        (lambda: simulate.sphere(radius=0), "semi_axes"),
        (lambda: simulate.Ellipsoid(semi_axes=(1, 1, 1), orientation=((1, 0), (0, 1))), "orientation"),
        (lambda: simulate.Wedge(thin=2, thick=1, length=1, width=1, angle=0), "thin"),
        (lambda: simulate.ThicknessMap(values=[[1.0, -1.0]], pixel=UM), "thickness map"),
        (lambda: simulate.ThicknessMap(values=[1.0], pixel=UM), "thickness map"),
        (lambda: simulate.ThicknessMap(values=[[1], [1, 2]], pixel=UM), "thickness map"),
        (lambda: simulate.Ellipsoid(semi_axes="abc"), "semi_axes"),
        (lambda: simulate.Ellipsoid(semi_axes=(1, 2)), "semi_axes"),
        (lambda: simulate.Screen(angle="2 µrad", correlation_length=UM), "angle"),
    ],
)
def test_bad_bodies(make, name):
    with pytest.raises(xmist.InputError, check=coded("value-invalid", names=[name])):
        make()
