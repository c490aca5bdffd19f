"""Credentials for schemathesis: each call shows those that its operation asks for, also when an earlier call has taken them away."""

import json
import os
import urllib.request

import schemathesis

AUTHORITY = "http://" + os.environ["MACHINEID_TEST_AUTHORITY"] + "/api/v1/"
TOKEN = os.environ["MACHINEID_TEST_OPERATOR_TOKEN"]
# What a case has until it is sent: cases are made long before.
PLACEHOLDER = "to-be-shown"
# A success of these ends what the org's key is good for.
ENDS_KEY = ("/org/delete", "/org/execution", "/org/keys/rotate", "/org/keys/revoke")
shown = {"key": None}


def operate(path, body, token=TOKEN):
    request = urllib.request.Request(AUTHORITY + path, json.dumps(body).encode(), {"Authorization": "Bearer " + token})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@schemathesis.auth(refresh_interval=None)
class Credentials:
    def get(self, case, context):
        return PLACEHOLDER

    def set(self, case, data, context):
        schemes = {name for alternative in case.operation.definition.raw.get("security", []) for name in alternative}
        if "orgKey" in schemes:
            case.headers["x-org-key"] = data
        elif "operatorToken" in schemes:
            case.headers["Authorization"] = "Bearer " + data


@schemathesis.hook
def before_call(context, case, kwargs):
    headers = case.headers or {}
    if headers.get("Authorization") == "Bearer " + PLACEHOLDER:
        headers["Authorization"] = "Bearer " + TOKEN
    if headers.get("x-org-key") == PLACEHOLDER:
        if shown["key"] is None:
            shown["key"] = operate("operator/orgs", {"planTier": "max"})["orgApiKey"]
        headers["x-org-key"] = shown["key"]


@schemathesis.hook
def after_call(context, case, response):
    path = case.operation.path
    if path.endswith("/token/rotate") and response.status_code in (200, 202):
        operate("operator/token/rotate", {"token": TOKEN}, json.loads(response.request.body)["token"])
    elif path.endswith(ENDS_KEY) or response.status_code == 401:
        shown["key"] = None
