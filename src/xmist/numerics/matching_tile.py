"""The search of `xmist.numerics.matching` over one tile: integer shifts, then fractions of a pixel."""

from __future__ import annotations

import numpy as np

from xmist.numerics.derivatives import jit
from xmist.numerics.matching_kernels import (
    _ITERATIONS,
    _LEAST,
    _SMALL,
    _STEP,
    FLAT,
    MARGIN,
    NODES,
    NOTHING,
    OFFSET,
    ON_EDGE,
    ROUGH,
    SCALE,
    _add_products,
    cross_sums,
    explained_row,
    load_halves,
    load_reference,
    load_sample,
    mask_pairs,
    reference_sums,
    weighted_sums,
    window_sums,
)

_BLOCK = 64  # pixels, at least a tile's side
_SPARSE = 4  # a block is halved where fewer than one in so many of its pixels share a shift
_FARTHEST = 1.75  # half pixels: a minimum beyond is not that of this integer shift
_NOISE = 0.1  # of the contrast must be more than noise for V to mean something


@jit
def _add_line(line, total):  # type: ignore[no-untyped-def]
    for x in range(len(total)):
        total[x] += line[x]


@jit
def find_group(ys, xs, done, i, j, box):  # type: ignore[no-untyped-def]
    """Bound the pixels that share the shift of pixel (i, j), in a block small enough that they are many."""
    rows, columns = done.shape
    block = _BLOCK
    while True:
        y0, x0 = i // block * block, j // block * block
        box[0], box[1], box[2], box[3] = i, i, j, j
        count = 0
        for y in range(y0, min(rows, y0 + block)):
            for x in range(x0, min(columns, x0 + block)):
                if not done[y, x] and ys[y, x] == ys[i, j] and xs[y, x] == xs[i, j]:
                    count += 1
                    box[0], box[1] = min(box[0], y), max(box[1], y)
                    box[2], box[3] = min(box[2], x), max(box[3], x)
        if block <= 4 or _SPARSE * count >= (box[1] - box[0] + 1) * (box[3] - box[2] + 1):
            return
        block //= 2


@jit
def _basis(fraction, coefficients, out):  # type: ignore[no-untyped-def]
    """Fill the Lagrange polynomials of the nodes −2 … 2, and their two derivatives, at each fraction."""
    width = len(fraction)
    for k in range(NODES):
        value, first, second = out[0, k][:width], out[1, k][:width], out[2, k][:width]
        c = coefficients[k]
        value[:] = c[NODES - 1]
        first[:] = 0.0
        second[:] = 0.0
        for power in range(NODES - 2, -1, -1):
            for x in range(width):
                f = fraction[x]
                second[x] = second[x] * f + np.float32(2.0) * first[x]
                first[x] = first[x] * f + value[x]
                value[x] = value[x] * f + c[power]


@jit
def _interpolate(tables, k, y, bx, by, lines, out):  # type: ignore[no-untyped-def]
    """Fill value, ∂x, ∂y, ∂xx, ∂xy, ∂yy of sum k along a row."""
    width = out.shape[1]
    out[:] = 0.0
    for i in range(NODES):
        v, d, dd = lines[0][:width], lines[1][:width], lines[2][:width]
        v[:] = 0.0
        d[:] = 0.0
        dd[:] = 0.0
        for j in range(NODES):
            row = tables[i * NODES + j, k, y][:width]
            b0, b1, b2 = bx[0, j][:width], bx[1, j][:width], bx[2, j][:width]
            for x in range(width):
                v[x] += b0[x] * row[x]
                d[x] += b1[x] * row[x]
                dd[x] += b2[x] * row[x]
        c0, c1, c2 = by[0, i][:width], by[1, i][:width], by[2, i][:width]
        f, fx, fy, fxx, fxy, fyy = out[0], out[1], out[2], out[3], out[4], out[5]
        for x in range(width):
            f[x] += c0[x] * v[x]
            fx[x] += c0[x] * d[x]
            fy[x] += c1[x] * v[x]
            fxx[x] += c0[x] * dd[x]
            fxy[x] += c1[x] * d[x]
            fyy[x] += c2[x] * v[x]


