"""Ours beside the public package machineid-io, which comes from PyPI."""
