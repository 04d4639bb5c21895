"""Tests mirror the rooms: tests/<room>/test_<module>.py. Real servers come from `tests.servers`."""
