"""Window matching methods: `umpa` and `xsvt`."""