@jit
def _solve(b1, b2, pp, pq, qq):  # type: ignore[no-untyped-def]
    """Give p and q of the two columns; q = 0 where the second says nothing."""
    if not pp > 0.0:
        return 0.0, 0.0, 0.0
    rest = qq - pq * pq / pp
    if not rest > 1e-5 * qq:
        return b1 / pp, 0.0, 0.0
    q = (b2 - pq / pp * b1) / rest
    return (b1 - pq * q) / pp, q, rest


@jit
def _change(t, d, x, p, q):  # type: ignore[no-untyped-def]
    """Give 2 zᵀb′ − zᵀA′z for the derivative d, at a fixed z = (p, q)."""
    linear = np.float64(t[0, d, x]) * p + np.float64(t[1, d, x]) * q
    return 2.0 * linear - (t[2, d, x] * p * p + 2.0 * t[3, d, x] * p * q + t[4, d, x] * q * q)


@jit
def _newton(t, x):  # type: ignore[no-untyped-def]
    """Give the step to the nearest minimum of the cost, and whether the cost is convex there.

    With z = A⁻¹b the explained part F = bᵀz has F_i = 2 zᵀb_i − zᵀA_i z and
    F_ij = 2 zᵀb_ij − zᵀA_ij z + 2 (b_i − A_i z)ᵀ A⁻¹ (b_j − A_j z).
    """
    pp, pq = np.float64(t[2, 0, x]), np.float64(t[3, 0, x])
    if not pp > 0.0:
        return 0.0, 0.0, False
    p, q, rest = _solve(np.float64(t[0, 0, x]), np.float64(t[1, 0, x]), pp, pq, np.float64(t[4, 0, x]))
    ratio = pq / pp
    gx, gy = _change(t, 1, x, p, q), _change(t, 2, x, p, q)
    ux = t[0, 1, x] - p * t[2, 1, x] - q * t[3, 1, x]
    uy = t[0, 2, x] - p * t[2, 2, x] - q * t[3, 2, x]
    hxx = _change(t, 3, x, p, q) + 2.0 * ux * ux / pp
    hxy = _change(t, 4, x, p, q) + 2.0 * ux * uy / pp
    hyy = _change(t, 5, x, p, q) + 2.0 * uy * uy / pp
    if rest > 0.0:
        vx = t[1, 1, x] - p * t[3, 1, x] - q * t[4, 1, x] - ratio * ux
        vy = t[1, 2, x] - p * t[3, 2, x] - q * t[4, 2, x] - ratio * uy
        hxx += 2.0 * vx * vx / rest
        hxy += 2.0 * vx * vy / rest
        hyy += 2.0 * vy * vy / rest
    determinant = hxx * hyy - hxy * hxy
    convex = hxx < 0.0 and determinant > 0.0
    limit = _STEP
    if convex:
        sx, sy = (hxy * gy - hyy * gx) / determinant, (hxy * gx - hxx * gy) / determinant
        length = np.sqrt(sx * sx + sy * sy)
    else:
        # Uphill in what is explained, cautiously.
        sx, sy, limit = gx, gy, 0.5 * _STEP
        length = np.sqrt(sx * sx + sy * sy)
    if length > limit or (not convex and length > 0.0):
        sx *= limit / length
        sy *= limit / length
    return sx, sy, convex


