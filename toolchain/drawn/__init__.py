"""Drawn pets: pictures made by code, for the demo and the tests."""
