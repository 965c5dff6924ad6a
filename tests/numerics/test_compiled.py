"""Kernels work wherever the package was installed."""

from numba.core import caching

from xmist.numerics.compiled import jit


def _double(number):
    return 2 * number


def test_a_kernel_works_where_nothing_can_be_kept(monkeypatch):
    # As in a container: neither the package nor the home of the user can be written.
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert jit(_double)(3) == 6


def test_a_kernel_is_kept_where_there_is_a_place(monkeypatch, tmp_path):
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(tmp_path))
    assert jit(_double)(3) == 6
    assert list(tmp_path.rglob("*.nbi"))


def test_uncompiled_kernels_are_the_functions_themselves(monkeypatch):
    monkeypatch.setattr(caching.config, "DISABLE_JIT", 1)
    assert jit(_double) is _double
