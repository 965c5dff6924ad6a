"""Implicit methods: the transport equation solved one pixel at a time, or by transforms."""