@jit
def _refine_rows(  # type: ignore[no-untyped-def]
    tables, weight, ys, xs, uy, ux, model, level, noise, box, done, coefficients, shift, scale, visibility,
    status,
):  # fmt: skip
    """Move from the integer shift of a group to the minimum, and evaluate T and V there."""
    width = box[3] - box[2] + 1
    bx, by = np.empty((3, NODES, width), np.float32), np.empty((3, NODES, width), np.float32)
    fx, fy = np.empty(width, np.float32), np.empty(width, np.float32)
    lines, t = np.empty((3, width), np.float32), np.empty((5, 6, width), np.float32)
    convex = np.empty(width, np.bool_)
    i, j = box[0], box[2]
    for y in range(box[1] - box[0] + 1):
        fx[:] = 0.0
        fy[:] = 0.0
        moving = True
        for iteration in range(_ITERATIONS + 1):
            _basis(fx, coefficients, bx)
            _basis(fy, coefficients, by)
            for k in range(5):
                _interpolate(tables, k, y, bx, by, lines, t[k])
            if not moving or iteration == _ITERATIONS:
                break
            moving = False
            for x in range(width):
                if done[i + y, j + x] or ys[i + y, j + x] != uy or xs[i + y, j + x] != ux:
                    continue
                sx, sy, convex[x] = _newton(t, x)
                # The polynomial holds near its middle.
                fx[x] = min(max(fx[x] + sx, -_FARTHEST), _FARTHEST)
                fy[x] = min(max(fy[x] + sy, -_FARTHEST), _FARTHEST)
                moving = moving or sx * sx + sy * sy > _SMALL * _SMALL
        for x in range(width):
            v, u = i + y, j + x
            if done[v, u] or ys[v, u] != uy or xs[v, u] != ux:
                continue
            done[v, u] = True
            shift[0, v, u] = xs[v, u] + 0.5 * fx[x]
            shift[1, v, u] = ys[v, u] + 0.5 * fy[x]
            if not convex[x] or max(abs(fx[x]), abs(fy[x])) >= _FARTHEST:
                status[v, u] |= ROUGH
            pp, pq, qq = np.float64(t[2, 0, x]), np.float64(t[3, 0, x]), np.float64(t[4, 0, x])
            b1, b2 = np.float64(t[0, 0, x]), np.float64(t[1, 0, x])
            total = pq + level * pp if model == OFFSET else np.sqrt(max(pp * weight[y, x], 0.0))
            # Interpolation averages noise, most at half a pixel.
            total *= 1.0 - noise[3] * np.sin(0.5 * np.pi * fx[x]) ** 2
            total *= 1.0 - noise[3] * np.sin(0.5 * np.pi * fy[x]) ** 2
            kept = qq - noise[2] * total
            if kept < _NOISE * qq or not qq > 0.0:
                status[v, u] |= FLAT
                kept = qq
            else:
                pp -= noise[0] * total
                pq -= noise[1] * total
            p, q, rest = _solve(b1, b2, pp, pq, kept)
            if rest == 0.0:
                status[v, u] |= FLAT
            if model == OFFSET and pq + level * pp > 0.0:
                p = b1 / (pq + level * pp)
            if model == SCALE:
                status[v, u] &= ~np.uint8(FLAT)
            scale[v, u] = p
            visibility[v, u] = q / p if p > 0.0 else np.nan


