"""Has programs that are written for the hosted service ask MACHINEID_TEST_EDGE instead, unmodified; nothing else is asked by requests.

MACHINEID_TEST_STAND_INS are modules that stand for frameworks: whatever is taken from them can be called, and what would ask a model is only noted.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types

try:
    import requests
except ImportError:
    pass
else:
    HOSTED = "https://machineid.io/"
    real = requests.Session.request

    def request(session, method, url, *args, **options):
        edge = os.environ["MACHINEID_TEST_EDGE"]
        if url.startswith(HOSTED):
            url = edge + "/" + url[len(HOSTED):]
        if not url.startswith(edge + "/"):
            raise RuntimeError(f"this test asks nobody else: {url}")
        return real(session, method, url, *args, **options)

    requests.Session.request = request


class StandIn(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(name)

    def __call__(self, *args, **options):
        if self.__name__ in ("kickoff", "invoke", "run"):
            print("MODEL CALL")
        return StandIn("made")

    def __or__(self, other):
        return StandIn("chain")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    names = os.environ.get("MACHINEID_TEST_STAND_INS", "").split()

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self.names else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
