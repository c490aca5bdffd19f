"""The tests of the Python client: python3 -m unittest discover -s tests -t . (in sdk/python; standard library only)."""