@jit
def match_tile(  # type: ignore[no-untyped-def]
    reference, sample, good, weights, start, reach, order, model, level, window, flat, noise, coefficients,
    taps, bounds, shift, scale, visibility, cost, status,
):  # fmt: skip
    """Match the pixels y0 ≤ y < y1, x0 ≤ x < x1 of a tile.

    `order` (K, 2) are the offsets y, x from the start that are searched, nearest first; of equal costs the
    first wins. `start` (2, y, x) int, x and y, may be empty: then the search starts at 0.
    """
    y0, y1, x0, x1 = bounds[0], bounds[1], bounds[2], bounds[3]
    number, rows, columns = len(reference), y1 - y0, x1 - x0
    half = len(window) // 2
    ys, xs = np.zeros((rows, columns), np.int64), np.zeros((rows, columns), np.int64)
    if start.shape[1] > 0:
        ys[:], xs[:] = start[1, y0:y1, x0:x1], start[0, y0:y1, x0:x1]
    # The reference's tile has room for every shift that is looked at.
    top, left = ys.max() + reach + MARGIN, xs.max() + reach + MARGIN
    height, width = rows + 2 * half, columns + 2 * half
    tall, wide = height + top - ys.min() + reach + MARGIN, width + left - xs.min() + reach + MARGIN
    frames = np.empty((number, height, width), np.float32)
    weight = np.empty((number, height, width), np.float32)
    # Of the four phases the first is the frame, the others lie half a pixel to the right, below, and both.
    # Zeros, not what memory held: running sums pass over the border that half pixels leave out.
    mean = np.zeros((4, number, tall, wide), np.float32)
    detail = np.zeros((4, number, tall, wide), np.float32)
    usable = np.empty((number, tall, wide), np.float32)
    plain = load_sample(sample, weights, y0 - half, x0 - half, frames, weight)
    plain &= load_reference(
        reference, good, y0 - half - top, x0 - half - left, model, level, window, flat, mean[0], detail[0],
        usable,
    )  # fmt: skip
    load_halves(mean, detail, taps, model)
    # Running sums would leave rounding where all weights of a window are 0.
    running = flat and plain
    squares = np.empty((4, 3, tall - 2 * half, wide - 2 * half), np.float32)
    available = np.empty((rows, columns), np.float32)
    products, spare = np.empty((5, height, width), np.float32), np.empty((height, columns), np.float32)
    sums, pairs = np.empty((5, rows, columns), np.float32), np.empty((2, height, width), np.float32)
    counted, total = np.empty((2, rows, columns), np.float32), np.empty((rows, columns), np.float32)
    explained = np.empty(columns, np.float32)
    energy = np.empty((height, width), np.float32)
    masked = np.empty((2, number if not plain else 0, height, width), np.float32)
    flat_window = np.ones(len(window), np.float32)
    if plain:
        for phase in range(4):
            reference_sums(mean[phase], detail[phase], window, flat, squares[phase])
        full = np.float32(0.0)
        for i in range(len(window)):
            for j in range(len(window)):
                full += window[i] * window[j]
        counted[0] = number * full
        energy[:] = 0.0
        for i in range(height):
            for n in range(number):
                _add_products(frames[n, i], frames[n, i], energy[i])
        window_sums(energy, rows, columns, window, running, spare, available)
    else:
        for i in range(height):
            energy[i] = 0.0
            for n in range(number):
                _add_line(weight[n, i], energy[i])
        window_sums(energy, rows, columns, window, running, spare, available)
    best = np.full((rows, columns), np.inf, np.float32)
    best_y, best_x = ys.copy(), xs.copy()
    done = np.zeros((rows, columns), np.bool_)
    box = np.zeros(4, np.int64)
    for i in range(rows):
        for j in range(columns):
            if done[i, j]:
                continue
            find_group(ys, xs, done, i, j, box)
            n_rows, n_columns = box[1] - box[0] + 1, box[3] - box[2] + 1
            for k in range(len(order)):
                uy, ux = ys[i, j] + order[k, 0], xs[i, j] + order[k, 1]
                v, u = box[0] - uy + top, box[2] - ux + left
                if plain:
                    cross_sums(
                        frames, mean[0], detail[0], box[0], box[2], v, u, n_rows, n_columns, window, running,
                        products, spare, sums,
                    )  # fmt: skip
                else:
                    mask_pairs(
                        frames, weight, usable, box[0], box[2], v, u, n_rows + 2 * half, n_columns + 2 * half,
                        masked, energy, pairs,
                    )  # fmt: skip
                    weighted_sums(
                        masked,
                        mean[0],
                        detail[0],
                        v,
                        u,
                        n_rows,
                        n_columns,
                        window,
                        running,
                        products,
                        spare,
                        sums,
                    )
                    window_sums(pairs[0], n_rows, n_columns, window, running, spare, counted[0])
                    window_sums(energy, n_rows, n_columns, window, running, spare, total)
                for y in range(n_rows):
                    e = explained[:n_columns]
                    b1, b2 = sums[0, y], sums[1, y]
                    if plain:
                        pp, pq, qq = (
                            squares[0, 0, v + y][u:],
                            squares[0, 1, v + y][u:],
                            squares[0, 2, v + y][u:],
                        )
                    else:
                        pp, pq, qq = sums[2, y][0:], sums[3, y][0:], sums[4, y][0:]
                    explained_row(model, b1, b2, pp, pq, qq, e)
                    for x in range(n_columns):
                        a, b = box[0] + y, box[2] + x
                        if done[a, b] or ys[a, b] != ys[i, j] or xs[a, b] != xs[i, j]:
                            continue
                        value = -e[x]
                        if not plain:
                            w = counted[0, y, x]
                            if not (w > 0.0 and w >= _LEAST * available[a, b]):
                                continue
                            value = (total[y, x] - e[x]) / w
                        if value < best[a, b]:
                            best[a, b] = value
                            best_y[a, b], best_x[a, b] = uy, ux
            for y in range(box[0], box[1] + 1):
                for x in range(box[2], box[3] + 1):
                    done[y, x] = done[y, x] or (ys[y, x] == ys[i, j] and xs[y, x] == xs[i, j])
    out_status = status[y0:y1, x0:x1]
    for y in range(rows):
        for x in range(columns):
            done[y, x] = False
            out_status[y, x] = 0
            cost[y0 + y, x0 + x] = (available[y, x] + best[y, x]) / counted[0, y, x] if plain else best[y, x]
            if reach > 0 and max(abs(best_y[y, x] - ys[y, x]), abs(best_x[y, x] - xs[y, x])) == reach:
                out_status[y, x] = ON_EDGE
            if best[y, x] == np.inf:
                done[y, x] = True
                out_status[y, x] = NOTHING
                shift[:, y0 + y, x0 + x] = np.nan
                cost[y0 + y, x0 + x] = np.nan
                scale[y0 + y, x0 + x] = visibility[y0 + y, x0 + x] = np.nan
    tables = np.empty((NODES * NODES, 5, rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            if done[i, j]:
                continue
            find_group(best_y, best_x, done, i, j, box)
            n_rows, n_columns = box[1] - box[0] + 1, box[3] - box[2] + 1
            v, u = box[0] - best_y[i, j] + top, box[2] - best_x[i, j] + left
            if not plain:
                # The pairs that count are those of the integer shift, so that the cost is smooth.
                mask_pairs(
                    frames, weight, usable, box[0], box[2], v, u, n_rows + 2 * half, n_columns + 2 * half,
                    masked, energy, pairs,
                )  # fmt: skip
                window_sums(pairs[0], n_rows, n_columns, window, running, spare, counted[0])
                window_sums(pairs[1], n_rows, n_columns, flat_window, True, spare, counted[1])
                for y in range(n_rows):
                    for x in range(n_columns):
                        a, b = box[0] + y, box[2] + x
                        same = best_y[a, b] == best_y[i, j] and best_x[a, b] == best_x[i, j]
                        # More equations than unknowns, or anything fits.
                        if same and not done[a, b] and counted[1, y, x] < (1.5 if model == SCALE else 2.5):
                            done[a, b] = True
                            out_status[a, b] = NOTHING
                            shift[:, y0 + a, x0 + b] = np.nan
                            scale[y0 + a, x0 + b] = visibility[y0 + a, x0 + b] = np.nan
            for k in range(NODES * NODES):
                ky, kx = k // NODES - NODES // 2, k % NODES - NODES // 2
                phase = 2 * (ky & 1) + (kx & 1)
                below, right = v - (ky >> 1), u - (kx >> 1)
                p, q, part = mean[phase], detail[phase], tables[k]
                if plain:
                    cross_sums(
                        frames, p, q, box[0], box[2], below, right, n_rows, n_columns, window, running,
                        products, spare, part,
                    )  # fmt: skip
                    for y in range(n_rows):
                        for m in range(3):
                            row = squares[phase, m, below + y][right : right + n_columns]
                            part[2 + m, y][:n_columns] = row
                else:
                    weighted_sums(
                        masked, p, q, below, right, n_rows, n_columns, window, running, products, spare, part
                    )
            _refine_rows(
                tables, counted[0], best_y, best_x, best_y[i, j], best_x[i, j], model, level, noise, box,
                done, coefficients, shift[:, y0:y1, x0:x1], scale[y0:y1, x0:x1], visibility[y0:y1, x0:x1],
                out_status,
            )  # fmt: skip
