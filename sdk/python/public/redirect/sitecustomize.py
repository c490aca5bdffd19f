"""Has programs that are written for the hosted service ask MACHINEID_TEST_EDGE instead, unmodified; nothing else is asked by requests."""

import os

try:
    import requests
except ImportError:
    pass
else:
    HOSTED = "https://machineid.io/"
    real = requests.Session.request

    def request(session, method, url, *args, **options):
        if not url.startswith(HOSTED):
            raise RuntimeError(f"this test asks nobody else: {url}")
        return real(session, method, os.environ["MACHINEID_TEST_EDGE"] + "/" + url[len(HOSTED):], *args, **options)

    requests.Session.request = request
