"""Settings that hold for all tests."""

from hypothesis import HealthCheck, settings

# The same examples every time, and no limit that a busy machine misses.
# `--hypothesis-profile=explore` draws new ones.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")
